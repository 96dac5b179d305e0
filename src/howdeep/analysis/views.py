"""Views of an image, over which what is read of it can be averaged: itself, its mirror image, and both shifted."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from howdeep.util.errors import UserError

VIEWS = 10
"""At most: five, each with its mirror image."""
PART = 16
"""Views are shifted by this part of a side, about as far as the corner crops of 224 pixels lie from the centre of 256
(Krizhevsky et al. 2012)."""


def require_views(count: int, *, flip: bool) -> None:
    """Refuse a number of views that there are not.

    Raises:
        UserError: It is out of range.
    """
    most, why = (VIEWS, "") if flip else (VIEWS // 2, " without mirror images")
    if not 1 <= count <= most:
        raise UserError(f"views {count} is not allowed{why}: 1 to {most}")


def views_of(images: Tensor, count: int, *, flip: bool) -> Iterator[Tensor]:
    """Yield so many views of images, each as large as they are.

    The first is the images as they are. Then come those that are shifted towards the corners by a sixteenth of a side,
    one pixel at least; what enters at the borders is what lies inside, mirrored. Every view is followed by its mirror
    image, if those are wanted.

    Args:
        images: Shape (batch, channels, height, width).
        count: How many views, as :func:`require_views` allows.
        flip: Whether mirror images are among them.
    """
    return islice(_every(images, flip=flip), count)


def _every(images: Tensor, *, flip: bool) -> Iterator[Tensor]:
    for view in _shifted(images):
        yield view
        if flip:
            yield view.flip(3)


def _shifted(images: Tensor) -> Iterator[Tensor]:
    yield images
    height, width = images.shape[2:]
    down, right = (min(side - 1, max(1, side // PART)) for side in (height, width))
    wide = F.pad(images, (right, right, down, down), mode="reflect")
    for y, x in ((0, 0), (2 * down, 2 * right), (0, 2 * right), (2 * down, 0)):
        yield torch.empty_like(images).copy_(wide[:, :, y : y + height, x : x + width])
