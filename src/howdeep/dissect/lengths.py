"""Paths by their length: how many there are, and the gradients that they carry.

The length of a path is the number of branches that it passes; a shortcut adds nothing to it, whether it is an
identity, padding or a projection, and a unit without a shortcut is always passed through its branch.
"""

import math
import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from howdeep.chain import Chain, Gates
from howdeep.dissect.backward import Pull, Stream, image_norms, sweep
from howdeep.seeds import derive


def path_counts(chain: Chain, gates: Gates | None = None) -> dict[int, int]:
    """Return how many paths of each length a chain has, exactly: binomial where every unit has a shortcut.

    The product over the units of (1 + z), of z where there is no shortcut, of 1 where the unit is closed.

    Args:
        chain: The network.
        gates: One per unit; None is the chain's own.
    """
    counts = {0: 1}
    for beside, through in _open_ways(chain, gates):
        grown: dict[int, int] = {}
        for length, count in counts.items():
            for more, is_open in ((0, beside), (1, through)):
                if is_open:
                    grown[length + more] = grown.get(length + more, 0) + count
        counts = grown
    return counts


def _open_ways(chain: Chain, gates: Gates | None) -> list[tuple[bool, bool]]:
    """Return, per unit, whether a path can go by the shortcut and whether it can go through the branch."""
    return [
        (unit.merge.passes_shortcut or gate is None, gate not in (None, 0))
        for unit, gate in zip(chain.units, chain.resolve(gates), strict=True)
    ]


def exact_gradients(stream: Stream) -> dict[int, Tensor]:
    """Return the gradient before the first unit, by length: Σ over all paths of that length, exactly.

    g_k ← shortcutᵀ g_k + branchᵀ g_{k−1} at every unit, from the head down. That is one backward pass through each
    branch for every length behind it, n/2 backward passes in all, of which only the half that leads to inputs (not to
    weights) is computed. Memory: the stream at every unit, n + 1 gradients, and one unit's maps.
    """

    def route(_: int, behind: Mapping[int, Tensor], shortcut: Pull, branch: Pull) -> dict[int, Tensor]:
        before: dict[int, Tensor] = {}
        for length, gradient in behind.items():
            for longer, found in ((length, shortcut(gradient)), (length + 1, branch(gradient))):
                if found is not None:
                    before[longer] = before[longer] + found if longer in before else found
        return before

    return sweep(stream, 0, route)


Choice = tuple[bool, ...]
"""Whether a path goes through the branch, at each unit from some place on."""


Scaled = tuple[float, int]
"""m and e of a number m·2ᵉ, which may be outside of the range of floats."""


def path_norms(stream: Stream, paths: Sequence[Choice]) -> list[Scaled]:
    """Return, for single paths, Σ over images of the norm of the image's gradient before the first unit.

    Paths that end alike share the work of their ends, which the backward pass meets first. A gradient that becomes
    small on its way is scaled by a power of two, so that paths through hundreds of branches do not vanish.
    """
    exponents: dict[Choice, int] = {(): 0}

    def route(unit: int, behind: Mapping[Choice, Tensor], shortcut: Pull, branch: Pull) -> dict[Choice, Tensor]:
        before = {}
        for end in dict.fromkeys(path[unit:] for path in paths):
            found = (branch if end[0] else shortcut)(behind[end[1:]])
            assert found is not None, "paths are drawn among those that exist"
            exponent = -math.frexp(float(found.abs().max()))[1] if end[0] else 0
            before[end] = torch.ldexp(found, torch.tensor(exponent)) if exponent else found
            exponents[end] = exponents[end[1:]] + exponent
        return before

    found = sweep(stream, (), route)
    return [(float(image_norms(found[path]).sum()), -exponents[path]) for path in paths]


def draw_paths(chain: Chain, lengths: Sequence[int], draws: int, seed: int) -> list[Choice]:
    """Return paths drawn at random, several of each length: which units they pass through their branches.

    Uniform among the units with both ways; the others leave no choice.
    """
    ways = _open_ways(chain, None)
    forced, free = sum(not beside for beside, _ in ways), [unit for unit, way in enumerate(ways) if all(way)]
    found = []
    for length in lengths:
        for draw in range(draws):
            chosen = random.Random(derive(seed, "paths", length, draw)).sample(free, length - forced)
            found.append(tuple(unit in chosen or not beside for unit, (beside, _) in enumerate(ways)))
    return found
