"""Successive halving over networks of different depth (Jamieson and Talwalkar 2016, arXiv 1502.07943).

Every network is trained for the same time, the better half goes on for twice that time, and so on until one is left,
which gets what remains. Time is what is equal, not epochs: a deep network that is half-trained when time is up is what
a shallow one that is finished has to be compared with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SEARCH_SHARE = 0.5
"""Share of the time that the search takes; the chosen network gets the rest, and keeps what it has learned."""


@dataclass(frozen=True)
class Standing:
    """One network at the end of a rung."""

    family: str
    """Family of the network."""
    depth: int
    """Its layers."""
    error_percent: float
    """Validation error."""
    loss: float
    """Validation loss in nats, which decides between equal errors."""


def rungs_of(networks: int, seconds: float) -> tuple[float, ...]:
    """Return the training time, from its start, that a network has had at the end of each rung.

    With K networks, of which k_r = ⌈k_{r−1} / 2⌉ reach rung r, and times t·2^r, the search takes
    t (K + Σ_r k_r 2^(r−1)), which is half of the time there is. One network needs no search.

    Args:
        networks: How many are compared, at least 1.
        seconds: Time that there is in all.
    """
    counts = [networks]
    while counts[-1] > 2:
        counts.append(math.ceil(counts[-1] / 2))
    if networks == 1:
        return ()
    units = networks + sum(count * 2 ** (rung - 1) for rung, count in enumerate(counts) if rung)
    return tuple(SEARCH_SHARE * seconds / units * 2**rung for rung in range(len(counts)))


def final_share(networks: int) -> float:
    """Return the share of the whole time that the chosen network is trained for, the rungs that it passed included."""
    rungs = rungs_of(networks, 1.0)
    return 1.0 - SEARCH_SHARE + rungs[-1] if rungs else 1.0


def promoted(standings: Sequence[Standing], *, last: bool) -> list[Standing]:
    """Return who goes on: the better half, best first; after the last rung only the best.

    More time helps deep networks more. The next deeper relative of the best one therefore always goes on, in place of
    the worst of the better half.

    Args:
        standings: Everyone who was trained on this rung.
        last: Whether this was the last rung.
    """
    ranked = sorted(standings, key=lambda one: (one.error_percent, one.loss, one.depth))
    if last:
        return ranked[:1]
    kept = ranked[: math.ceil(len(ranked) / 2)]
    relatives = [one for one in ranked if one.family == kept[0].family and one.depth > kept[0].depth]
    deeper = min(relatives, key=lambda one: one.depth, default=None)
    if deeper is None or deeper in kept or len(kept) == 1:
        return kept
    return [*kept[:-1], deeper]
