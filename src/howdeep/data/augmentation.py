"""What is done at random to training images, drawn for a whole epoch at once from (seed, epoch) alone.

Every position of an epoch has its draw, whatever batch, rank or worker it falls to. Only mixing (mixup, cutmix) takes
several images: its draw is that of the step.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from howdeep.data.dataset import Dataset
from howdeep.runtime.device import sent
from howdeep.util.errors import unknown
from howdeep.util.seeds import derive, generator
from howdeep.util.text import counted

SMALL_SIDE = 64

Flip = Literal["auto", "yes", "no"]
"""What can be asked; ``auto`` is the rule of :func:`augmentation_of`."""
Strength = Literal["auto", "none", "light", "standard", "strong"]
"""What can be asked; ``auto`` is the rule of :func:`augmentation_of`."""

MANY_IMAGES = 10_000
"""Training images from which ``auto`` is ``standard``: fewer are usually trained on for few epochs or from published
weights, where more than ``light`` costs accuracy."""
ERASED = 0.25
"""Probability that an area of an image is erased: a third of it at most, as timm and torchvision have it."""
GRAY = 128
"""What is left of an erased area."""
MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0
"""Of the Beta distributions of the shares, those of torchvision's training scripts."""


@dataclass(frozen=True)
class Augmentation:
    """What is done at random to training images."""

    padding: int = 0
    """Zeros added on each side after normalisation, before the crop to the original size; 4 for CIFAR."""
    flip: bool = False
    """Whether half of the images are mirrored."""
    crop: tuple[float, float] | None = None
    """Smallest and largest share of an image that a random area has, which is resized to the size of the network
    (`RandomResizedCrop`, Szegedy et al. 2015); None: images are as the evaluation sees them."""
    trivial: bool = False
    """One random change of colour, contrast, place or shape, of random strength: `TrivialAugmentWide` (Müller & Hutter
    2021)."""
    erasing: float = 0.0
    """Probability that an area is erased (Zhong et al. 2017)."""
    mixing: bool = False
    """Whether images and labels of a mini-batch are mixed: mixup (Zhang et al. 2017) or cutmix (Yun et al. 2019)."""

    @property
    def per_image(self) -> bool:
        """Whether something is done to one image after the other, which processes of their own can do."""
        return self.crop is not None or self.trivial or self.erasing > 0


STRENGTHS = {
    "none": Augmentation(),
    "light": Augmentation(crop=(0.4, 1.0)),
    "standard": Augmentation(crop=(0.3, 1.0), trivial=True, erasing=ERASED),
    "strong": Augmentation(crop=(0.08, 1.0), trivial=True, erasing=ERASED, mixing=True),
}
"""For large images, flips apart. Small ones are shifted where large ones are cropped."""


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
    """What decides all that is done per image, int64."""

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
    """Shift and mirror normalised images, (batch, channels, height, width), as drawn and where they lie.

    Images that were cropped were mirrored then.
    """
    device = images.device
    if augmentation.padding:
        height, width = images.shape[2:]
        padded = F.pad(images, (augmentation.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (batch, channels, tops, lefts, h, w)
        batch = torch.arange(len(images), device=device)
        images = windows[batch, :, sent(draws.top, device), sent(draws.left, device)]
    if augmentation.flip and augmentation.crop is None:
        mirrored = sent(draws.mirrored, device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
    return images


def augmented(image: Tensor, size: tuple[int, int], augmentation: Augmentation, *, seed: int, mirrored: bool) -> Tensor:
    """Return one image after all that is done per image, decided by the seed alone.

    Args:
        image: uint8 of shape (channels, any height, any width); without a crop, at the size of the network.
        size: Height and width of what the network sees.
        augmentation: What is done.
        seed: Decides area, change and erasing.
        mirrored: Whether a cropped image is mirrored.

    Returns:
        uint8 of shape (channels, height, width).
    """
    crop, change, erase = _transforms(size, augmentation)
    # The transforms draw from the host's default generator. `torch.manual_seed` would reseed CUDA too, which nothing
    # here could restore.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if augmentation.crop is not None:
            box = crop.make_params([image])
            image = image[:, box["top"] : box["top"] + box["height"], box["left"] : box["left"] + box["width"]]
            # Antialiased, as Pillow's is, to one grey level; two to three times as fast.
            image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
            image = image.flip(2) if mirrored else image
        if augmentation.trivial:
            # By Pillow, whose rotations and shears are faster than a tensor's.
            gray, rows = len(image) == 1, image.permute(1, 2, 0).contiguous().numpy()
            changed = np.array(change(Image.fromarray(rows[..., 0] if gray else rows)))
            image = torch.from_numpy(changed[..., None] if gray else changed).permute(2, 0, 1)
        if augmentation.erasing:
            image = erase(image)
    return image


@cache
def _transforms(size: tuple[int, int], augmentation: Augmentation) -> tuple:
    """Return torchvision's random crop, change and erasing."""
    from torchvision.transforms import v2  # costs a second, and only large images need it

    return (
        v2.RandomResizedCrop(size, scale=augmentation.crop or (1.0, 1.0)),
        v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
        v2.RandomErasing(augmentation.erasing, value=GRAY),
    )


def mixed(images: Tensor, labels: Tensor, classes: int, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Mix every image of a mini-batch with the one before it, all in one share: by mixup or cutmix, equally often.

    Of several processes each mixes its own images, in the same share.

    Args:
        images: Normalised, of shape (batch, channels, height, width).
        labels: Class indices, int64 of shape (batch,).
        classes: Number of classes.
        seed: Of the run; decides with the step which of the two, share and area.
        step: Of the run.

    Returns:
        The mixed images, and the share of every class in each, float32 of shape (batch, classes).
    """
    from torchvision.transforms import v2

    if not len(labels):  # of a process without images
        return images, labels
    mixup = v2.MixUp(alpha=MIXUP_ALPHA, num_classes=classes)
    cutmix = v2.CutMix(alpha=CUTMIX_ALPHA, num_classes=classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "mixing", step))
        return v2.RandomChoice([mixup, cutmix])(images, labels)


def augmentation_of(dataset: Dataset, strength: Strength = "auto", flip: Flip = "auto") -> Augmentation:
    """Return what is done to images of this size and number.

    Up to 64 pixels a side, images are shifted by an eighth of the height (4 pixels at 32, as in every CIFAR paper);
    larger ones are cropped at random. ``auto`` is ``light`` for small images, and for large ones where there are fewer
    than 10,000 to train on; else ``standard``.
    """
    chosen = STRENGTHS[strength_of(dataset, strength)]
    flipped = may_flip(dataset.classes, flip) and (flip == "yes" or chosen.crop is not None)
    if chosen.crop is not None and _small(dataset):
        chosen = replace(chosen, crop=None, padding=max(1, round(dataset.height / 8)))
    return replace(chosen, flip=flipped)


def may_flip(classes: Sequence[str], flip: Flip) -> bool:
    """Return whether images of these classes are mirrored.

    Classes that are called by single letters or digits are characters, and a mirrored character is another one: these
    are not, unless that is asked for.
    """
    characters = all(len(name) == 1 and name.isalnum() for name in classes)
    return flip == "yes" or (flip == "auto" and not characters)


def strength_of(dataset: Dataset, strength: Strength) -> str:
    """Return which of :data:`STRENGTHS` is meant; see :func:`augmentation_of`.

    Raises:
        UserError: There is no such name.
    """
    if strength in STRENGTHS:
        return strength
    if strength != "auto":
        raise unknown("augmentation", strength, ["auto", *STRENGTHS])
    many = dataset.train is not None and len(dataset.train) >= MANY_IMAGES
    return "standard" if many and not _small(dataset) else "light"


def _small(dataset: Dataset) -> bool:
    return max(dataset.height, dataset.width) <= SMALL_SIDE


def augmentation_record(dataset: Dataset, strength: Strength = "auto", flip: Flip = "auto") -> dict:
    """Return as plain data what :func:`augmentation_of` gives, what it is called, and what was asked."""
    name, asked = strength_of(dataset, strength), {"augmentation": strength, "flip": flip}
    return {**asdict(augmentation_of(dataset, strength, flip)), "name": name, "asked": asked}


def augmentation_line(dataset: Dataset, strength: Strength = "auto", flip: Flip = "auto") -> str:
    """Return in one line what :func:`augmentation_of` gives, and why: by the number of images, and without flips."""
    drawn, name = augmentation_of(dataset, strength, flip), strength_of(dataset, strength)
    parts = described(drawn)
    if not drawn.flip and name != "none":
        why = "classes are single letters or digits; --flip yes mirrors them" if flip == "auto" else "--flip no"
        parts.append(f"no flips ({why})")
    line = f"augmentation: {', '.join(parts) or 'none'}"
    if strength != "auto":
        return f"{line} (--augmentation {name})"
    if _small(dataset) or dataset.train is None:
        return line
    amount = "fewer than" if name == "light" else "at least"
    return f"{line} ({name}, for {amount} {MANY_IMAGES:,} training images)"


def described(augmentation: Augmentation) -> list[str]:
    """Return in a few words each what is done at random."""
    parts = [f"shifts by up to {counted(augmentation.padding, 'pixel')}"] if augmentation.padding else []
    if augmentation.crop is not None:
        smallest, largest = (round(100 * share) for share in augmentation.crop)
        parts.append(f"random resized crops of {smallest} to {largest} %")
    parts += ["flips"] if augmentation.flip else []
    parts += ["TrivialAugment"] if augmentation.trivial else []
    parts += [f"erasing in {100 * augmentation.erasing:.0f} %"] if augmentation.erasing else []
    return parts + (["mixup or cutmix"] if augmentation.mixing else [])
