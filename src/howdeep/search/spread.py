"""Which networks of a plane compete: a few that stand for all, spread over what they cost and how wide they are."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

MOST, FEWEST = 12, 3
"""Networks that compete."""
FIRST = 0.75
"""Passes over all images that the most expensive one makes in the first round, unless even the fewest make less."""
APART = 1.25
"""Networks of one width compete only where one costs so much more than the other."""


class Priced(Protocol):
    """A network of a plane and what it costs."""

    @property
    def family(self) -> str:
        """Its family."""
        ...

    @property
    def width(self) -> int:
        """Its width."""
        ...

    @property
    def seconds_per_step(self) -> float:
        """Of training."""
        ...


One = TypeVar("One", bound=Priced)


def spread(networks: Sequence[One], most: int) -> list[One]:
    """Return so many networks at most that stand for all, in their order.

    The cheapest and the most expensive come first; then, of families and widths that have none yet, and then of all,
    always the one that is farthest from those that were taken: costs and widths are compared by their logarithms.
    Two of the same width never differ by less than a quarter in cost.

    Args:
        networks: At least one.
        most: How many.
    """
    by_cost = sorted(networks, key=lambda one: one.seconds_per_step)
    taken = [by_cost[0]]
    while len(taken) < most:
        left = [one for one in by_cost if one not in taken and all(_apart(one, other) for other in taken)]
        if not left:
            break
        if len(taken) == 1 and by_cost[-1] in left:
            taken.append(by_cost[-1])
            continue
        lines = {(one.family, one.width) for one in taken}
        new = [one for one in left if (one.family, one.width) not in lines]
        taken.append(max(new or left, key=lambda one: min(_distance(one, other) for other in taken)))
    return [one for one in networks if one in taken]


def competing(networks: Sequence[One], first_round: Callable[[int], float], epoch: Callable[[One], float]) -> list[One]:
    """Return as many networks as can compete, so that the most expensive one learns something in the first round.

    Args:
        networks: All that could be trained, at least one.
        first_round: Number of networks → seconds that each has in the first round; more of them have less.
        epoch: Network → seconds in which it passes over all images once.
    """
    slowest = max(epoch(one) for one in networks)
    for most in range(MOST, FEWEST, -1):
        taken = spread(networks, most)
        if len(taken) <= FEWEST or first_round(len(taken)) >= FIRST * slowest:
            return taken
    return spread(networks, FEWEST)


def _apart(one: Priced, other: Priced) -> bool:
    low, high = sorted((one.seconds_per_step, other.seconds_per_step))
    return (one.family, one.width) != (other.family, other.width) or high >= APART * low


def _distance(one: Priced, other: Priced) -> float:
    costs = math.log2(one.seconds_per_step / other.seconds_per_step)
    return math.hypot(costs, math.log2(one.width / other.width), one.family != other.family)
