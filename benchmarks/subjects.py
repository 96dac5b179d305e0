"""The public networks and CIFAR-10, as the dissections of this folder read them."""

from pathlib import Path

import torch

from common import SHARED
from howdeep.analysis.study import SplitBatches
from howdeep.data import open_data
from howdeep.data.sampling import sample
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import Target, open_target

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES = {"cifar_resnet20": "resnet20-12fca82f.th", "cifar_resnet56": "resnet56-4bfd9763.th"}
CIFAR10 = SHARED / "data" / "cifar10"


def public(name: str) -> Target:
    """Return a public trained network."""
    return open_target(TargetOptions(target=name, weights=weights(name), mean=MEAN, std=STD), report=print)


def weights(name: str) -> Path:
    """Return the file of a public network."""
    return SHARED / "weights" / FILES[name]


def first_images(target: Target, *, batch_size: int, limit: int | None = None) -> SplitBatches:
    """Return the test images as a network reads them."""
    split = sample(open_data(str(CIFAR10)).split("test"), limit, seed=0)
    assert target.normalization is not None
    return SplitBatches(split, target.normalization, batch_size, torch.device("cpu"))
