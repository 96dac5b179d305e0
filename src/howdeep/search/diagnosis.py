"""What a ladder of depths says about its family. Numbers in, words out: nothing is trained here.

Over the depths of one family, with the errors of one or more runs each, the first rule that holds gives the diagnosis.
The *best* depth is the one of lowest validation error; the *gap* is validation error minus training error.

0. **undertrained**, no verdict, where all numbers are finite: training error of the best depth is above half of what
   guessing gets wrong; or that of the deepest is, and it still fell in the last quarter of the training.
1. **optimisation fails**: a run ended in numbers that are not finite, or training error rises from the best depth to
   the deepest. (He et al. 2015, section 4.1: degradation, which over-fitting does not explain.)
2. **over-fits**: the gap rises from the best depth to the deepest.
3. **still gains**: every shallower depth has a higher validation error than the deepest.
4. **saturates**: none of these; the shallowest depth whose validation error is not higher than the best, and at most 10
   points by the 95 % interval of the difference, is *enough*.
5. **not settled**: no depth before the deepest is, and some may be as good: runs or validation images are too few.

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

from howdeep.util.intervals import NORMAL_95, OPEN, Interval, of_difference, of_mean, of_share

Kind = Literal["undertrained", "optimisation fails", "over-fits", "still gains", "saturates", "not settled"]

LEAST_POINTS = 0.5
"""Points of error that are worth a word."""
LEAST_ERRORS = 2.5
"""Standard errors of the difference that are."""
LEARNED = 0.5
"""Share of what guessing gets wrong above which a network has learned too little for a word about its depth."""
LAST = 0.25
"""Share of the training, at its end, in which an error that still falls is not settled."""
MEANS = 3
"""Runs from which on a mean has Student's interval: of two it is thirteen times as wide as they are apart."""
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
    still_fell: bool = False
    """Whether training error still fell in the last quarter of the training, by more than chance."""


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
    """Lower end of the 95 % interval: that of their images; or, where it is wider, Student's t over three runs or more,
    and the range of two. It ends where errors do."""
    high: float
    """Upper end."""

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {(self.high - self.low) / 2:.1f}"

    @property
    def text(self) -> str:
        """The mean with its interval, as a sentence says it: 4.5 % (2.3–8.6)."""
        return f"{self.mean:.1f} % ({self.low:.1f}–{self.high:.1f})"


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
    still_fell: bool = False
    """Whether training error of a run still fell in the last quarter of its training."""


@dataclass(frozen=True)
class Diagnosis:
    """What the depths of a family say."""

    kind: Kind
    """The verdict."""
    at: int | None
    """fails, over-fits: the deepest depth before the rise; gains: the deepest; saturates: the depth that is enough;
    undertrained, not settled: None."""
    best: int | None
    """Depth of the lowest validation error; None where no run ended in finite numbers."""
    enough: int | None
    """The shallowest depth that is as good as the best; None where training was too short, or nothing is settled."""
    evidence: str
    """The numbers behind it, in one sentence."""

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.kind == "undertrained":
            return "undertrained, no verdict"
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
        _estimate(training, floors[0], of_share(*counted), least=0.0),
        _estimate(validation, floors[1], of_share(*others), least=0.0),
        _estimate(gaps, math.hypot(*floors), of_difference(*others, *counted), least=-100.0),
        failed,
        any(run.still_fell for run in runs),
    )


def learned_little(error_percent: float, guessing_percent: float) -> bool:
    """Return whether an error is above half of what guessing gets wrong, always the most frequent class."""
    return error_percent > LEARNED * guessing_percent


def still_fell(training_percent: Sequence[float], images: int) -> bool:
    """Return whether training error fell in the last quarter of the training, by more than chance and half a point.

    Args:
        training_percent: Of every epoch, in order; of fewer than two nothing is known.
        images: Training images of an epoch.
    """
    if len(training_percent) < 2:
        return False
    last = len(training_percent) - 1
    before, after = training_percent[last - math.ceil(LAST * last)], training_percent[last]
    chance = math.hypot(_binomial(before, images), _binomial(after, images))
    return before - after > max(LEAST_POINTS, LEAST_ERRORS * chance)


def higher(one: Estimate, other: Estimate) -> bool:
    """Return whether one mean is higher than another by more than chance, and by enough to matter."""
    return one.mean - other.mean > max(
        LEAST_POINTS, LEAST_ERRORS * math.hypot(one.standard_error, other.standard_error)
    )


def alike(one: Estimate, best: Estimate) -> bool:
    """Return whether one mean is not higher than the best, and what the runs and their images leave open is little."""
    reach = NORMAL_95 * math.hypot(one.standard_error, best.standard_error)
    return one is best or (not higher(one, best) and one.mean - best.mean + reach <= OPEN)


def trains_worse(one: Estimate, other: Estimate) -> bool:
    """Return whether one training error is higher than another, by its standard errors or by the ranks of the runs."""
    ranked = min(len(one.runs), len(other.runs)) >= RANKED_RUNS and min(one.runs) > max(other.runs)
    return higher(one, other) or (ranked and one.mean - other.mean > LEAST_POINTS)


def diagnose(points: Sequence[Point], guessing_percent: float = 100.0) -> Diagnosis:
    """Return the diagnosis of one family by the rules at the head of this module.

    Args:
        points: At least two, in any order.
        guessing_percent: What always guessing the most frequent class gets wrong.

    Raises:
        ValueError: There are fewer than two depths.
    """
    if len(points) < 2:
        raise ValueError(f"a ladder has at least two depths, not {len(points)}")
    steps = [
        _Step(p.depth, p.training, p.validation, p.gap, p.still_fell)
        for p in points
        if p.training and p.validation and p.gap
    ]
    steps.sort(key=lambda step: step.depth)
    best = min(steps, key=lambda step: step.validation.mean, default=None)
    enough = next((step for step in steps if best and alike(step.validation, best.validation)), None)
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
    if learned_little(best.training.mean, guessing_percent):
        return _undertrained(best, guessing_percent)
    if deepest.still_fell and learned_little(deepest.training.mean, guessing_percent):
        return _undertrained(deepest, guessing_percent)
    if trains_worse(deepest.training, best.training):
        at = _before(steps, best, [trains_worse(step.training, best.training) for step in steps])
        said = f"training error rises from {best.training.text} at {best.depth} layers to {deepest.training.text} at"
        return Diagnosis("optimisation fails", at, best.depth, enough.depth, f"{said} {deepest.depth} (95 %)")
    if higher(deepest.gap, best.gap):
        at = _before(steps, best, [higher(step.gap, best.gap) for step in steps])
        said = f"the gap rises from {_points(best.gap)} at {best.depth} layers to {_points(deepest.gap)} at"
        said = f"{said} {deepest.depth} (95 %); training error does not"
        return Diagnosis("over-fits", at, best.depth, enough.depth, said)
    open_still = [step for step in steps if step.depth < enough.depth and not higher(step.validation, best.validation)]
    if enough is deepest and open_still:
        first = open_still[0]
        said = f"validation error of {first.depth} layers, {first.validation.text}, is above that of {best.depth},"
        said = f"{said} {best.validation.text} (95 %), by chance or by more than {OPEN:.0f} points"
        return Diagnosis("not settled", None, best.depth, None, f"{said}: more runs or validation images would tell")
    if enough is deepest:
        before = steps[-2]
        said = f"validation error falls from {before.validation.text} at {before.depth} layers to"
        said = f"{said} {enough.validation.text} at {enough.depth} (95 %)"
        return Diagnosis("still gains", enough.depth, best.depth, enough.depth, said)
    others = f"; lowest: {best.validation.text} at {best.depth}" if best is not enough else ""
    error = f"{enough.validation.text} validation error, 95 %"
    said = f"no depth is better than {enough.depth} layers by more than chance: {error}{others}"
    return Diagnosis("saturates", enough.depth, best.depth, enough.depth, said)


@dataclass(frozen=True)
class _Step:
    """A depth of which a run ended in finite numbers."""

    depth: int
    training: Estimate
    validation: Estimate
    gap: Estimate
    still_fell: bool


def _undertrained(step: _Step, guessing_percent: float) -> Diagnosis:
    falling = " and still fell at the end" if step.still_fell else ""
    said = f"training error is {step.training.text}, 95 %, at {step.depth} layers{falling}"
    more = f"{said}; guessing gets {guessing_percent:.0f} % wrong: train longer before you ask for a depth"
    return Diagnosis("undertrained", None, None, None, more)


def _before(steps: Sequence[_Step], best: _Step, rises: Sequence[bool]) -> int:
    """Return the deepest depth from the best on before the first that rises."""
    later = [(step.depth, rise) for step, rise in zip(steps, rises, strict=True) if step.depth >= best.depth]
    first = next(number for number, (_, rise) in enumerate(later) if rise)
    return later[first - 1][0]


def _points(gap: Estimate) -> str:
    return f"{gap.mean:.1f} points ({gap.low:.1f} to {gap.high:.1f})"


def _estimate(runs: Sequence[float], binomial: float, of_images: Interval, least: float) -> Estimate:
    error, (low, high) = binomial, of_images
    if len(runs) > 1:
        error = max(error, statistics.stdev(runs) / math.sqrt(len(runs)))
        of_runs = of_mean(runs) if len(runs) >= MEANS else Interval(min(runs), max(runs))
        low, high = min(low, of_runs.low), max(high, of_runs.high)
    return Estimate(tuple(runs), statistics.fmean(runs), error, max(least, low), min(100.0, high))


def _binomial(percent: float, images: int) -> float:
    """Return the binomial standard error in percent; one more error and one more right answer keep it above 0."""
    share = (percent / 100 * images + 1) / (images + 2)
    return 100 * math.sqrt(share * (1 - share) / (images + 2))
