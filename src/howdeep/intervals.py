"""Intervals of shares: how far a counted share may be from that of all images there are."""

import math

NORMAL_95 = 1.959964
"""Standard errors on either side of an estimate that hold 95 % of a normal distribution: 1.96."""


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was counted on n images, by Wilson's score.

    It never leaves [0, 1], and is not empty where nothing or everything was counted.

    Args:
        share: What was counted, as a share in [0, 1].
        n: Images, at least 1.

    Returns:
        The lower and the upper end, as shares; exactly 0 at a share of 0, exactly 1 at a share of 1.

    Raises:
        ValueError: The share is outside of [0, 1], or there are no images.
    """
    if not 0 <= share <= 1 or n < 1:
        raise ValueError(f"a share of {share} of {n} images has no interval")
    weight = NORMAL_95**2 / n
    centre = share + weight / 2
    reach = NORMAL_95 * math.sqrt((share * (1 - share) + weight / 4) / n)
    low, high = (centre - reach) / (1 + weight), (centre + reach) / (1 + weight)
    return (0.0 if share == 0 else max(0.0, low)), (1.0 if share == 1 else min(1.0, high))


def apart(one: tuple[float, int], other: tuple[float, int]) -> bool:
    """Return whether two shares differ by more than 1.96 standard errors of their difference.

    Args:
        one: A share and the images that it was counted on.
        other: The same of another.
    """
    variances = [share * (1 - share) / n for share, n in (one, other)]
    return abs(one[0] - other[0]) > NORMAL_95 * math.sqrt(sum(variances))
