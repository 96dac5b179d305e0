"""What can be read of images at every depth of a network, in one pass; and where so many numbers are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from howdeep.chain import Chain, run
from howdeep.convert.classifier import read_last
from howdeep.runtime.parts import parts_of
from howdeep.transform.pooling import pooled
from howdeep.transform.truncation import cut_points
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole

TOGETHER = 2**21
"""Pixels of images of which all that heads read is held at a time: 41 of 224 a side."""
SAME = 1e-4
"""Largest difference, relative to the largest number, of two ways to read that are one."""
REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError)
"""What a head raises that does not read activations of some shape."""


@dataclass(frozen=True)
class Place:
    """Where in a network features are read."""

    units: int
    """Units before it."""
    by_head: bool
    """Whether they are what the classifier of the network would read there; else the average over space."""
    features: int
    """Numbers per image."""


def activations(chain: Chain, images: Tensor) -> Iterator[Tensor]:
    """Yield the activations at every cut point; who goes on may change them in place."""
    x, steps = chain.stem(images), chain.steps()
    for start, stop in pairwise([0, *cut_points(chain)]):
        x = run(steps[start:stop], x)
        yield x


@torch.no_grad()
def places_of(chain: Chain, image: Tensor) -> tuple[Place, ...]:
    """Return every place of a network where features can be read, from the stem to the end.

    That is every cut point, with the activations averaged over space; where the head accepts them, also what the
    classifier of the network would read there; and last the end, what it reads behind all units. A head that only
    averages gives no second place, and no cut point beside the end.

    Args:
        chain: The network, in evaluation mode.
        image: One, shape (1, channels, height, width).

    Raises:
        UserError: Activations are of a shape that has no average.
    """
    places, last = [], len(chain)
    for units, x in enumerate(activations(chain, image)):
        average, read = _average(x, units), _by_head(chain.head, x, end=units == last)
        alike = read is not None and read.shape == average.shape and _close(read, average)
        if units < last or not alike:
            places.append(Place(units, False, average.shape[1]))
        if read is not None and (units == last or not alike):
            places.append(Place(units, True, read.shape[1]))
    return tuple(places)


@torch.no_grad()
def read_at(chain: Chain, places: Sequence[Place], images: Tensor, autocast: torch.autocast) -> Tensor:
    """Return what is read of images at some places, side by side in their order: float32, on the host.

    Args:
        chain: The network, in evaluation mode.
        places: As :func:`places_of` found them, or some of those; units behind the last one are not computed.
        images: Shape (batch, channels, height, width).
        autocast: Precision of the units; a head computes in the type of the images.
    """
    return torch.cat([_read_at(chain, places, part, autocast) for part in parts_of(chain, images, TOGETHER)])


def _read_at(chain: Chain, places: Sequence[Place], images: Tensor, autocast: torch.autocast) -> Tensor:
    """Read of few images at a time; heads compute for all, as they have more weights than activations."""
    kept: list[list[Tensor]] = [[] for _ in places]
    last, whole = places[-1].units, len(chain)
    for part in parts_of(chain, images):
        with autocast:
            for units, x in enumerate(activations(chain, part)):
                with torch.autocast(x.device.type, enabled=False):
                    for place, several in zip(places, kept, strict=True):
                        if place.units == units:
                            wide = x.to(images.dtype)
                            several.append(wide.clone() if place.by_head else pooled(wide))
                if units == last:
                    break
    columns = []
    for place, several in zip(places, kept, strict=True):
        x = torch.cat(several)
        read = _by_head(chain.head, x, end=place.units == whole) if place.by_head else x
        assert read is not None, "a head that accepts one image accepts all of that shape"
        columns.append(read)
    return torch.cat(columns, 1).float().cpu()


def _average(x: Tensor, units: int) -> Tensor:
    try:
        return pooled(x)
    except UserError as error:
        raise UserError(f"there is nothing to read behind {units} units: {error}") from None


def _by_head(head: nn.Module, x: Tensor, *, end: bool) -> Tensor | None:
    """Return what the classifier reads of activations, or None; at the end the logits where it is no single layer."""
    x = x.clone()  # which a head may change in place
    if end:
        read = read_last(head, x.clone())
        return head(x) if read is None else read
    try:
        return read_last(head, x)
    except REFUSALS:
        return None


def _close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= SAME * float(one.abs().max())


@dataclass(frozen=True)
class Rows:
    """Numbers of many images, block by block: in memory, or as files of a folder that are mapped, not read."""

    width: int
    """Numbers of an image."""
    folder: Path | None = None
    """Where the blocks are; None holds them."""
    _held: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __contains__(self, block: int) -> bool:
        return block in self._held if self.folder is None else (self.folder / f"{block}").is_file()

    def put(self, block: int, rows: Tensor) -> None:
        """Keep a block, float32 of shape (images, width).

        Raises:
            SaveError: The disk is full.
        """
        if self.folder is None:
            self._held[block] = rows
        else:
            self.folder.mkdir(exist_ok=True)
            write_whole(self.folder / f"{block}", rows.contiguous().numpy().tobytes())

    def columns(self, blocks: Sequence[int], start: int, width: int) -> Tensor:
        """Return some numbers of the images of some blocks, float32 of shape (images, width)."""
        return torch.cat([self._block(block)[:, start : start + width] for block in blocks])

    def _block(self, block: int) -> Tensor:
        if self.folder is None:
            return self._held[block]
        place = self.folder / f"{block}"
        return torch.from_file(str(place), size=place.stat().st_size // 4).view(-1, self.width)
