"""A sample of a split: so many images, every class with its share, drawn by seed.

Files come class by class, so that the first N of them would often be of one class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Literal

import torch
from torch import Tensor

from howdeep.data.dataset import Dataset, Split
from howdeep.util.errors import UserError
from howdeep.util.options import SPLIT_NAMES
from howdeep.util.seeds import generator


@dataclass(frozen=True)
class Sampled:
    """Which images of a split were taken, where not all were."""

    split: str
    """``train``, ``validation`` or ``test``."""
    images: int
    """How many."""
    of: int
    """Images of the split."""
    seed: int
    """By which they were drawn."""
    classes: int
    """Classes that they show."""
    of_classes: int
    """Classes of the data."""
    rule: Literal["stratified"] = "stratified"
    """Every class keeps its share, and at least one image where there are as many images as classes."""

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.images:,} of {self.of:,} {self.split} images: a stratified sample by seed {self.seed}, of"
            f" {self.classes} of {self.of_classes} classes"
        )


def sampled(dataset: Dataset, name: str, count: int | None, seed: int) -> tuple[Split, Sampled | None]:
    """Return so many images of a split, and which; None where they are all.

    Raises:
        UserError: The data has no such split.
    """
    whole = dataset.split(name)
    taken = sample(whole, count, seed)
    if len(taken) == len(whole):
        return whole, None
    classes = len(taken.labels.unique())
    return taken, Sampled(SPLIT_NAMES[name], len(taken), len(whole), seed, classes, len(dataset.classes))


def sample(split: Split, count: int | None, seed: int) -> Split:
    """Return so many images of a split, in file order, every class with its share; the split itself where that is all.

    A larger sample of the same seed holds a smaller one, but for single images where shares are rounded.
    """
    if count is None or count >= len(split):
        return split
    return split.take(sample_positions(split.labels, count, seed))


def shuffled(split: Split, seed: int) -> Split:
    """Return a split in an order by seed: a batch in file order shows few classes, and so do statistics of it."""
    return split.take(torch.randperm(len(split), generator=generator(seed, "mixed")))


def sample_positions(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return ``count`` positions of labels, int64 of shape (count,), ascending.

    Args:
        labels: Class indices, int64 of shape (n,).
        count: How many, at most n.
        seed: Decides which images of a class, and which classes where equal shares cannot be kept.
    """
    random = generator(seed, "sample")
    values, sizes = labels.unique(return_counts=True)
    ties = torch.rand(len(values), generator=random, dtype=torch.float64).tolist()
    shares = _shares(sizes.tolist(), count, ties)
    parts = []
    for value, share in zip(values.tolist(), shares, strict=True):
        positions = torch.nonzero(labels == value).flatten()
        parts.append(positions[torch.randperm(len(positions), generator=random)[:share]])
    return torch.cat(parts).sort().values


def _shares(sizes: Sequence[int], count: int, ties: Sequence[float]) -> list[int]:
    """Return how many images each class gives: its share, rounded by the largest remainder, and at least one."""
    total, least = sum(sizes), int(count >= len(sizes))
    quotas = [count * size / total for size in sizes]
    shares = [max(least, int(quota)) for quota in quotas]
    missing = count - sum(shares)
    step = 1 if missing > 0 else -1
    # What lacks most of its share receives first, or what has most above it gives, but not its last image.
    queue = [(step * (share - quotas[i]), ties[i], i) for i, share in enumerate(shares) if step > 0 or share > least]
    heapify(queue)
    for _ in range(abs(missing)):
        _, tie, i = heappop(queue)
        shares[i] += step
        if step > 0 or shares[i] > least:
            heappush(queue, (step * (shares[i] - quotas[i]), tie, i))
    return shares


def trainable(dataset: Dataset, limit: int | None = None, seed: int = 0) -> Dataset:
    """Return the data with a sample of its train split only, if a classifier can be trained on it.

    Args:
        dataset: The data.
        limit: The number of training images; None keeps all.
        seed: By which they are drawn.

    Raises:
        UserError: There is no train split, all its images have one class, or they are fewer than the classes.
    """
    whole, unused = dataset.split("train"), dataset.unused
    train, which = sampled(dataset, "train", limit, seed)
    if limit is not None and which is not None:
        left = torch.ones(len(whole), dtype=torch.bool)
        left[sample_positions(whole.labels, limit, seed)] = False
        unused = whole.take(torch.nonzero(left).flatten())
    for name in ("validation", "test"):
        if getattr(dataset, name) is None:
            raise UserError(f"{dataset.name} has no {name} images, and no class is large enough to hold some out")
    images = f"the {len(train)} training images"
    if len(dataset.classes) == 1:
        raise UserError(f"{dataset.name} has one class, {dataset.classes[0]!r}: there is nothing to tell apart")
    if len(train) < len(dataset.classes):
        raise UserError(f"{images} of {dataset.name} are fewer than its {len(dataset.classes)} classes")
    labels = train.labels.unique().tolist()
    if len(labels) < 2:
        raise UserError(f"{images} of {dataset.name} are all of one class, {dataset.classes[labels[0]]!r}")
    notes = (*dataset.notes, *([str(which)] if which else []))
    return replace(dataset, train=train, unused=unused, notes=notes)
