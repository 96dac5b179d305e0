"""Data from which something can be learnt."""

from dataclasses import replace

import torch

from howdeep.data.records import Dataset
from howdeep.data.sampling import sample_positions, sampled
from howdeep.errors import UserError


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
    found = train.labels.unique().tolist()
    if len(found) < 2:
        raise UserError(f"{images} of {dataset.name} are all of one class, {dataset.classes[found[0]]!r}")
    notes = (*dataset.notes, *([str(which)] if which else []))
    return replace(dataset, train=train, unused=unused, notes=notes)
