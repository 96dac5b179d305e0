"""95 % intervals: how far a count on some images may be from the count on all images there are.

Three kinds, because images are counted in three ways:

- a share of wrong answers: Clopper and Pearson's exact interval (1934);
- the difference of two shares on different images: Newcombe's square-and-add (1998, method 10) of two such intervals;
- the difference of two shares on the same images: Bonett and Price's (2012), a normal interval after one image more
  was counted for either side.

They hold where few answers or none are wrong or change, which is where networks are compared. Wilson's interval of a
share covers 91 % at 0.5 % of 100 images, the plain normal one of a paired difference 59 % at 0.5 points of 179;
of these three none covers less than 93 % from 100 images on, and the first two never less than 95 %. Means over
several trainings, which differ by more than their images, have Student's. Percent and points throughout.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

NORMAL_95 = 1.959964
"""Standard errors on either side of an estimate that hold 95 % of a normal distribution: 1.96."""
SIGNIFICANT = 0.05
"""Chance below which a difference is called significant: by itself, where its 95 % interval leaves out 0."""
OPEN = 10.0
"""Points by which a network that is as good as another may be worse, at the upper end of the 95 % interval: where more
are open, images or seeds are too few to say so, whatever the lower end is."""


class Interval(NamedTuple):
    """What may be true, by what was counted; in percent, or in points for a difference."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""

    @property
    def beyond_chance(self) -> bool:
        """Whether a difference is more than chance: zero lies outside."""
        return not self.low <= 0 <= self.high


def of_share(percent: float, n: int) -> Interval:
    """Return the interval of a share that was counted on n images.

    Args:
        percent: What was counted, in percent of the images; a mean of several counts need not be whole images.
        n: Images, at least 1.

    Returns:
        Ends in percent; exactly 0 at a share of 0, exactly 100 at a share of 100.

    Raises:
        ValueError: The share is outside of 0 to 100, or there are no images.
    """
    from scipy.special import betaincinv  # costs half a second, and not every command makes an interval

    if not 0 <= percent <= 100 or n < 1:
        raise ValueError(f"a share of {percent} % of {n} images has no interval")
    counted = percent / 100 * n
    low = 0.0 if counted == 0 else float(betaincinv(counted, n - counted + 1, 0.025))
    high = 1.0 if counted == n else float(betaincinv(counted + 1, n - counted, 0.975))
    return Interval(100 * low, 100 * high)


def of_difference(percent: float, n: int, other_percent: float, other_n: int) -> Interval:
    """Return the interval of one share minus another, each counted on images of its own.

    Args:
        percent: The one, in percent.
        n: Its images.
        other_percent: The other.
        other_n: Its images.

    Returns:
        Ends in points.
    """
    (low, high), (other_low, other_high) = of_share(percent, n), of_share(other_percent, other_n)
    difference = percent - other_percent
    return Interval(
        difference - math.hypot(percent - low, other_high - other_percent),
        difference + math.hypot(high - percent, other_percent - other_low),
    )


def of_change(newly_wrong: float, newly_right: float, n: int) -> Interval:
    """Return the interval of a change of the error on the same images, which is paired: others do not matter.

    Args:
        newly_wrong: Images that were answered right before, and are not any more.
        newly_right: Images of the opposite.
        n: All images, at least 1.

    Returns:
        Ends in points.
    """
    change, error = _paired(newly_wrong, newly_right, n)
    half = NORMAL_95 * error
    return Interval(100 * max(-1.0, change - half), 100 * min(1.0, change + half))


def chance_of_change(newly_wrong: float, newly_right: float, n: int) -> float:
    """Return how likely a change of this size or more is by chance alone, on the same images: two-sided, in (0, 1].

    It is below 0.05 where the interval of :func:`of_change` leaves out 0.

    Args:
        newly_wrong: Images that were answered right before, and are not any more.
        newly_right: Images of the opposite.
        n: All images, at least 1.
    """
    change, error = _paired(newly_wrong, newly_right, n)
    return math.erfc(abs(change) / error / math.sqrt(2))


def chance_of(estimate: float, interval: Interval) -> float:
    """Return how likely a difference of this size or more is by chance alone, read from its 95 % interval.

    The end that lies towards 0 is taken for 1.96 standard errors away, so that it is below 0.05 where the interval
    leaves out 0, whatever made the interval.

    Args:
        estimate: The difference, within its interval.
        interval: Of either kind of difference, or of a mean of some.
    """
    end = interval.low if estimate > 0 else interval.high
    return math.erfc(NORMAL_95 * abs(estimate) / abs(estimate - end) / math.sqrt(2)) if estimate else 1.0


def chance_of_paired(interval: Interval) -> float:
    """Return the chance of a paired change of which a record holds the interval: the middle is the estimate."""
    return chance_of((interval.low + interval.high) / 2, interval)


def of_several(chances: Sequence[float]) -> list[float]:
    """Return the chances of several comparisons, each as if it were the only one (Holm 1979).

    Where all that are below 0.05 are taken to be more than chance, one in twenty of such families has a mistake in
    it, however many comparisons there are.

    Args:
        chances: Of every comparison by itself.
    """
    adjusted, largest = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = largest
    return adjusted


def worse_of(changes: Sequence[Interval]) -> list[bool]:
    """Return which of several paired changes of an error are significantly above 0, all of them considered (Holm)."""
    chances = of_several([chance_of_paired(interval) for interval in changes])
    return [chance < SIGNIFICANT and sum(interval) > 0 for chance, interval in zip(chances, changes, strict=True)]


def _paired(newly_wrong: float, newly_right: float, n: int) -> tuple[float, float]:
    """Return Bonett and Price's estimate of a paired difference, and its standard error; as shares."""
    worse, better = (newly_wrong + 1) / (n + 2), (newly_right + 1) / (n + 2)
    change = worse - better
    return change, math.sqrt((worse + better - change**2) / (n + 2))


def of_mean(values: Sequence[float]) -> Interval:
    """Return the interval of the mean of at least two numbers, such as the errors of several trainings (Student 1908).

    Returns:
        Ends in the numbers' own unit.
    """
    half = student_95(len(values)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return Interval(mean - half, mean + half)


def student_95(count: int) -> float:
    """Return how many standard errors on either side of the mean of so many numbers, at least two, hold 95 %."""
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 0.975))
