"""Published networks are probed at every depth, in equal time, on the same validation images."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial

import torch
from rich.console import Console

from howdeep.analysis.depths import Probe
from howdeep.analysis.evaluation import fingerprint
from howdeep.analysis.probe import probe
from howdeep.data import augmentation_line
from howdeep.data.sampling import sample
from howdeep.runs.resume import Journal
from howdeep.runtime import device as devices
from howdeep.runtime.timing import Timing, threads_of
from howdeep.search.entrants import PROBE, Entrant
from howdeep.search.finalists import Candidate, guessing_percent
from howdeep.search.options import FitOptions, require_asked
from howdeep.search.phases import Clock
from howdeep.search.sharing import Images, Speed, ending, images_of
from howdeep.search.transfer import Missed, Probed, Start
from howdeep.util.errors import UserError
from howdeep.util.intervals import of_share
from howdeep.util.records import from_json, to_json
from howdeep.util.text import Report, counted, seconds_text

QUIET = Console(quiet=True)


@dataclass(frozen=True)
class Probing:
    """Every network that a search is asked for; a step that is finished is not done again.

    Args:
        options: What is asked.
        everyone: The networks, for every size of the images.
        clock: The time that was used; its journal keeps the steps.
        report: Receives a line per network and step.
    """

    options: FitOptions
    everyone: Sequence[Entrant]
    clock: Clock
    report: Report

    @property
    def journal(self) -> Journal:
        """The finished steps."""
        return self.clock.journal

    @property
    def budget(self) -> float:
        """Seconds of everything."""
        return self.options.budgets.train_seconds

    @cached_property
    def device(self) -> torch.device:
        """Where."""
        return devices.pick(self.options.device)

    @property
    def classes(self) -> int:
        """Classes of the data."""
        return len(self.everyone[0].dataset.classes)

    def entrant(self, start: Start | Probed) -> Entrant:
        """Return the network of a start, to be opened."""
        return next(one for one in self.everyone if (one.network, one.size) == (start.network, start.size))

    @property
    def there(self) -> Images:
        """Images that there are."""
        data = self.everyone[0].dataset
        return Images(len(data.split("train")), len(data.split("val")))

    @cached_property
    def images(self) -> Images:
        """On how many images networks are probed.

        Raises:
            UserError: Time is too short for the fewest.
        """
        speeds = self._speeds_by_network
        if "images" not in self.journal.steps:
            found = images_of(self.budget, self.clock.spent, speeds, self.there, self.classes, self._test_images)
            if not isinstance(found, Images):
                raise UserError(
                    f"--train-budget {self.options.train_budget} is not allowed: it is too short to probe and to test"
                    f" {counted(len(self.speeds), 'network')}; the smallest that works here is {math.ceil(found)}s"
                )
            self.journal.note("images", asdict(found))
        return from_json(Images, self.journal.steps["images"])

    # --- who takes part

    @cached_property
    def dropped(self) -> tuple[Missed, ...]:
        """Those of which no depth meets the budgets, as the stem alone does not."""
        missed = [self._missed(entrant) for entrant in self.everyone]
        return tuple(one for one in missed if one is not None)

    @cached_property
    def entrants(self) -> list[Entrant]:
        """Those that are compared."""
        left_out = {(one.network, one.size) for one in self.dropped}
        return [one for one in self.everyone if (one.network, one.size) not in left_out]

    def _missed(self, entrant: Entrant) -> Missed | None:
        budgets = self.options.budgets
        if budgets.latency_seconds is None and budgets.parameters is None:
            return None
        stem = self.journal.result(f"stem of {entrant.text}", lambda: _as_stem(*entrant.stem(self.device)))

        def missed(budget: str, reason: str, needed: float) -> Missed:
            self.report(f"  {entrant.text}: left out, {budget} budget: its stem alone {reason}")
            who = {"network": entrant.network, "size": entrant.size}
            return Missed(**who, budget=budget, reason=f"its stem alone {reason}", needed=needed)

        if budgets.parameters is not None and stem["parameters"] > budgets.parameters:
            return missed("parameters", f"has {stem['parameters']:,}", stem["parameters"])
        if budgets.latency_seconds is not None and stem["ms"] > 1000 * budgets.latency_seconds:
            return missed("latency", f"takes {stem['ms']:.3g} ms", stem["ms"])
        return None

    @cached_property
    def speeds(self) -> dict[str, Speed]:
        """How fast every network that takes part reads images."""
        self.report(augmentation_line(self.everyone[0].dataset, flip=self.options.flip))
        if not self.entrants:
            least = min(self.dropped, key=lambda one: (one.budget, one.needed))
            told = f"{least.needed:.3g}ms" if least.budget == "latency" else f"{least.needed:,.0f}"
            asked = getattr(self.options, f"{least.budget}_budget")
            least_of = f"{least.network} at {least.size}, the smallest, needs {told} here"
            raise UserError(f"--{least.budget}-budget {asked} is not allowed: {least_of}")
        speeds = {}
        for one in self.entrants:
            found = self.journal.result(f"speed of {one.text}", lambda one=one: asdict(one.speed(self.device)))
            speeds[one.text] = from_json(Speed, found)
            self.report(
                f"  {one.text}: {len(one.target.chain)} units, {1000 * speeds[one.text].seconds_per_image:.3g} ms to"
                " read an image"
            )
        return speeds

    def speed(self, one: Probed) -> Speed:
        """Return how fast a network that was probed reads images."""
        return self.speeds[one.text]

    @property
    def ending(self) -> float:
        """Seconds that the answer takes after the trainings."""
        return ending(self._speeds_by_network, self.images.training, self._test_images)

    @property
    def _speeds_by_network(self) -> dict[str, list[Speed]]:
        known, speeds = self.speeds, {}
        for one in self.entrants:
            speeds.setdefault(one.network, []).append(known[one.text])
        return speeds

    @property
    def _test_images(self) -> int:
        return len(self.everyone[0].dataset.split("test"))

    def begin(self) -> None:
        """Decide what can be probed: from here on the options are those of this search.

        Raises:
            UserError: They are others than before; or nothing can be probed, of which no step stays.
        """
        asked, where = self.options.asked(), str(self.options.out)
        if "asked" in self.journal.steps:
            require_asked(self.journal.steps["asked"], self.options, where)
            return
        self._forget()
        try:
            _ = self.images
        except UserError:
            self._forget()
            raise
        self.journal.note("asked", asked)

    def _forget(self) -> None:
        """Leave nothing of a search that was not begun: the next one may have other options."""
        self.clock.excuse(self.clock.spent)
        self.journal.steps.clear()
        self.journal.remove()

    # --- probing

    def probed(self) -> list[Probed]:
        """Return every network at every depth.

        Raises:
            UserError: No network meets the budgets, or time is too short to probe them.
        """
        images, probed = self.images, []
        self.report(f"probing on {images.training:,} training images and {images.validation:,} of validation:")
        for one in self.entrants:
            found = self.journal.result(f"probe of {one.text}", partial(self._probe, one))
            probed.append(from_json(Probed, found))
            self.report(_probe_line(probed[-1]))
            self.clock.save()
        return probed

    def _probe(self, one: Entrant) -> dict:
        started = self.clock.spent
        found = self.probe(one)
        seconds = self.clock.spent - started
        return to_json(Probed(network=one.network, size=one.size, probe=found, seconds=seconds))

    def probe(self, one: Entrant, *, test: bool = False) -> Probe:
        """Return a network at every depth; the test split is read only where that is asked for."""
        kept = replace(Journal.open(one.folder / PROBE, {}), console=QUIET)
        shown = one.batches("val", self.images.validation, self.device)
        with threads_of(self.speeds[one.text].threads):
            return probe(
                one.target.chain,
                one.batches("train", self.images.training, self.device),
                shown,
                one.batches("test", None, self.device) if test else None,
                classes=self.classes,
                images=fingerprint(shown.split),
                where=self.options.where,
                seed=self.options.seed,
                journal=kept,
            )

    def require_better_than_guessing(self, lowest: Candidate) -> None:
        guessing, n = self.guessing, lowest.probed.probe.n
        if of_share(lowest.error, n).high >= guessing:
            raise UserError(
                f"nothing can be recommended: the lowest error before training is {lowest.error:.1f} % (n = {n:,}), and"
                f" always saying the most frequent class has {guessing:.1f} %: more images, or other networks"
            )

    @property
    def guessing(self) -> float:
        """Validation error of who always says the most frequent class."""
        one = self.entrants[0]
        taken = sample(one.dataset.split("val"), self.images.validation, self.options.seed)
        return guessing_percent(taken.labels.tolist())


def _as_stem(latency: Timing, parameters: int) -> dict:
    return {"ms": latency.median_ms, "parameters": parameters}


def _probe_line(one: Probed) -> str:
    best, end = Candidate(one, one.probe.lowest), one.probe.end
    found = f"lowest error {best.error:.1f} % with {best.start.depth} ({best.ms:.3g} ms)"
    whole = f", whole {end.fitted.error_percent:.1f} % ({end.latency.median_ms:.3g} ms)"
    return f"  {one.text}: {found}{'' if best.depth.whole else whole}; {seconds_text(one.seconds)}"
