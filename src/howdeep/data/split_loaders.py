"""The splits of a data set as loaders: for :func:`howdeep.train` on a chain, for analyses, and for code of others."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from howdeep.data.augmentation import Augmentation, Flip, Strength, augmentation_of
from howdeep.data.batches import EVALUATED, evaluation_batches, steps_per_epoch, training_batches
from howdeep.data.dataset import Split
from howdeep.data.normalization import Normalization, normalization_of, per_channel
from howdeep.data.sampling import sample, trainable
from howdeep.data.sources import open_data


class SplitLoader:
    """The images of a split as a loader of this package: ``(images, labels)``, normalised float32 and class indices.

    Args:
        split: The images.
        classes: Names of the classes.
        normalization: Of the pixels.
        batch_size: Images of a mini-batch; the last one may be smaller.
        workers: Processes that decode large images.
        seed: By which each pass is shuffled and augmented anew.
        augmentation: What is done at random; None leaves the images as they are, in their order.
    """

    def __init__(
        self,
        split: Split,
        classes: tuple[str, ...],
        normalization: Normalization,
        *,
        batch_size: int,
        workers: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.split, self.classes, self.normalization = split, classes, normalization
        self.batch_size, self.workers, self.seed, self.augmentation = batch_size, workers, seed, augmentation
        self.epoch = 0
        """Passes that were begun, the number of the next one."""

    def __len__(self) -> int:
        return steps_per_epoch(len(self.split), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.epoch += 1
        return self.of_epoch(self.epoch - 1)

    def plain(self, count: int, seed: int) -> "SplitLoader":
        """Return a loader of so many of the images at most, a stratified sample by seed, not augmented."""
        split = sample(self.split, count, seed)
        return SplitLoader(split, self.classes, self.normalization, batch_size=EVALUATED, workers=self.workers)

    def of_epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one pass, which the seed and its number decide where images are shuffled and augmented."""
        first = epoch * len(self)
        if self.augmentation is None:
            batches = evaluation_batches(
                self.split, normalization=self.normalization, batch_size=self.batch_size, workers=self.workers
            )
        else:
            batches = training_batches(
                self.split,
                normalization=self.normalization,
                augmentation=self.augmentation,
                batch_size=self.batch_size,
                seed=self.seed,
                start_step=first,
                stop_step=first + len(self),
                device="cpu",
                classes=len(self.classes),
                workers=self.workers,
            )
        for batch in batches:
            yield batch.images, batch.labels


class Loaders(NamedTuple):
    """The package's own loaders of one data set."""

    train: SplitLoader
    """Shuffled and augmented, each pass anew by seed."""
    validation: SplitLoader
    test: SplitLoader


def loaders(
    data: str | Path,
    *,
    size: int | None = None,
    resize: str = "crop",
    channels: int | None = None,
    batch_size: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augmentation: Strength = "auto",
    flip: Flip = "auto",
    limit: int | None = None,
    skip_broken: bool = False,
    workers: int = 2,
    seed: int = 0,
) -> Loaders:
    """Return the training, validation and test images of a data set as loaders.

    Args:
        data: ``digits``, an image folder, a Parquet file or folder, or ``hf:owner/name``.
        size: Side of the images in pixels; None leaves it to the images.
        resize: What happens to images that are not square: ``crop``, ``pad`` or ``squash``.
        channels: 1 or 3; None leaves it to the images.
        batch_size: Images of a mini-batch.
        mean: Subtracted from pixels in [0, 1], per channel, as for published weights; None is the training images'.
        std: What they are divided by.
        augmentation: What is done to training images at random (see ``howdeep train``).
        flip: Whether half of them are mirrored.
        limit: Only so many training images, a stratified sample.
        skip_broken: Leave broken images out instead of raising.
        workers: Processes that decode large images.
        seed: Of splits that are held out, sample, order and augmentation.

    Raises:
        UserError: The data cannot be used, or trained on; mean and std do not fit.
    """
    opened = open_data(data, size=size, resize=resize, channels=channels, seed=seed, skip_broken=skip_broken)
    dataset = trainable(opened, limit, seed)
    train = dataset.split("train")
    constants = normalization_of(mean, std, dataset.channels) or per_channel(train)
    drawn = augmentation_of(dataset, augmentation, flip)
    sizes = {"batch_size": batch_size, "workers": workers}
    make = partial(SplitLoader, classes=dataset.classes, normalization=constants, **sizes)
    validation, test = (make(dataset.split(name)) for name in ("validation", "test"))
    return Loaders(make(train, seed=seed, augmentation=drawn), validation, test)
