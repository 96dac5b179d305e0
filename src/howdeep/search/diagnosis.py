"""What a ladder of depths says about its family. Numbers in, words out: nothing is trained here.

Over the depths of one family, with the errors of one or more runs each, the first rule that holds gives the diagnosis.
The *best* depth is the one of lowest validation error; the *gap* is validation error minus training error.

1. **optimisation fails**: a run ended in numbers that are not finite, or training error rises from the best depth to
   the deepest. (He et al. 2015, section 4.1: degradation, which over-fitting does not explain.)
2. **over-fits**: the gap rises from the best depth to the deepest.
3. **still gains**: every shallower depth has a higher validation error than the deepest.
4. **saturates**: none of these; the shallowest depth whose validation error is not higher than the best is *enough*.

One mean is *higher* than another, or *rises*, where the difference is above half a point and above two and a half
standard errors of the difference. Training error also rises where, of at least three runs each, every run of the one
is above every run of the other (by chance once in twenty times): seeds may fail so unevenly that their standard error
is as large as the rise. The standard error of a mean is that over its runs, and never less than the binomial one of
all their images. So judged, a ladder of four equal depths is called other than flat about once in twenty times.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from howdeep.util.intervals import Interval, of_difference, of_mean, of_share

Kind = Literal["optimisation fails", "over-fits", "still gains", "saturates"]

LEAST_POINTS = 0.5
"""Points of error that are worth a word."""
LEAST_ERRORS = 2.5
"""Standard errors of the difference that are."""
RANKED_RUNS = 3
"""Runs of each side from which on their ranks alone may tell: 1 in C(6, 3) = 20."""


@dataclass(frozen=True)
class Errors:
    """Errors of one trained network."""

    training_percent: float
    """On images that it was trained on, not augmented."""
    training_images: int
    """How many of them."""
    validation_percent: float
    """On images that it was not trained on."""
    validation_images: int
    """How many of them."""


@dataclass(frozen=True)
class Estimate:
    """A mean over the runs of one depth, in percent."""

    runs: tuple[float, ...]
    """Of each run."""
    mean: float
    """Mean."""
    standard_error: float
    """Of the mean: over the runs, or binomial over their images where that is more."""
    low: float
    """Lower end of the 95 % interval: Student's t over the runs, or that of their images where it is wider."""
    high: float
    """Upper end."""

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.standard_error:.1f}"


@dataclass(frozen=True)
class Point:
    """One depth of a family."""

    depth: int
    """Layers."""
    training: Estimate | None
    """Training error; None where no run ended in finite numbers."""
    validation: Estimate | None
    """Validation error."""
    gap: Estimate | None
    """Validation error minus training error."""
    failed: int
    """Runs that ended in numbers that are not finite."""


@dataclass(frozen=True)
class Diagnosis:
    """What the depths of a family say."""

    kind: Kind
    """The verdict."""
    at: int | None
    """fails, over-fits: the deepest depth before the rise; gains: the deepest; saturates: the depth that is enough."""
    best: int | None
    """Depth of the lowest validation error; None where no run ended in finite numbers."""
    enough: int | None
    """The shallowest depth whose validation error is not higher than the best."""
    evidence: str
    """The numbers behind it, in one sentence."""

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.at is None:
            return self.kind
        return f"{self.kind} {'beyond' if self.kind in ('optimisation fails', 'over-fits') else 'at'} {self.at} layers"


def point_of(depth: int, runs: Sequence[Errors], failed: int = 0) -> Point:
    """Return the means of one depth.

    Args:
        depth: Layers.
        runs: Of every run that ended in finite numbers.
        failed: How many did not.
    """
    if not runs:
        return Point(depth, None, None, None, failed)
    training = [run.training_percent for run in runs]
    validation = [run.validation_percent for run in runs]
    gaps = [high - low for high, low in zip(validation, training, strict=True)]
    counted = statistics.fmean(training), sum(run.training_images for run in runs)
    others = statistics.fmean(validation), sum(run.validation_images for run in runs)
    floors = _binomial(*counted), _binomial(*others)
    return Point(
        depth,
        _estimate(training, floors[0], of_share(*counted)),
        _estimate(validation, floors[1], of_share(*others)),
        _estimate(gaps, math.hypot(*floors), of_difference(*others, *counted)),
        failed,
    )


def higher(one: Estimate, other: Estimate) -> bool:
    """Return whether one mean is higher than another by more than chance, and by enough to matter."""
    return one.mean - other.mean > max(
        LEAST_POINTS, LEAST_ERRORS * math.hypot(one.standard_error, other.standard_error)
    )


def trains_worse(one: Estimate, other: Estimate) -> bool:
    """Return whether one training error is higher than another, by its standard errors or by the ranks of the runs."""
    ranked = min(len(one.runs), len(other.runs)) >= RANKED_RUNS and min(one.runs) > max(other.runs)
    return higher(one, other) or (ranked and one.mean - other.mean > LEAST_POINTS)


def diagnose(points: Sequence[Point]) -> Diagnosis:
    """Return the diagnosis of one family by the rules at the head of this module.

    Args:
        points: At least two, in any order.

    Raises:
        ValueError: There are fewer than two depths.
    """
    if len(points) < 2:
        raise ValueError(f"a ladder has at least two depths, not {len(points)}")
    steps = [_Step(p.depth, p.training, p.validation, p.gap) for p in points if p.training and p.validation and p.gap]
    steps.sort(key=lambda step: step.depth)
    best = min(steps, key=lambda step: step.validation.mean, default=None)
    enough = next((step for step in steps if best and not higher(step.validation, best.validation)), None)
    failed = min((point for point in points if point.failed), key=lambda point: point.depth, default=None)
    if failed is not None:
        total = failed.failed + (len(failed.training.runs) if failed.training else 0)
        runs = f"{failed.failed} of {total} runs" if total > 1 else "the run"
        said = f"{runs} of {failed.depth} layers ended in numbers that are not finite"
        at = max((step.depth for step in steps if step.depth < failed.depth), default=None)
        return Diagnosis("optimisation fails", at, best and best.depth, enough and enough.depth, said)
    assert best is not None, "a depth of which no run failed has errors"
    assert enough is not None, "the best is"
    deepest = steps[-1]
    if trains_worse(deepest.training, best.training):
        at = _before(steps, best, [trains_worse(step.training, best.training) for step in steps])
        said = f"training error rises from {best.training} % at {best.depth} layers to {deepest.training} % at"
        return Diagnosis("optimisation fails", at, best.depth, enough.depth, f"{said} {deepest.depth}")
    if higher(deepest.gap, best.gap):
        at = _before(steps, best, [higher(step.gap, best.gap) for step in steps])
        said = f"the gap rises from {best.gap} points at {best.depth} layers to {deepest.gap} at {deepest.depth}"
        return Diagnosis("over-fits", at, best.depth, enough.depth, f"{said}; training error does not")
    if enough is deepest:
        before = steps[-2]
        said = f"validation error falls from {before.validation} % at {before.depth} layers to"
        said = f"{said} {enough.validation} % at {enough.depth}"
        return Diagnosis("still gains", enough.depth, best.depth, enough.depth, said)
    others = f"; lowest: {best.validation} % at {best.depth}" if best is not enough else ""
    said = f"no depth is better than {enough.depth} layers ({enough.validation} %) by more than chance{others}"
    return Diagnosis("saturates", enough.depth, best.depth, enough.depth, said)


@dataclass(frozen=True)
class _Step:
    """A depth of which a run ended in finite numbers."""

    depth: int
    training: Estimate
    validation: Estimate
    gap: Estimate


def _before(steps: Sequence[_Step], best: _Step, rises: Sequence[bool]) -> int:
    """Return the deepest depth from the best on before the first that rises."""
    later = [(step.depth, rise) for step, rise in zip(steps, rises, strict=True) if step.depth >= best.depth]
    first = next(number for number, (_, rise) in enumerate(later) if rise)
    return later[first - 1][0]


def _estimate(runs: Sequence[float], binomial: float, of_images: Interval) -> Estimate:
    error, (low, high) = binomial, of_images
    if len(runs) > 1:
        error = max(error, statistics.stdev(runs) / math.sqrt(len(runs)))
        over_runs = of_mean(runs)
        low, high = min(low, over_runs.low), max(high, over_runs.high)
    return Estimate(tuple(runs), statistics.fmean(runs), error, low, high)


def _binomial(percent: float, images: int) -> float:
    """Return the binomial standard error in percent; one more error and one more right answer keep it above 0."""
    share = (percent / 100 * images + 1) / (images + 2)
    return 100 * math.sqrt(share * (1 - share) / (images + 2))
