"""Data from which something can be learnt."""

from dataclasses import replace

import torch

from howdeep.data.records import Dataset
from howdeep.errors import UserError


def trainable(dataset: Dataset, limit: int | None = None) -> Dataset:
    """Return the data with the first images of its train split only, if a classifier can be trained on them.

    Args:
        dataset: The data.
        limit: The number of training images, in file order; None keeps all.

    Raises:
        UserError: There is no train split, all its images have one class, or they are fewer than the classes.
    """
    train = dataset.split("train")
    for name in ("validation", "test"):
        if getattr(dataset, name) is None:
            raise UserError(f"{dataset.name} has no {name} images, and no class is large enough to hold some out")
    if limit is not None:
        train = train.take(torch.arange(min(limit, len(train))))
    first = f"the first {len(train)} training images" if limit is not None else f"the {len(train)} training images"
    if len(dataset.classes) == 1:
        raise UserError(f"{dataset.name} has one class, {dataset.classes[0]!r}: there is nothing to tell apart")
    if len(train) < len(dataset.classes):
        raise UserError(f"{first} of {dataset.name} are fewer than its {len(dataset.classes)} classes")
    found = train.labels.unique().tolist()
    if len(found) < 2:
        raise UserError(f"{first} of {dataset.name} are all of one class, {dataset.classes[found[0]]!r}")
    return replace(dataset, train=train)
