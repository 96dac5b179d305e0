"""Splits on their way to the device: mini-batches of training and of evaluation."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import tee

import torch
from torch import Tensor

from howdeep.data.augmentation import Augmentation, Draws, draw_epoch, mixed, shift_and_flip
from howdeep.data.dataset import Split, decodes
from howdeep.data.normalization import Normalization
from howdeep.data.workers import START, Request, answers, enough
from howdeep.runtime.device import laid_out, sent

EVALUATED = 500
"""Images of a mini-batch where none is trained."""


@dataclass(frozen=True)
class Batch:
    """One rank's share of a mini-batch."""

    images: Tensor
    """Normalised, float32 of shape (share, channels, height, width)."""
    labels: Tensor
    """Class indices, int64 of shape (share,); of mixed images the share of every class, float of (share, classes)."""
    total: int
    """Number of images in the mini-batch over all ranks."""


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Return how many mini-batches an epoch has; the last, smaller one is kept."""
    return -(-num_images // batch_size)


def training_batches(
    split: Split,
    *,
    normalization: Normalization,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    start_step: int,
    stop_step: int,
    device: torch.device | str,
    classes: int = 0,
    channels_last: bool = False,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield the shuffled, augmented batches of the steps from `start_step` up to, not including, `stop_step`.

    Epochs follow each other; step s belongs to epoch s // `steps_per_epoch`. Within an epoch every image
    comes exactly once, over all ranks. A share is empty where the last batch of an epoch has fewer images
    than there are ranks.

    Args:
        split: The images.
        normalization: Applied before the crop, so that padding is zero for the network.
        augmentation: What is drawn at random.
        batch_size: Size of the mini-batch over all ranks.
        seed: Decides order and augmentation, together with the epoch.
        start_step: The first step.
        stop_step: The step after the last one.
        device: Where normalisation, crops and flips are computed, and where batches lie.
        classes: Of the data, whose shares are the labels of mixed images; without use where none are mixed.
        channels_last: Whether images are laid out with the channels last.
        rank: Which contiguous share of each batch is wanted.
        world: Number of ranks.
        workers: Processes that decode and augment images; ignored where neither is done image by image.

    Raises:
        UserError: An image turned out to be broken when it was decoded.
    """
    if augmentation.crop is not None and (not workers or START == "fork"):
        split.keep(enough(split, augmentation), world)
    constants = normalization.to(device)
    steps = range(start_step, stop_step)
    shares, ahead = tee(_shares(len(split), augmentation, batch_size, seed, steps, rank, world))
    requests = (Request(draws.order, augmentation, draws) for draws, _ in ahead)
    workers = workers if augmentation.per_image or decodes(split) else 0
    for step, (draws, total), pixels in zip(steps, shares, answers(split, requests, workers, device), strict=True):
        images = laid_out(shift_and_flip(constants(pixels), augmentation, draws), channels_last=channels_last)
        labels = sent(split.labels[draws.order], device)
        if augmentation.mixing:
            images, labels = mixed(images, labels, classes, seed=seed, step=step)
        yield Batch(images, labels, total)


def evaluation_batches(
    split: Split,
    *,
    normalization: Normalization,
    batch_size: int = EVALUATED,
    device: torch.device | str = "cpu",
    channels_last: bool = False,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterable[Batch]:
    """Return the images of a split in file order, not augmented; every pass decodes them anew.

    Args:
        split: The images.
        normalization: Applied on the device.
        batch_size: Images per batch over all ranks; the last batch may be smaller.
        device: Where batches lie.
        channels_last: Whether images are laid out with the channels last.
        workers: Processes that decode images; without use, and ignored, for images in memory.
        rank: Which contiguous share of each batch is wanted; it may be empty in the last batch.
        world: Number of ranks.

    Raises:
        UserError: An image turned out to be broken when it was decoded.
    """
    batches = torch.arange(len(split)).split(batch_size)
    shares = [positions[_share(len(positions), rank, world)] for positions in batches]
    workers, constants = workers if decodes(split) else 0, normalization.to(device)

    def once() -> Iterator[Batch]:
        decoded = answers(split, (Request(positions) for positions in shares), workers, device)
        for batch, positions, pixels in zip(batches, shares, decoded, strict=True):
            labels = sent(split.labels[positions], device)
            yield Batch(laid_out(constants(pixels), channels_last=channels_last), labels, len(batch))

    return _Again(once)


@dataclass(frozen=True)
class _Again:
    """What begins anew with every pass."""

    once: Callable[[], Iterator[Batch]]

    def __iter__(self) -> Iterator[Batch]:
        return self.once()


def _share(total: int, rank: int, world: int) -> slice:
    """Return the contiguous part of a batch that belongs to one rank; sizes differ by one at most."""
    return slice(rank * total // world, (rank + 1) * total // world)


def _shares(
    count: int, augmentation: Augmentation, batch_size: int, seed: int, steps: range, rank: int, world: int
) -> Iterator[tuple[Draws, int]]:
    """Yield for every step the draws of one rank's share, and the size of the whole batch."""
    per_epoch = steps_per_epoch(count, batch_size)
    drawn, epoch = -1, None
    for step in steps:
        if epoch is None or drawn != step // per_epoch:
            drawn = step // per_epoch
            epoch = draw_epoch(count, augmentation, seed=seed, epoch=drawn)
        first = step % per_epoch * batch_size
        total = min(batch_size, count - first)
        yield epoch.at(slice(first, first + total)).at(_share(total, rank, world)), total
