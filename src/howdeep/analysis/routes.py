"""Routes: the order and the gates in which images pass the modules of a chain, and how many routes share their work.

A route lists steps (place in the chain's body, gate). The baseline network is one route; a lesion, a unit run twice and
two units that change places are others. Routes that begin alike are computed once as far as they are alike.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from howdeep.chain import Chain, Unit, run
from howdeep.runtime.parts import parts_of

Step = tuple[int, float | None]
"""A place in the chain's body, and the gate there: a number, or None for a unit that is taken out."""
Route = tuple[Step, ...]
"""The steps of one way through the body."""


def baseline(chain: Chain) -> Route:
    """Return the route of an ordinary call."""
    route: list[Step] = []
    for place, (_, gate) in enumerate(chain.steps()):
        assert not isinstance(gate, Tensor), "evaluation has one gate per unit"
        route.append((place, gate))
    return tuple(route)


def places(chain: Chain) -> list[int]:
    """Return where in the body each unit stands."""
    return [place for place, module in enumerate(chain.body) if isinstance(module, Unit)]


def without(route: Route, closed: Sequence[int]) -> Route:
    """Return a route on which the units at these places of the body are taken out."""
    return tuple((place, None if place in closed else gate) for place, gate in route)


def follow(chain: Chain, images: Tensor, routes: Sequence[Route]) -> list[Tensor]:
    """Return the logits of every route, shape (batch, classes) each.

    Where routes part, the smaller groups go first and the largest goes last, so that maps are kept at no more than
    log₂(routes) + 1 places at a time: of a few photos on a host (see :mod:`howdeep.runtime.parts`).

    Args:
        chain: The network, in evaluation mode.
        images: Shape (batch, channels, height, width).
        routes: The ways through it.
    """
    numbered = list(enumerate(routes))
    parts = [dict(_follow(chain, chain.stem(part), 0, numbered)) for part in parts_of(chain, images)]
    return [torch.cat([part[number] for part in parts]) for number, _ in numbered]


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
