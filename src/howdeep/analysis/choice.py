"""Which depth is recommended: all are compared with the best one and with the whole network, image by image."""

from collections.abc import Sequence
from dataclasses import replace

from howdeep.analysis.depths import Change, Depth
from howdeep.analysis.evaluation import exchanged
from howdeep.util.intervals import chance_of_change, of_change, of_several


def changes(exchanges: Sequence[tuple[int, int]], n: int) -> list[Change]:
    """Return the changes of one family of comparisons, by newly wrong and newly right images of n."""
    chances = of_several([chance_of_change(worse, better, n) for worse, better in exchanges])
    return [
        Change(points=100 * (worse - better) / n, **of_change(worse, better, n)._asdict(), chance=chance)
        for (worse, better), chance in zip(exchanges, chances, strict=True)
    ]


def compared(depths: Sequence[Depth], n: int) -> tuple[Depth, ...]:
    """Return depths, compared with that of the lowest error and with the whole network, image by image of n."""

    def against(reference: int) -> list[Change | None]:
        others = [at for at in range(len(depths)) if at != reference]
        pairs = [exchanged(depths[at].fitted.answers, depths[reference].fitted.answers) for at in others]
        found: list[Change | None] = [None] * len(depths)
        for at, change in zip(others, changes([pair for pair in pairs if pair is not None], n), strict=True):
            found[at] = change
        return found

    pairs = zip(depths, against(lowest_of(depths)), against(len(depths) - 1), strict=True)
    return tuple(replace(depth, to_best=best, to_end=end) for depth, best, end in pairs)


def lowest_of(depths: Sequence[Depth]) -> int:
    """Return which depth has the lowest error, from 0; of several the shallowest."""
    return min(range(len(depths)), key=lambda at: depths[at].fitted.error_percent)


def chosen_of(depths: Sequence[Depth], budget_ms: float | None = None) -> int:
    """Return which depth is recommended, from 0.

    The shallowest whose difference to the lowest error may be none, and is at most small: its own 95 % interval holds 0
    and ends at 10 points, beyond which images are too few to recommend it. Holm's correction, with which fewer
    differences count, would take a shallower one the more depths there are. Within a budget, which has
    said what may be spent, the one of the lowest error.

    Args:
        depths: As :func:`compared` returns them.
        budget_ms: Milliseconds for one image, which one depth holds at least; None is no limit.
    """
    if budget_ms is None:
        return next(at for at, depth in enumerate(depths) if depth.to_best is None or depth.to_best.alike)
    holding = [at for at, depth in enumerate(depths) if depth.latency.median_ms <= budget_ms]
    return min(holding, key=lambda at: depths[at].fitted.error_percent)
