"""The images that a cut is measured on: samples of a split, and of the training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from howdeep.analysis.study import SplitBatches
from howdeep.chain import Chain
from howdeep.cutting.options import CutOptions
from howdeep.data import Batch, Dataset, Split, held
from howdeep.data.loaders import Loader, LoaderBatches, batches_of
from howdeep.data.sampling import Sampled, sample, sampled
from howdeep.runs.target import Target, required_normalization

STATISTICS_BATCH = 500
"""Images whose statistics are taken at a time."""


@dataclass(frozen=True)
class Images:
    """What a cut is measured on; all on the device of the network."""

    calibration: Sequence[Batch]
    """Which units go is decided on these, and which of two networks is kept."""
    evaluation: Sequence[Batch]
    """Errors are measured on these."""
    statistics: Sequence[Batch]
    """Norm statistics are estimated on these."""
    samples: Mapping[str, Sampled] = field(default_factory=dict)
    """Which images these are, by purpose, where they are not all of a split."""


def cut_images(target: Target, options: CutOptions, dataset: Dataset, device: torch.device) -> Images:
    """Return what a cut is measured on, on the device.

    Raises:
        UserError: The data has no such split, or it is not known how pixels are normalised.
    """
    training = options.split if dataset.train is None else "train"
    drawn = {
        "calibration": sampled(dataset, options.split, options.calibration_images, options.seed),
        "evaluation": sampled(dataset, options.split, options.limit, options.seed),
        "statistics": sampled(dataset, training, options.statistics_images, options.seed),
    }
    calibration, evaluation, statistics = (split for split, _ in drawn.values())
    chosen_on = split_batches(target, options, calibration, device)
    # The same images are one object, so that they are held, and answered, once.
    same = len(calibration) == len(evaluation)
    size = min(STATISTICS_BATCH, count := len(statistics))
    equal = held(sample(statistics, count - count % size, options.seed))
    return Images(
        calibration=chosen_on,
        evaluation=chosen_on if same else split_batches(target, options, evaluation, device),
        statistics=SplitBatches(equal, required_normalization(target), size, device),
        samples={purpose: which for purpose, (_, which) in drawn.items() if which is not None},
    )


def images_of(chain: Chain, loader: Loader, *, same_classes: bool = True) -> Images:
    """Return the images of a loader for every purpose; the same mini-batches every time, whatever it draws.

    Args:
        chain: The network.
        loader: Labelled images.
        same_classes: Labels must be classes of the network.
    """
    batches = batches_of(chain, loader, same_classes=same_classes)
    batches = list(batches) if isinstance(batches, LoaderBatches) else batches
    return Images(batches, batches, batches)


def split_batches(target: Target, options: CutOptions, split: Split, device: torch.device) -> SplitBatches:
    """Return the images of a split."""
    return SplitBatches(held(split), required_normalization(target), options.batch_size, device)
