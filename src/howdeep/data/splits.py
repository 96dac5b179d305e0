"""Which images are trained on and which are held out: the splits of data, those that it lacks drawn by seed."""

from collections.abc import Mapping

import torch
from torch import Tensor

from howdeep.util.seeds import generator

HELD_OUT = 0.1
"""Share of the train split for each split that the data lacks."""

Plan = dict[str, tuple[str, Tensor]]
"""By split, the existing split that its images lie in, and their positions there."""


def stratified(labels: Tensor, parts: int, seed: int, keys: Tensor | None = None) -> list[Tensor]:
    """Cut positions into `parts` held-out sets of 10 % of each class, and the rest.

    A class of three or more images gives at least one to each held-out set and keeps at least one. Images that are
    equal are drawn as one, and lie on one side.

    Args:
        labels: Class indices, int64 of shape (n,).
        parts: How many held-out sets.
        seed: Which images go where.
        keys: Numbers that are equal where images are (see `dataset.content_keys`); None where all differ.

    Returns:
        The rest first, then the held-out sets; ascending positions, disjoint, together all of them.
    """
    random, count = generator(seed, "splits"), len(labels)
    values, group = (torch.arange(count) if keys is None else keys).unique(return_inverse=True)
    # The first position of each group of equals stands for all of them.
    first = torch.full((len(values),), count).scatter_reduce(0, group, torch.arange(count), "amin")[group]
    drawn, side = first == torch.arange(count), torch.zeros_like(labels)
    for label in labels.unique().tolist():
        positions = torch.nonzero((labels == label) & drawn).flatten()
        positions = positions[torch.randperm(len(positions), generator=random)]
        share = min(max(1, round(HELD_OUT * len(positions))), max(0, len(positions) - 1) // parts)
        pieces = positions.split([len(positions) - parts * share] + [share] * parts)
        for number, piece in enumerate(pieces):
            side[piece] = number
    side = side[first]
    return [torch.nonzero(side == number).flatten() for number in range(parts + 1)]


def three_splits(labels: Mapping[str, Tensor], keys: Mapping[str, Tensor], seed: int) -> tuple[Plan, list[str]]:
    """Plan which images make up train, validation and test.

    What the data has is kept, but images that are training images too are in no other split. What it lacks is held
    out from its train split, if there is one and a class of it is large enough.

    Args:
        labels: Class indices of the splits that exist, by name.
        keys: Numbers that are equal where images are, by the same names (see `dataset.content_keys`).
        seed: Which images are held out.

    Returns:
        The plan, and what to tell the user.
    """
    plan, notes = {name: (name, torch.arange(len(own))) for name, own in labels.items()}, []
    if "train" not in labels:
        return plan, notes
    for name in [name for name in plan if name != "train"]:
        seen = torch.isin(keys[name], keys["train"])
        if seen.any():
            notes.append(f"{name}: {counted(int(seen.sum()), 'image')} left out, found in train as well")
            plan[name] = (name, torch.nonzero(~seen).flatten())
            if seen.all():
                del plan[name]
    missing = [name for name in ("validation", "test") if name not in plan]
    if not missing:
        return plan, notes
    rest, *held_out = stratified(labels["train"], len(missing), seed, keys["train"])
    if not len(held_out[0]):
        least = len(missing) + 1
        return plan, [*notes, f"no {' or '.join(missing)} images: that needs a class of at least {least} in train"]
    plan |= {name: ("train", positions) for name, positions in zip(("train", *missing), (rest, *held_out), strict=True)}
    plan = {name: plan[name] for name in ("train", "validation", "test")}
    return plan, [*notes, *(f"{name}: stratified 10 % of train, seed {seed}" for name in missing)]


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as ``2 images``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
