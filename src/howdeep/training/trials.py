"""Which statistics norms are given in the training of given weights: short trials; how many units are frozen: by time.

    frozen   norms normalise by the statistics that they were given
    batch    norms normalise by their mini-batch, and their statistics move

Each trial is a whole short cycle of the recipe from the same start, compared on the validation images. Frozen
statistics stay unless those of the mini-batch have fewer errors beyond chance: of 252 photos of waste, with six of nine
units frozen, 17 % were wrong with these after a trial and 19 % without, but 9.1 and 5.6 % after the run (one seed).
Whether training helps at all, and at which rate, no short one tells: 16 steps took the errors on photos of ten signs of
hands from 6 to 41 %, 138 from 12 to 2 %. That the run itself finds out: its start is epoch 0, which stays where no
epoch is better beyond chance. Nor does one tell what frozen units cost: after 46 steps with seven of nine 11 % are
wrong, with none 5 % (n = 208); after 361 with six 0.2 %, with none 0.5 % (n = 411, one seed each). Frozen units are
therefore chosen by time alone.
"""

import copy
import math
import statistics
from dataclasses import dataclass, replace
from typing import Any

import torch

from howdeep.analysis.evaluation import Sums, add_up
from howdeep.chain import Chain
from howdeep.runtime.modes import norms_of
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import race
from howdeep.training.config import TrainConfig
from howdeep.training.feed import Feed
from howdeep.training.optimizers import make_optimizer
from howdeep.training.precision import TrainingSteps
from howdeep.training.recipes import Recipe
from howdeep.training.step import engine_of, gates_of, ready, train_step
from howdeep.util.intervals import of_share
from howdeep.util.seeds import derive
from howdeep.util.text import Report

FEWEST, MOST = 40, 128
"""Steps of a trial. In fewer, what a step destroys is not learned again; more cost more than they say."""
SHARE = 8
"""A trial takes an eighth of the run's steps, two a quarter. A run too short for that goes without."""
FROZEN_STEP = 0.45
"""Share of the whole network's step that a step of ``--freeze auto`` takes at most: with trials, a pass over the images
for the classifier and those for validation, which take as long as ever, a run then takes about 0.6 of the time."""


@dataclass(frozen=True)
class Tried:
    """A short training and what it led to."""

    recipe: Recipe
    """Settled."""
    steps: int
    sums: Sums
    """On the validation images; the loss is infinite where training diverged."""

    def to_json(self) -> dict:
        """Return it as plain data."""
        error, n, loss = self.sums.error_percent, self.sums.images, self.sums.mean_loss
        low, high = of_share(error, n)
        measured = {"steps": self.steps, "n": n, "error_percent": error, "low": low, "high": high}
        return {**self.recipe.choice, **measured, "loss": loss if math.isfinite(loss) else None}

    def line(self, verdict: str) -> str:
        """Return it as a row of a table."""
        error, recipe = self.sums.error_percent, self.recipe
        low, high = of_share(error, self.sums.images)
        what = f"{recipe.norm_statistics} statistics" + (f", {recipe.freeze} units frozen" if recipe.freeze else "")
        interval = f"({low:.1f} to {high:.1f})"
        return f"  {what:34} {error:5.1f} %  {interval:14} loss {self.sums.mean_loss:.3g}{verdict}"


def chosen(frozen: Tried, batch: Tried) -> Tried:
    """Return that with frozen statistics, unless the other has fewer errors than the whole 95 % interval of its own."""
    low, _ = of_share(frozen.sums.error_percent, frozen.sums.images)
    return batch if batch.sums.error_percent < low else frozen


@dataclass(frozen=True)
class Trials:
    """Short trainings of copies of a network from the same start; the network is left as it is."""

    chain: Chain
    """On the device, with the rule for its gates, as the run begins."""
    recipe: Recipe
    """With ``auto`` where trials decide."""
    feed: Feed
    config: TrainConfig
    """For everything that the recipe does not say."""
    ranks: Ranks
    device: torch.device
    arithmetic: Arithmetic
    total: int
    """Steps of the run."""

    @property
    def steps(self) -> int:
        """Steps of a trial; 0 where the run is too short for trials, or nothing would tell which is better."""
        share = self.total // SHARE
        return min(MOST, share) if share >= FEWEST and self.feed.validation() is not None else 0

    def settle(self, report: Report) -> dict:
        """Return what the recipe's ``auto`` is, under ``chosen``, and what was measured for that.

        Args:
            report: Receives a table of the trials.
        """
        recipe = self.recipe.settled(given=True)
        record: dict[str, Any] = {}
        if recipe.tune == "classifier":
            return {"chosen": recipe.choice}
        timed = self._timed(report)
        if timed is not None:
            recipe, record["freeze"] = replace(recipe, freeze=timed["units"]), timed
        if self.recipe.norm_statistics == "auto" and norms_of(self.chain):
            if self.steps:
                report(f"trials of {self.steps} steps from the same start, validation error with 95 % interval:")
                tried = [self._of(replace(recipe, norm_statistics=kind)) for kind in ("frozen", "batch")]
                found = chosen(*tried)
                for one in tried:
                    report(one.line("  selected" if one is found else ""))
                recipe, record["trials"] = found.recipe, [one.to_json() for one in tried]
            else:
                short = f"a run of {self.total} steps is too short for trials"
                why = "no trials without validation images" if self.feed.validation() is None else short
                report(f"{why}: norm statistics are {recipe.norm_statistics}")
        return {"chosen": recipe.choice, **record}

    def _of(self, recipe: Recipe) -> Tried:
        """Return what a short training leads to."""
        chain, config, ranks = copy.deepcopy(self.chain), self.config, self.ranks
        frozen = config.dropped == "frozen"
        ready(chain, recipe)
        optimizer = make_optimizer(chain, recipe, frozen=frozen)
        engine = engine_of(chain, config.checkpointing, ranks)
        for step, batch in enumerate(self.feed.training(0, self.steps)):
            torch.manual_seed(derive(config.seed, "dropout", step, ranks.rank))
            train_step(
                engine,
                optimizer,
                batch,
                gates_of(chain, recipe, batch, ranks, seed=config.seed, step=step),
                lr=recipe.schedule.at(step, self.steps),
                smoothing=recipe.label_smoothing,
                arithmetic=self.arithmetic,
                share=len(batch.labels) * ranks.world / batch.total,
                frozen=frozen,
                clip=recipe.clip,
            )
        ranks.copy_buffers(chain)
        sums = add_up(chain, self.feed.validation() or (), autocast=self.arithmetic.autocast(self.device))
        images, wrong, loss = ranks.sums([sums.images, sums.wrong, sums.loss])
        return Tried(recipe, self.steps, Sums(int(images), int(wrong), loss if math.isfinite(loss) else math.inf))

    # --- how many units are frozen

    def _timed(self, report: Report) -> dict | None:
        """Return how many units are frozen and what that saves, as measured; None for none."""
        asked = self.recipe.freeze
        if asked == 0:
            return None
        if asked != "auto":
            found = self._race(asked)
        else:
            low, high, found = 1, len(self.chain), None
            while low <= high:  # a step takes the less, the more units are frozen
                middle = (low + high) // 2
                timed = self._race(middle)
                if timed["seconds"] <= FROZEN_STEP * timed["whole_seconds"]:
                    high, found = middle - 1, timed
                else:
                    low = middle + 1
            if found is None:
                report(f"freeze: none, since a step takes more than {FROZEN_STEP:g} of the whole network's in any case")
                return None
        units, frozen, whole = found["units"], found["seconds"], found["whole_seconds"]
        report(
            f"freeze: the stem and {units} of {len(self.chain)} units, a step takes {frozen / whole:.2f} of the whole"
            f" network's ({1000 * frozen:.0f} of {1000 * whole:.0f} ms)"
        )
        return found

    def _race(self, units: int) -> dict:
        """Return the seconds of a step with so many units frozen and with none, by turns."""
        recipe = self.recipe.settled(given=True)
        steps = {
            count: TrainingSteps(
                self.chain, self.feed.shape, replace(recipe, freeze=count), self.device, self.config.checkpointing
            )
            for count in (units, 0)
        }
        times = race({count: one.step(self.arithmetic) for count, one in steps.items()}, device=self.device)
        seconds = {count: statistics.median(times[count]) / one.share for count, one in steps.items()}
        return self.ranks.from_first(  # type: ignore[return-value]
            {"units": units, "seconds": seconds[units], "whole_seconds": seconds[0]}
        )
