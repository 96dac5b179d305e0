"""Routes: the order and the gates in which images pass the modules of a chain, and how many routes share their work.

A route lists steps (place in the chain's body, gate). The baseline network is one route; a lesion, a unit run twice and
two units that change places are others. Routes that begin alike are computed once as far as they are alike.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from howdeep.chain import Chain, Gates, Unit, run
from howdeep.util.errors import UserError
from howdeep.util.seeds import derive

Step = tuple[int, float | None]
"""A place in the chain's body, and the gate there: a number, or None for a unit that is taken out."""
Route = tuple[Step, ...]
"""The steps of one way through the body."""


def baseline(chain: Chain, gates: Gates | None = None) -> Route:
    """Return the route of an ordinary call with these gates (None: the chain's own)."""
    route: list[Step] = []
    for place, (_, gate) in enumerate(chain.steps(gates)):
        assert not isinstance(gate, Tensor), "evaluation has one gate per unit"
        route.append((place, gate))
    return tuple(route)


def places(chain: Chain) -> list[int]:
    """Return where in the body each unit stands."""
    return [place for place, module in enumerate(chain.body) if isinstance(module, Unit)]


def without(route: Route, closed: Sequence[int]) -> Route:
    """Return a route on which the units at these places of the body are taken out."""
    return tuple((place, None if place in closed else gate) for place, gate in route)


def follow(chain: Chain, images: Tensor, routes: Sequence[Route]) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of every route with its logits, in no particular order.

    Where routes part, the smaller groups go first and the largest goes last, so that maps are kept at no more than
    log₂(routes) + 1 places at a time.

    Args:
        chain: The network, in evaluation mode.
        images: Shape (batch, channels, height, width).
        routes: The ways through it.
    """
    yield from _follow(chain, chain.stem(images), 0, list(enumerate(routes)))


def _follow(chain: Chain, x: Tensor, depth: int, group: list[tuple[int, Route]]) -> Iterator[tuple[int, Tensor]]:
    while group:
        yield from ((number, chain.head(x)) for number, route in group if len(route) == depth)
        ways: dict[Step, list[tuple[int, Route]]] = {}
        for number, route in group:
            if len(route) > depth:
                ways.setdefault(route[depth], []).append((number, route))
        if not ways:
            return
        last = max(ways, key=lambda step: len(ways[step]))
        for step, others in ways.items():
            if step != last:
                yield from _follow(chain, _take(chain, x, step), depth + 1, others)
        x, depth, group = _take(chain, x, last), depth + 1, ways[last]


def _take(chain: Chain, x: Tensor, step: Step) -> Tensor:
    place, gate = step
    return run([(chain.body[place], gate)], x)


Kind = Literal["delete", "random", "pairs", "permute", "duplicate"]


@dataclass(frozen=True)
class Change:
    """One change of a network, and the route that carries it out."""

    route: Route
    """The way of the images."""
    units: tuple[int, ...]
    """The units that are out, or run twice, counted from 1; for swaps, the new order of all units."""
    k: int
    """How many units are out, or how many swaps were made."""
    draw: int
    """Number of the draw, from 0."""


def removable(chain: Chain) -> list[int]:
    """Return the units that can be taken out, counted from 0."""
    return [index for index, unit in enumerate(chain.units) if unit.merge.removable]


def delete(chain: Chain) -> list[Change]:
    """Take out each unit alone."""
    return [_out(chain, (index,), 0) for index in removable(chain)]


def delete_random(chain: Chain, *, max_k: int, draws: int, seed: int) -> list[Change]:
    """Take out k units at random, for k = 1 … max_k, several times each.

    Raises:
        UserError: There are fewer units than that.
    """
    units = removable(chain)
    if max_k > len(units):
        raise UserError(f"k {max_k} is not allowed: {len(units)} of {len(chain)} units can be taken out")
    asked = [(k, draw) for k in range(1, max_k + 1) for draw in range(draws)]
    return [_out(chain, sorted(_stream(seed, "random", k, draw).sample(units, k)), draw) for k, draw in asked]


def delete_pairs(chain: Chain, *, sample: int | None, seed: int) -> list[Change]:
    """Take out two units at a time: all pairs, or a sample of them."""
    pairs = list(combinations(removable(chain), 2))
    if sample is not None and sample < len(pairs):
        pairs = sorted(_stream(seed, "pairs").sample(pairs, sample))
    return [_out(chain, pair, 0) for pair in pairs]


def permute(chain: Chain, images: Tensor, *, max_k: int, draws: int, seed: int) -> list[Change]:
    """Swap two units of equal shape at random, k times over, for k = 1 … max_k, several times each.

    Raises:
        UserError: No two units have equal shapes.
    """
    pairs = [pair for group in alike(chain, images) for pair in combinations(group, 2)]
    if not pairs:
        raise UserError("no two units of this network have equal shapes, so that none can change places")
    route, at, changes = baseline(chain), places(chain), []
    for k, draw in [(k, draw) for k in range(1, max_k + 1) for draw in range(draws)]:
        order = list(range(len(chain)))
        for first, second in _stream(seed, "permute", k, draw).choices(pairs, k=k):
            order[first], order[second] = order[second], order[first]
        moved = {at[position]: route[at[unit]] for position, unit in enumerate(order)}
        swapped = tuple(moved.get(place, step) for place, step in enumerate(route))
        changes.append(Change(swapped, tuple(unit + 1 for unit in order), k, draw))
    return changes


def duplicate(chain: Chain, images: Tensor) -> list[Change]:
    """Run each unit twice in a row, where its output has the shape of its input."""
    route, at = baseline(chain), places(chain)
    able = sorted(index for group in alike(chain, images) for index in group)
    return [Change((*route[: at[i] + 1], route[at[i]], *route[at[i] + 1 :]), (i + 1,), 1, 0) for i in able]


def _out(chain: Chain, units: Sequence[int], draw: int) -> Change:
    at = places(chain)
    route = without(baseline(chain), [at[unit] for unit in units])
    return Change(route, tuple(unit + 1 for unit in units), len(units), draw)


@torch.inference_mode()
def alike(chain: Chain, images: Tensor) -> list[list[int]]:
    """Return the units whose output has the shape of their input, those of one shape together."""
    x, groups, index = chain.stem(images[:1]), {}, 0
    for module, gate in chain.steps():
        y = run([(module, gate)], x)
        if isinstance(module, Unit):
            if y.shape == x.shape:
                groups.setdefault(tuple(x.shape), []).append(index)
            index += 1
        x = y
    return list(groups.values())


def _stream(seed: int, *parts: int | str) -> random.Random:
    return random.Random(derive(seed, "lesion", *parts))
