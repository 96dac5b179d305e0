"""Random crops and flips, drawn for a whole epoch at once from (seed, epoch) alone.

Every position of an epoch has its draw, whatever batch, rank or worker it falls to.
"""

from dataclasses import asdict, dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from howdeep.data.dataset import Dataset
from howdeep.runtime.device import sent
from howdeep.util.seeds import generator

SMALL_SIDE = 64

Flip = Literal["auto", "yes", "no"]
"""What can be asked; ``auto`` is the rule of :func:`default_augmentation`."""


@dataclass(frozen=True)
class Augmentation:
    """What is done at random to training images."""

    padding: int = 0
    """Zeros added on each side after normalisation, before the crop to the original size; 4 for CIFAR."""
    flip: bool = False
    """Whether half of the images are mirrored."""
    resized_crop: bool = False
    """Whether a random area is resized to the size of the network: for images that are decoded on demand."""


@dataclass(frozen=True)
class Draws:
    """The random numbers of consecutive positions of one epoch, each of shape (positions,)."""

    order: Tensor
    """Which image is at each position, int64."""
    top: Tensor
    """First row of the crop in the padded image, int64 in [0, 2·padding]."""
    left: Tensor
    """First column of the crop in the padded image, int64 in [0, 2·padding]."""
    mirrored: Tensor
    """Whether the image is flipped, bool."""
    seeds: Tensor
    """What decides the resized crop, int64."""

    def at(self, positions: slice | Tensor) -> "Draws":
        """Return the draws of some positions of the epoch."""
        return Draws(*(getattr(self, field.name)[positions] for field in fields(self)))


def draw_epoch(num_images: int, augmentation: Augmentation, *, seed: int, epoch: int) -> Draws:
    """Draw order and augmentation of one epoch; the order does not depend on the augmentation."""
    random = generator(seed, "epoch", epoch)
    offsets = 2 * augmentation.padding + 1
    return Draws(
        order=torch.randperm(num_images, generator=random),
        top=torch.randint(offsets, (num_images,), generator=random),
        left=torch.randint(offsets, (num_images,), generator=random),
        mirrored=torch.rand(num_images, generator=random) < (0.5 if augmentation.flip else 0.0),
        seeds=torch.randint(2**62, (num_images,), generator=random),
    )


def shift_and_flip(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Crop and mirror normalised images, (batch, channels, height, width), as drawn and where they lie."""
    device = images.device
    if augmentation.padding:
        height, width = images.shape[2:]
        padded = F.pad(images, (augmentation.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (batch, channels, tops, lefts, h, w)
        batch = torch.arange(len(images), device=device)
        images = windows[batch, :, sent(draws.top, device), sent(draws.left, device)]
    if augmentation.flip:
        mirrored = sent(draws.mirrored, device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
    return images


def default_augmentation(dataset: Dataset, flip: Flip = "auto") -> Augmentation:
    """Return what is usual for images of this size.

    Up to 64 pixels a side: shifts by an eighth of the height (4 pixels at 32, as in every CIFAR paper) and
    flips. Larger ones: random resized crops and flips. Classes that are called by single letters or digits
    are characters, and a mirrored character is another one: these are not flipped, unless that is asked for.
    """
    characters = all(len(name) == 1 and name.isalnum() for name in dataset.classes)
    flipped = {"auto": not characters, "yes": True, "no": False}[flip]
    if max(dataset.height, dataset.width) > SMALL_SIDE:
        return Augmentation(flip=flipped, resized_crop=True)
    return Augmentation(padding=max(1, round(dataset.height / 8)), flip=flipped)


def augmentation_record(dataset: Dataset, flip: Flip) -> dict:
    """Return as plain data what :func:`default_augmentation` gives, and what was asked."""
    return {**asdict(default_augmentation(dataset, flip)), "asked": flip}


def augmentation_line(dataset: Dataset, flip: Flip) -> str:
    """Return in one line what :func:`default_augmentation` gives, and why images are not flipped."""
    drawn = default_augmentation(dataset, flip)
    pixels = f"{drawn.padding} pixel{'s' if drawn.padding > 1 else ''}"
    moved = "random resized crops" if drawn.resized_crop else f"shifts by up to {pixels}"
    why = "classes are single letters or digits; --flip yes mirrors them" if flip == "auto" else "--flip no"
    return f"augmentation: {moved}, {'flips' if drawn.flip else f'no flips ({why})'}"
