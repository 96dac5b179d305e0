"""The nearest neighbour: an image has the class of the training image whose features point the same way."""

import torch
from torch import Tensor
from torch.nn import functional as F

from howdeep.analysis.linear import Features

PAIRS = 2**24
"""Of images that are compared at a time."""


def wrong_by_neighbour(train: Features, images: Features) -> Tensor:
    """Return which images the nearest training image gives another class, bool of shape (images,).

    Nearest by the cosine of features that were standardised, each by mean and standard deviation of the training
    images; features that are constant there say nothing.
    """
    deviation, mean = torch.std_mean(train.values.double(), 0, correction=0)
    scale = torch.where(deviation > 0, 1 / deviation, 0)

    def directions(values: Tensor) -> Tensor:
        return F.normalize(((values - mean) * scale).float())

    known = directions(train.values).T
    at_a_time = max(1, PAIRS // len(train.labels))
    nearest = torch.cat([(directions(part) @ known).argmax(1) for part in images.values.split(at_a_time)])
    return train.labels[nearest] != images.labels
