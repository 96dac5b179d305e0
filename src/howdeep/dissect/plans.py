"""What a lesion study changes: one unit out, several out, two exchanged, one twice. Draws are seeded."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from howdeep.chain import Chain, run
from howdeep.dissect.routes import Route, intact, places, without
from howdeep.errors import UserError
from howdeep.seeds import derive

Kind = Literal["delete", "random", "pairs", "permute", "duplicate"]


@dataclass(frozen=True)
class Change:
    """One change of a network, and the route that carries it out."""

    route: Route
    """The way of the images."""
    units: tuple[int, ...]
    """The units that are out, or run twice, counted from 1; for an exchange, the new order of all units."""
    k: int
    """How many units are out, or how many exchanges were made."""
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
    """Exchange two units of equal shape at random, k times over, for k = 1 … max_k, several times each.

    Raises:
        UserError: No two units have equal shapes.
    """
    pairs = [
        (first, second)
        for group in alike(chain, images)
        for first, second in combinations(group, 2)
    ]  # fmt: skip
    if not pairs:
        raise UserError("no two units of this network have equal shapes, so that none can change places")
    asked = [(k, draw) for k in range(1, max_k + 1) for draw in range(draws)]
    return [_exchanged(chain, pairs, k, draw, seed) for k, draw in asked]


def duplicate(chain: Chain, images: Tensor) -> list[Change]:
    """Run each unit twice in a row, where its output has the shape of its input."""
    route, at = intact(chain), places(chain)
    able = sorted(index for group in alike(chain, images) for index in group)
    return [Change((*route[: at[i] + 1], route[at[i]], *route[at[i] + 1 :]), (i + 1,), 1, 0) for i in able]


def _out(chain: Chain, units: Sequence[int], draw: int) -> Change:
    at = places(chain)
    route = without(intact(chain), [at[unit] for unit in units])
    return Change(route, tuple(unit + 1 for unit in units), len(units), draw)


def _exchanged(chain: Chain, pairs: Sequence[tuple[int, int]], k: int, draw: int, seed: int) -> Change:
    order, stream = list(range(len(chain))), _stream(seed, "permute", k, draw)
    for first, second in stream.choices(pairs, k=k):
        order[first], order[second] = order[second], order[first]
    route, at = intact(chain), places(chain)
    moved = {at[position]: route[at[unit]] for position, unit in enumerate(order)}
    return Change(
        tuple(moved.get(place, step) for place, step in enumerate(route)), tuple(unit + 1 for unit in order), k, draw
    )


@torch.inference_mode()
def alike(chain: Chain, images: Tensor) -> list[list[int]]:
    """Return the units whose output has the shape of their input, those of one shape together."""
    x, groups, index = chain.stem(images[:1]), {}, 0
    for step, is_unit in zip(chain.steps(), _is_unit(chain), strict=True):
        y = run([step], x)
        if is_unit and y.shape == x.shape:
            groups.setdefault(tuple(x.shape), []).append(index)
        x, index = y, index + is_unit
    return list(groups.values())


def _is_unit(chain: Chain) -> list[bool]:
    at = set(places(chain))
    return [place in at for place in range(len(chain.body))]


def _stream(seed: int, *parts: int | str) -> random.Random:
    return random.Random(derive(seed, "lesion", *parts))
