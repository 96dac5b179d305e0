"""A trained network is cut, written into a run folder of its own if that was asked for, and fine-tuned there."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from howdeep.analysis.effects import Effect
from howdeep.analysis.study import SplitBatches
from howdeep.chain import Chain
from howdeep.convert import Unravelled
from howdeep.cutting.cut import cut, named_units, require_fewer
from howdeep.cutting.first import KEPT, POOLED, First, FirstUnits, or_gaps
from howdeep.cutting.frontier import Frontier, answers_of, effect_between, errors_of, logits_of
from howdeep.cutting.images import Images, cut_images, split_batches
from howdeep.cutting.int8 import in_int8
from howdeep.cutting.options import CutOptions
from howdeep.cutting.records import Cut, InInt8, Test
from howdeep.data import Dataset, Split, augmentation_record
from howdeep.data.recorded import recorded
from howdeep.data.sampling import sample, trainable
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.folder import provenance
from howdeep.runs.listing import CUT
from howdeep.runs.resume import UNCHANGING, Journal, files_of, options_key, require_same, work_key
from howdeep.runs.target import Target, data_of, note_doubt, open_data_for, required_normalization
from howdeep.runtime import device as devices
from howdeep.runtime.precision import Arithmetic, best_of, place
from howdeep.runtime.process import stopped
from howdeep.runtime.timing import fastest_threads, threads_of
from howdeep.survival import Survival
from howdeep.training.config import TrainConfig
from howdeep.training.loop import train
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.training.state import Position
from howdeep.transform.truncation import averages, require_point
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
from howdeep.util.records import from_json, read_from, tagged, to_json
from howdeep.util.text import Report

PURPOSES = {
    "calibration": "units are chosen on",
    "evaluation": "errors are measured on",
    "statistics": "norm statistics are those of",
}
FINE_TUNED_WITH = ("data", "epochs", "lr", "flip", "skip_broken", "device", "precision", "threads")
"""Options of a cut that are those of its fine-tuning."""
BUDGETS = ("latency_budget", "units", "macs", "error_increase", "remove")
"""Options that a key holds as the numbers that they are."""


def cut_target(
    target: Target,
    options: CutOptions,
    *,
    beside: Path | None = None,
    report: Report,
    console: Console,
    progress: Report = lambda _: None,
) -> tuple[Cut, dict, Journal]:
    """Cut a trained network, write it into a run folder if that was asked for, and fine-tune it there.

    Args:
        target: The network.
        options: How.
        beside: File beside which finished steps are kept where there is no run folder; None keeps nothing.
        report: Receives remarks.
        console: Where the lines of the fine-tuning go, and a progress bar if it is a terminal.
        progress: Receives what is being done, in a few words, many times; a KeyboardInterrupt that it raises stops.

    Returns:
        What was done, the record of it with where it comes from, and the journal, to be removed once the record is
        written.

    Raises:
        UserError: The options, the data or the folder are not usable, no cut holds the budget, or a unit cannot go.
        Stopped: An interrupt arrived; the same command resumes.
    """
    device, out, beside = devices.pick(options.device), options.out, options.out or beside
    if out is None or not (out / CUT).is_file():
        # Before the data are read, which can take minutes.
        _check_free(out)
        named_units(target.chain, options.remove or ())
        require_fewer(target.chain, options.units)
        if isinstance(options.first, int):
            require_point(target.chain, options.first)
        if options.epochs and isinstance(target.chain, Unravelled) and target.chain.modes.refusal:
            raise UserError(f"--epochs {options.epochs:g} is not allowed: {target.chain.modes.refusal}")
    with stopped(
        "the same command resumes" if beside else "with --out RUN or --json FILE the same command would resume"
    ):
        progress("reading the data")
        own, data = options.first is None, data_of(target, options.data)
        options = replace(options, data=data)  # which the fine-tuning reads again
        dataset = open_data_for(target, data, skip_broken=options.skip_broken, same_classes=own, report=report)
        dataset = dataset if own else trainable(dataset)
        if own:
            note_doubt(target, options.split, report)
        splits = [dataset.train, dataset.validation, dataset.test]
        key = work_key(asked(options), device, target=target, splits=splits)
        if out is not None and (out / CUT).is_file():
            with read_from(out / CUT, "name another --out"):
                record = json.loads((out / CUT).read_bytes())
                require_same(out, record["key"], key)
                cut = from_json(Cut, record)
            report(f"{out} is finished; nothing to do")
            return cut, record, Journal(beside)
        journal = Journal.open(beside, key)
        cutting = _Cutting(target, options, dataset, device, journal, console, progress)
        result = cutting.result()
    origin = {"target": target.name, "data": data, "split": options.split, "key": key, **provenance(device)}
    samples = {purpose: to_json(sample) for purpose, sample in cutting.images.samples.items()}
    more = {"kept": result.kept, **origin, "data_notes": dataset.notes, "samples": samples}
    record = tagged("cut", {**to_json(result), **more})
    if out is not None:
        write_whole(out / CUT, runs.as_json(record))
    return result, record, journal


def asked(options: CutOptions) -> dict[str, Any]:
    """Return the options that numbers depend on; units may be named in any order."""
    rest = options_key(options, CutOptions, without=(*UNCHANGING, *BUDGETS))
    return {"--budget": options.budget, "--remove": sorted(options.remove or ()), **rest}


def _check_free(out: Path | None) -> None:
    """Refuse a folder that is neither free nor the unfinished cut of this very command.

    Raises:
        UserError: It is something else.
    """
    if out is None or (files_of(out) and runs.is_run(out)):
        return
    if runs.is_run(out):
        raise UserError(f"--out {out} is a run already; nothing was changed, name another")
    runs.check_free(out)


@dataclass(frozen=True)
class _Cutting:
    """One cut: the network, the images, and where finished steps are kept."""

    target: Target
    options: CutOptions
    dataset: Dataset
    device: torch.device
    journal: Journal
    console: Console
    progress: Report

    @cached_property
    def original(self) -> Chain:
        """The network before the cut."""
        return self._placed(self.target.chain)

    @cached_property
    def images(self) -> Images:
        """What the cut is measured on."""
        return cut_images(self.target, self.options, self.dataset, self.device)

    @cached_property
    def first(self) -> First:
        """The first units, and the whole network, under new classifiers."""
        assert self.options.first is not None
        dataset, seed = self.dataset, self.options.seed
        work = FirstUnits(
            chain=self.original,
            images=self.images,
            train=lambda count: self._batches(sample(dataset.split("train"), count, seed)),
            classes=len(dataset.classes),
            budget=self.options.budget,
            where=self.options.where,
            seed=seed,
            journal=self.journal,
            console=self.console,
            progress=self.progress,
        )
        return work.result(self.options.first)

    @cached_property
    def frontier(self) -> Frontier:
        """The network that others are compared with, and those that are it without some of its units."""
        whole = self.original if self.options.first is None else self.first.whole
        return Frontier(whole, self.images, self.journal)

    def result(self) -> Cut:
        """Cut, write and fine-tune, and read the test split once."""
        options, first = self.options, self.images.calibration[0].images
        fastest = partial(fastest_threads, self.original, lambda: first, options.threads, self.device)
        threads = self.journal.result("threads", fastest)
        with threads_of(threads):
            result = (
                self._cut(self.original) if options.first is None else or_gaps(self.first, options.budget, self._cut)
            )
        notes = [f"{PURPOSES[purpose]} {sample}" for purpose, sample in self.images.samples.items()]
        if self.dataset.train is None:
            notes.append("no training images: statistics are those of the calibration")
        result = replace(result, notes=(*result.notes, *notes))
        if result.chosen is None:
            return result
        smaller = result.chain
        assert smaller is not None
        if options.out is not None:
            self.progress("writing the run folder")
            run = self._run(options.out, smaller, result)
            if self.config is None:
                smaller = self._network_of(run)
            else:
                smaller, tuning = self._fine_tune(self.config, run, smaller)
                result = replace(result, **tuning)
        with threads_of(threads):
            return self._with_int8(replace(result, chain=smaller, test=self._tested(smaller)), smaller)

    def _with_int8(self, result: Cut, smaller: Chain) -> Cut:
        """Return a cut with what it and the uncut network are in int8, where they are to run as ONNX."""
        where, frontier = self.options.where, self.frontier
        if where.runtime == "torch":
            return result
        self.progress("measuring in int8")
        try:
            found = self.journal.result(
                "int8", lambda: [to_json(one) for one in in_int8(frontier, smaller, frontier.answers(), where)]
            )
        except UserError as error:
            return replace(result, notes=(*result.notes, f"not tried in int8: {error}"))
        return replace(result, int8=tuple(from_json(InInt8, one) for one in found))

    def _cut(self, chain: Chain) -> Cut:
        options = self.options
        return cut(
            chain,
            self.images,
            budget=options.budget,
            remove=options.remove or (),
            where=options.where,
            precision=options.precision,
            journal=self.journal,
            console=self.console,
            progress=self.progress,
        )

    @cached_property
    def config(self) -> TrainConfig | None:
        """The options of the fine-tuning; None where there is none."""
        target = self.target
        if not self.options.epochs:
            return None
        network = target.network or {}
        assert target.resize in ("crop", "pad", "squash")
        return TrainConfig(
            network=network.get("library", network.get("name", target.name)),
            size=target.side,
            resize=target.resize,
            seed=target.seed,
            recipe="finetune",
            norm_statistics="frozen",
            **{name: getattr(self.options, name) for name in FINE_TUNED_WITH},
        )

    def _run(self, out: Path, smaller: Chain, result: Cut) -> runs.Run:
        """Return the run folder with the weights of the cut network; what is there already stays."""
        if runs.is_run(out):
            run = runs.open_run(out)
        else:
            earlier = self.target.run.images() if self.target.run else None
            run = runs.create(out, self._record(smaller, result), recorded(self.dataset).after(earlier))
        if not checkpoints.list_checkpoints(run.checkpoints):
            tensors = {"weights": smaller.state_dict()}
            checkpoints.save(run.checkpoints, 0, tensors=tensors, state=Position().to_json())
        return run

    def _record(self, smaller: Chain, result: Cut) -> dict:
        """Return what the run folder says: how the network is built again, and how it is trained on."""
        target, dataset, config = self.target, self.dataset, self.config
        if target.network is None:
            raise UserError(f"--out is not allowed for {target.name}: nothing says how to build it again")
        more = {"cut_from": target.name, "removed": removed_of(target, result), "seed": target.seed}
        more |= {"first": first} if (first := first_of(target, result, smaller)) else {}
        folded = target.run.record.get("folded") if target.run else None
        if isinstance(rule := target.chain.rule, Survival) and rule.random:
            folded = asdict(rule)
        more |= {"folded": folded} if folded else {}
        if config is not None:
            recipe = config.resolved_recipe()
            # The arithmetic that was asked for, or the fastest correct one here.
            trials = trials_of(config, TrainingSteps(smaller, batch_shape(recipe, dataset), recipe, self.device))
            more |= {
                "config": config.to_json(),
                "recipe": asdict(recipe),
                "augmentation": augmentation_record(dataset, config.augmentation, config.flip),
                "choices": {"chosen": best_of(trials).choice, "trials": [asdict(trial) for trial in trials]},
            }
        return runs.record_of(
            spec={**target.network, "classes": len(dataset.classes)},
            survival=Survival(),
            data=runs.data_record(dataset, source=str(self.options.data), resize=target.resize, crop=target.crop),
            normalization=required_normalization(target),
            where=self.device,
            more=more,
        )

    def _fine_tune(self, config: TrainConfig, run: runs.Run, smaller: Chain) -> tuple[Chain, dict[str, Any]]:
        """Train the cut network on and keep the best epoch where it helps; return it, and its part of the record."""

        @cache
        def better() -> Chain:
            trained = self._network_of(run)

            def measured() -> dict:
                best = checkpoints.newest(run.best, lambda _: None)
                networks = (lambda: smaller, lambda: trained)
                (_, tuned), kept = self.frontier.effects(networks, self.frontier.answers())
                return {"tuned": to_json(tuned), "tuned_epoch": best and best.state["epoch"], "tuned_kept": kept == 1}

            if self.journal.result("fine-tuning", measured)["tuned_kept"]:
                return trained
            checkpoints.save_only(run.best, 0, tensors={"weights": smaller.state_dict()}, state={"epoch": 0.0})
            return self._network_of(run)

        train(config, run.path, console=self.console, dataset=self.dataset, chosen=better)
        kept = better()  # a training that had ended before did not ask
        tuning = self.journal.steps["fine-tuning"]
        return kept, {**tuning, "tuned": from_json(Effect, tuning["tuned"]), "epochs": self.options.epochs}

    def _tested(self, smaller: Chain) -> Test | None:
        """Return how the networks before and after the cut do on the test split.

        None where there is none, or units were chosen on it already.
        """
        if self.dataset.test is None or self.options.split == "test":
            return None
        batches = self._batches(self.dataset.test)
        self.progress("measuring the cut network")
        before = answers_of(self.frontier.whole.chain, batches)
        after = logits_of(self.frontier.folded(smaller), batches)
        return Test(original=errors_of(before), cut=effect_between(after, before))

    def _batches(self, split: Split) -> SplitBatches:
        return split_batches(self.target, self.options, split, self.device)

    def _network_of(self, run: runs.Run) -> Chain:
        """Return the network that a run folder stands for."""
        return self._placed(run.chain(self.console.print))

    def _placed(self, chain: Chain) -> Chain:
        return place(chain, Arithmetic("fp32", "channels_last"), self.device)


def removed_of(target: Target, result: Cut) -> list[int]:
    """Return all units that are out of the network that a run folder builds, counted from 0; earlier cuts included.

    Those behind its first units are not: the network ends there.
    """
    out = {removal.index - 1 for removal in result.order[: result.chosen] if result.head is None}
    left = [index for index in range(len(target.chain) + len(target.removed)) if index not in target.removed]
    return sorted([*target.removed, *(index for number, index in enumerate(left) if number in out)])


def first_of(target: Target, result: Cut, smaller: Chain) -> dict | None:
    """Return behind how many units the network of a run folder ends, and under which head; None where it does not."""
    if result.head is None and (target.run is None or "first" not in target.run.record):
        return None
    features = averages(smaller)
    head = {"head": KEPT} if features is None else {"head": POOLED, "features": features}
    return {"units": len(smaller), **head}
