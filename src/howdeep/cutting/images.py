"""The images that a cut is measured on: samples of a split, and of the training images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from howdeep.analysis.inference import required_normalization
from howdeep.analysis.study import SplitBatches
from howdeep.cutting.options import CutOptions
from howdeep.data import Batch, Dataset, Split, held
from howdeep.data.sampling import Sampled, sample, sampled
from howdeep.runs.target import Target

STATISTICS_BATCH = 500
"""Images whose statistics are taken at a time."""


@dataclass(frozen=True)
class Images:
    """What a cut is measured on; all on the device of the network."""

    calibration: Sequence[Batch]
    """Which units go is decided on these, and which of two networks is kept."""
    evaluation: Sequence[Batch]
    """Errors are measured on these."""
    statistics: Sequence[Tensor]
    """Norm statistics are estimated on these."""


def cut_images(target: Target, options: CutOptions, dataset: Dataset, device: torch.device) -> Images:
    """Return what a cut is measured on, on the device.

    Raises:
        UserError: The data has no such split, or it is not known how pixels are normalised.
    """
    splits = {purpose: split for purpose, (split, _) in _samples(options, dataset).items()}
    calibration = split_batches(target, options, splits["calibration"], device)
    # The same images are one object, so that they are held, and answered, once.
    same = len(splits["calibration"]) == len(splits["evaluation"])
    size = min(STATISTICS_BATCH, count := len(splits["statistics"]))
    equal = held(sample(splits["statistics"], count - count % size, options.seed))
    return Images(
        calibration=calibration,
        evaluation=calibration if same else split_batches(target, options, splits["evaluation"], device),
        statistics=_Pixels(SplitBatches(equal, required_normalization(target), size, device)),
    )


def cut_samples(options: CutOptions, dataset: Dataset) -> dict[str, Sampled]:
    """Return which images a cut is measured on, by purpose, where they are not all of a split."""
    return {purpose: which for purpose, (_, which) in _samples(options, dataset).items() if which is not None}


def _samples(options: CutOptions, dataset: Dataset) -> dict[str, tuple[Split, Sampled | None]]:
    """Return the images of each purpose, and which they are where they are not all of a split."""
    training = options.split if dataset.train is None else "train"
    return {
        "calibration": sampled(dataset, options.split, options.calibration_images, options.seed),
        "evaluation": sampled(dataset, options.split, options.limit, options.seed),
        "statistics": sampled(dataset, training, options.statistics_images, options.seed),
    }


def test_batches(target: Target, options: CutOptions, dataset: Dataset, device: torch.device) -> SplitBatches | None:
    """Return the images of the test split, or None where there is none, or units were chosen on it already."""
    if dataset.test is None or options.split == "test":
        return None
    return split_batches(target, options, dataset.test, device)


def split_batches(target: Target, options: CutOptions, split: Split, device: torch.device) -> SplitBatches:
    """Return the images of a split."""
    return SplitBatches(held(split), required_normalization(target), options.batch_size, device)


@dataclass(frozen=True)
class _Pixels(Sequence[Tensor]):
    """Batches without their labels, read when they are asked for."""

    batches: SplitBatches

    def __len__(self) -> int:
        return len(self.batches)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        read = self.batches[index]
        return [batch.images for batch in read] if isinstance(read, list) else read.images
