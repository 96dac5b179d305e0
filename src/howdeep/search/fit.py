"""How deep, how wide? Costs are measured, networks compete in equal time, the best is trained: the answer."""

import socket
import time
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import optuna
import torch
from rich.console import Console

from howdeep.analysis.evaluation import standard_error_percent
from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.data import Dataset, augmentation_line
from howdeep.data.recorded import recorded
from howdeep.deploying.latency import latencies
from howdeep.runs import folder as runs
from howdeep.runtime import device as devices
from howdeep.runtime.timing import Timing
from howdeep.search.answer import RUNS, Candidate, FinalError, Verdict, verdict
from howdeep.search.answered import answered, write_answer
from howdeep.search.candidates import Candidates, Dropped, measure_candidates
from howdeep.search.finalists import guessing_percent
from howdeep.search.options import Budgets, FitOptions, require_asked
from howdeep.search.phases import Clock, Trainer
from howdeep.search.published import published
from howdeep.search.sides import side_of
from howdeep.search.storage import Watch, open_study, pulse
from howdeep.search.study import (
    POLL_SECONDS,
    Entry,
    RoundResult,
    Search,
    enlist,
    enter,
    first_entered,
    held_networks,
    owner_now,
    round_ends,
    take_over,
    trials_in_order,
)
from howdeep.search.transfer import Transfer
from howdeep.training.config import TrainConfig
from howdeep.training.images import open_training_data
from howdeep.training.log import print_line
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
from howdeep.util.records import Shown, from_json, to_json
from howdeep.util.text import Report, counted


@dataclass(frozen=True)
class Fit(Shown):
    """The answer to how deep, with its evidence."""

    network: str
    """The network that is recommended."""
    family: str
    """Its family."""
    depth: int
    """Its layers."""
    width: int
    """Its width, as a factor on the channels that the family's paper has."""
    run: str
    """Its run folder."""
    validation_error_percent: float
    """By which it was chosen: optimistic, as the best of several."""
    validation_standard_error: float
    """Of that error, in percent."""
    validation_images: int
    """Images behind it."""
    test: FinalError | None
    """The test error; None where the data has no test split."""
    latency: Timing
    """One image, norms folded, fp32; measured on the trained network."""
    final: RoundResult
    """The end of its training."""
    spent_seconds: float
    """Time that all of this took here."""
    budgets: Budgets
    """What was allowed."""
    verdict: Verdict
    """Why not larger, why not smaller."""
    candidates: tuple[Candidate, ...]
    """All networks that took part."""
    dropped: tuple[Dropped, ...]
    """Those that did not, and why."""
    precision: str
    """Arithmetic of training."""
    notes: tuple[str, ...]
    """Decisions on the data."""

    def end_of(self, candidate: Candidate) -> RoundResult | None:
        """Return how far a network has come: the chosen one in its final training, another in its last round."""
        if candidate.costs.network == self.network:
            return self.final
        return candidate.rounds[-1] if candidate.rounds else None

    @property
    def size(self) -> str:
        """Its layers, and its width where there was more than one: 14 layers, width 4."""
        widths = {1, self.width, *(one.costs.width for one in self.candidates)}
        return f"{self.depth:,} layers" + f", width {self.width}" * (len(widths) > 1)

    @property
    def chain(self) -> Chain:
        """The network that is recommended, trained, read from its run folder."""
        return runs.load(self.run)


STEPS, STUDY = "steps", "study.db"
PLAN, PLANNER = "plan", "planner"
SILENT_SHARE, SHORTEST_SILENCE, LONGEST_SILENCE = 0.1, 4.0, 60.0
"""Share of the training budget, and seconds, after which a process that gives no sign of life counts as dead."""
PHOTOS = 96
"""Side in pixels from which images are told to be photos."""
PUBLISHED = (
    "these look like photos: networks that begin with published weights usually get half as many wrong;"
    " --from timm:NAME with --weights FILE or --pretrained"
)
"""What is said of them."""


def fit(options: FitOptions, *, console: Console | None = None, since: float | None = None) -> Fit | Transfer | None:
    """Return how deep and how wide a network should be for some data and budgets, and train it.

    Where published networks are named, it is one of them (see :mod:`howdeep.search.published`).

    Args:
        options: What is asked.
        console: Where lines and progress go; None is standard error.
        since: When the time of all this began, by ``time.perf_counter()``; None is now.

    Returns:
        The answer, which is also written to ``answer.json`` in the folder; None where another process of the same
        study trains the chosen network.

    Raises:
        UserError: An option or the data is not usable, another process writes there, or no network meets the budgets;
            the least that would do is named.
        Stopped: A signal arrived; the same options resume.
    """
    if options.published:
        return published(options, console=console, since=since)
    console = console or Console(stderr=True)
    report: Report = partial(print_line, console)

    def search(clock: Clock) -> Fit | None:
        return _searched(options, clock, report)

    return answered(Fit, options, STEPS, console, lambda: _opened(options), search, since)


def _searched(options: FitOptions, clock: Clock, report: Report) -> Fit | None:
    """Open the study, and take part in it."""
    dataset, budget = _opened(options), options.budgets.train_seconds
    dataset.split("val")
    if min(dataset.height, dataset.width) >= PHOTOS:
        report(PUBLISHED)

    def side() -> int | None:
        return side_of(options, dataset, budget - clock.spent, devices.pick(options.device))

    if runs.read_images_of(options.out) is None and (smaller := clock.journal.result("side", side)) is not None:
        own = f"{dataset.height}×{dataset.width}"
        report(f"images are read at {smaller}×{smaller}: at {own} time is too short to compare depths; or give --size")
        dataset = _opened(options, smaller)
    images = recorded(dataset)
    write_whole(options.out / runs.IMAGES, images.to_bytes())
    storage = options.storage or f"sqlite:///{options.out / STUDY}"
    study, made = open_study(storage, options.study)
    report(augmentation_line(dataset, flip=options.flip))
    silence = min(max(SHORTEST_SILENCE, SILENT_SHARE * options.budgets.train_seconds), LONGEST_SILENCE)
    # The same after a stop, and nobody else's on any machine.
    name = f"{options.out.resolve()} on {socket.gethostname()}"
    owner = clock.journal.result("owner", lambda: f"{name} ({uuid.uuid4().hex[:8]})")
    with pulse(storage, options.study, owner, silence):
        if made:
            study.set_user_attr(PLANNER, owner)
        return _Part(options, dataset, images.fingerprint, study, owner, silence, clock, report).answer()


def _opened(options: FitOptions, side: int | None = None) -> Dataset:
    """Return the data; those that a fit in this folder was begun with, as it reads them.

    Args:
        options: What is asked.
        side: At which images are read; None leaves it to them, or to the fit.

    Raises:
        UserError: They are not usable, or others.
    """
    known = runs.read_images_of(options.out)
    if known is not None and known.shape[1] == known.shape[2]:
        side = known.shape[1]
    return open_training_data(replace(options.training(1), size=options.size or side), known, options.out)


@dataclass(frozen=True)
class _Part:
    """The part that this process has in a study."""

    options: FitOptions
    dataset: Dataset
    fingerprint: str
    study: optuna.Study
    owner: str
    silence: float
    clock: Clock
    report: Report

    def answer(self) -> Fit | None:
        """Take part in the search; train its winner to the end, or leave that to the process whose it is."""
        candidates, rounds = self._planned()
        budget = self.options.budgets.train_seconds
        folder = self.options.out / RUNS
        once = self._config("fast")
        trainer = Trainer(self._config(), once, folder, self.dataset, self.clock, budget, self.report)
        costs = {one.network: one for one in candidates.networks}
        entries = [Entry(one.family, one.depth, one.width, one.network) for one in candidates.networks]
        enlist(self.study, entries)

        def train_round(entry, done, until):
            return trainer.train_round(costs[entry.network], done, until)

        search = Search(
            self.study, entries, rounds, self.owner, train_round, self.silence, self.report, self.clock.excuse
        )
        chosen, owner = search.winner()
        if owner != self.owner:
            self.report(f"{chosen.network} was chosen; the process with --out {owner} trains it to the end")
            return None
        held = search.held(chosen.network)
        before, phases_done = held.rounds[: held.since], max(0, len(held.rounds) - len(rounds))

        def keep(done):
            search.keep(chosen.network, [*before, *done])

        test = trainer.to_the_end(costs[chosen.network], held.own_rounds, phases_done, keep)
        search.finish(chosen.network)
        return self._written(candidates, chosen, trainer.last_run(chosen.network), test)

    def _config(self, recipe: str = "extendable") -> TrainConfig:
        """Return how networks are trained."""
        images, side = len(self.dataset.split("train")), self.clock.journal.steps.get("side")
        return replace(self.options.training(images, recipe), size=self.options.size or side)

    def _planned(self) -> tuple[Candidates, tuple[float, ...]]:
        """Return who takes part and how long the rounds are: measured by one process for all, first by the maker."""
        options, dataset, watch = self.options, self.dataset, Watch(self.study, self.silence)
        while (plan := first_entered(trials := trials_in_order(self.study), PLAN)) is None:
            planner, _ = owner_now(trials, PLAN, self.study.user_attrs.get(PLANNER, ""))
            if planner == self.owner:
                members = options.plane(dataset.height, dataset.width)
                self.report(f"what networks cost here ({counted(len(members), 'network')} in the plane):")
                try:
                    candidates = measure_candidates(
                        self._config(),
                        members,
                        options.budgets,
                        dataset,
                        devices.pick(options.device),
                        options.where,
                        lambda: self.clock.spent,
                        self.report,
                    )
                except UserError:
                    self.clock.excuse(self.clock.spent)  # who asks again with other budgets begins anew
                    raise
                rounds = round_ends(len(candidates.networks), options.budgets.train_seconds - self.clock.spent)
                asked = {"asked": options.asked(), "images": self.fingerprint}
                enter(self.study, {PLAN: {**asked, "candidates": to_json(candidates), "rounds": rounds}})
            elif waited := watch.silent([planner]).get(planner):
                who = planner or "the process that was to measure"
                self.report(f"nothing is heard from {who}: costs are measured here instead")
                self.clock.excuse(waited)
                take_over(self.study, PLAN, planner, self.owner, 0)
            else:
                time.sleep(POLL_SECONDS)
        require_asked(plan["asked"], options, f"study {options.study!r}")
        if plan["images"] != self.fingerprint:
            raise UserError(f"study {options.study!r} belongs to a fit with other images; name another --study")
        return from_json(Candidates, plan["candidates"]), tuple(plan["rounds"])

    def _written(self, candidates: Candidates, chosen: Entry, run: Path, test: dict | None) -> Fit:
        """Return the answer, once it is written."""
        options, dataset, held = self.options, self.dataset, held_networks(self.study)
        rounds = {name: tuple(one.rounds) for name, one in held.items()}
        *rounds_before, last = rounds[chosen.network]
        rounds[chosen.network] = tuple(rounds_before)
        compared = tuple(Candidate(one, rounds[one.network], held[one.network].out) for one in candidates.networks)
        best = next(one for one in compared if one.costs.network == chosen.network)
        images, where = len(dataset.split("val")), devices.pick(options.device)
        error, guessing = last.validation_error_percent, guessing_percent(dataset.split("val").labels.tolist())
        if error >= guessing:
            raise UserError(
                f"nothing can be recommended: the best network, {chosen.network} ({run}), gets {error:.1f} % wrong (n ="
                f" {images:,}), and always saying the most frequent class {guessing:.1f} %: a larger --train-budget, or"
                " more images"
            )
        side = min(dataset.height, dataset.width)
        image = torch.zeros(1, dataset.channels, dataset.height, dataset.width, device=where)
        image = image.contiguous(memory_format=torch.channels_last)
        folded = prepared(runs.open_run(run).chain(lambda _: None), image, precision="fp32", device=where)
        answer = Fit(
            network=chosen.network,
            family=chosen.family,
            depth=chosen.depth,
            width=chosen.width,
            run=str(run),
            validation_error_percent=last.validation_error_percent,
            validation_standard_error=standard_error_percent(last.validation_error_percent / 100, images),
            validation_images=images,
            test=None if test is None else FinalError(test["error_percent"], test["standard_error"], test["n"]),
            latency=latencies([folded.chain], image, options.where)[0],
            final=last,
            spent_seconds=self.clock.spent,
            budgets=options.budgets,
            verdict=verdict(best, last, compared, candidates.dropped, options.budgets, images, side),
            candidates=compared,
            dropped=candidates.dropped,
            precision=best.costs.arithmetic.precision,
            notes=(*dataset.notes, *folded.notes),
        )
        write_answer(answer, options, dataset, where)
        return answer
