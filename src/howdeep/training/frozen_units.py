"""How many units of given weights are frozen: by the time of a step alone.

What frozen units cost, no short training tells: after 46 steps with seven of nine 11 % are wrong, with none 5 %
(n = 208, photos of signs); after 361 with six 0.2 %, with none 0.5 % (n = 411, one seed each).
"""

import statistics
from dataclasses import dataclass, replace

import torch

from howdeep.chain import Chain
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import race
from howdeep.training.precision import TrainingSteps
from howdeep.training.recipes import Recipe
from howdeep.util.text import Report

FROZEN_RUN = 0.5
"""Share of the whole network's training time that ``--freeze auto`` takes at most, validation included."""
LEAST_STEP = 0.25
"""Share of the whole network's step that is not looked beyond, however much of the time is validation."""
FORWARD = 1 / 3
"""Of a step's time, that of its forward pass: what an image takes that is not learnt from."""


@dataclass(frozen=True)
class FrozenUnits:
    """Steps of a network with some of its units frozen, timed against those of the whole."""

    chain: Chain
    """On the device."""
    recipe: Recipe
    """How it is trained; whatever is frozen there is not."""
    shape: tuple[int, int, int, int]
    """Of a mini-batch."""
    ranks: Ranks
    device: torch.device
    arithmetic: Arithmetic
    checkpointing: bool
    passes: float = 0.0
    """Images that are shown and not learnt from, for validation and a new classifier, per image that is learnt from."""

    @property
    def most(self) -> float:
        """Share of the whole network's step that a step may take: passes take as long as ever."""
        return max(LEAST_STEP, FROZEN_RUN - (1 - FROZEN_RUN) * FORWARD * self.passes)

    def settled(self, asked: str | int, report: Report) -> dict | None:
        """Return how many units are frozen and what that saves, as measured; None for none.

        Args:
            asked: How many, or ``auto`` for the fewest that save enough.
            report: Receives a line on what was found.
        """
        if asked == 0:
            return None
        if isinstance(asked, int):
            found = self._race(asked)
        else:
            low, high, fewest = 1, len(self.chain), None
            while low <= high:  # a step takes the less, the more units are frozen
                middle = (low + high) // 2
                timed = self._race(middle)
                if timed["seconds"] <= self.most * timed["whole_seconds"]:
                    high, fewest = middle - 1, timed
                else:
                    low = middle + 1
            if fewest is None:
                report(f"freeze: none, since a step takes more than {self.most:.2f} of the whole network's in any case")
                return None
            found = fewest
        units, frozen, whole = found["units"], found["seconds"], found["whole_seconds"]
        report(
            f"freeze: the stem and {units} of {len(self.chain)} units, a step takes {frozen / whole:.2f} of the whole"
            f" network's ({1000 * frozen:.0f} of {1000 * whole:.0f} ms)"
        )
        return found

    def _race(self, units: int) -> dict:
        """Return the seconds of a step with so many units frozen and with none, by turns."""
        steps = {
            count: TrainingSteps(
                self.chain, self.shape, replace(self.recipe, freeze=count), self.device, self.checkpointing
            )
            for count in (units, 0)
        }
        times = race({count: one.step(self.arithmetic) for count, one in steps.items()}, device=self.device)
        seconds = {count: statistics.median(times[count]) / one.share for count, one in steps.items()}
        return self.ranks.from_first(  # type: ignore[return-value]
            {"units": units, "seconds": seconds[units], "whole_seconds": seconds[0]}
        )
