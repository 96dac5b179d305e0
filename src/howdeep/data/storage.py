"""How the images of a split are kept: decoded in one tensor, or encoded and decoded whenever they are asked for.

Encoded ones may stay in memory from then on: as the network sees them (`Encoded.limit`), or, for random crops, before
they are resized (`Shelf`).
"""

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from howdeep.data.decoding import BadImage, decode, reduction
from howdeep.data.images import BytesImages, Images, digests_of
from howdeep.data.view import View
from howdeep.util.errors import UserError

SHELF_BYTES = 4_000_000_000
"""Pixels that are kept at most; more images than that are decoded whenever they are used."""


class Shelf:
    """Decoded images that all processes of a loader see: whoever decodes one first puts it where all find it.

    The memory is anonymous and shared. It belongs to no file system, costs nothing where nothing was written, and
    processes that are forked afterwards see it without a copy. Every image has a place of its own, so nobody waits for
    anybody: two processes that decode the same image write the same bytes.

    Args:
        shapes: Height, width and channels of every image, by row.
    """

    def __init__(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        self._places: dict[int, np.ndarray] = {}
        self._number = {row: number for number, row in enumerate(shapes)}
        self._filled = mmap.mmap(-1, max(1, len(shapes)))
        memory, start = mmap.mmap(-1, max(1, sum(map(math.prod, shapes.values())))), 0
        for row, shape in shapes.items():
            self._places[row] = np.ndarray(shape, np.uint8, memory, start)
            start += math.prod(shape)

    def __reduce__(self) -> tuple:
        # A process that is not forked gets none of the memory: it decodes for itself.
        return Shelf, ({},)

    def __contains__(self, row: int) -> bool:
        """Return whether there is a place for an image."""
        return row in self._places

    def get(self, row: int) -> np.ndarray | None:
        """Return an image, uint8 of shape (height, width, channels), if it is there; not to be written to."""
        number = self._number.get(row)
        return self._places[row] if number is not None and self._filled[number] else None

    def put(self, row: int, image: np.ndarray) -> None:
        """Keep an image that has a place; one of another shape than was declared is not kept."""
        if row in self._places and self._places[row].shape == image.shape:
            self._places[row][...] = image
            self._filled[self._number[row]] = 1


def free_bytes() -> int:
    """Return the memory that images may take: half of what is free, and no more than :data:`SHELF_BYTES`."""
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return SHELF_BYTES
    return min(SHELF_BYTES, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


@dataclass(frozen=True)
class Decoded:
    """Images that were decoded once and lie in one tensor."""

    tensor: Tensor
    """uint8 of shape (all rows, channels, height, width)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.tensor.shape[1:]
        return channels, height, width

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row."""
        return self.tensor[rows]

    def whole(self, row: int, least: float) -> Tensor:
        """Return an image at the size at which it is held."""
        return self.tensor[row]

    def digests(self, rows: Tensor) -> Tensor:
        """Return the digests of the pixels, as the encoded bytes are gone."""
        blobs = [image.numpy().tobytes() for image in self.pixels(rows)]
        return digests_of(BytesImages(blobs), range(len(blobs)))


@dataclass(frozen=True)
class Encoded:
    """Images that are too large to be held decoded: every access opens and decodes the file, unless they are kept."""

    images: Images
    """All encoded images of the listing."""
    view: View
    """The shape every image is brought to."""
    names: Sequence[str]
    """Where each image came from."""
    sizes: np.ndarray | None = None
    """Height and width that each declares, upright, int32 of shape (all rows, 2); zeros where no header was read."""
    limit: int = 0
    """Bytes of pixels that are held, once they were decoded."""
    held: dict[int, np.ndarray] = field(default_factory=dict)
    """Those pixels, by row."""
    shelves: dict[float, Shelf] = field(default_factory=dict)
    """Images that are kept before they are resized, by the pixels that are enough."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.view.channels, self.view.height, self.view.width

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row, resized by the policy."""
        stacked = np.empty((len(rows), *self.shape), np.uint8)
        for slot, row in zip(stacked, rows.tolist(), strict=True):
            if row in self.held:
                slot[...] = self.held[row]
                continue
            with self._opened(row) as stream:
                slot[...] = self.view.read(stream)
            if (len(self.held) + 1) * slot.nbytes <= self.limit:
                self.held[row] = slot.copy()
        return torch.from_numpy(stacked)

    def whole(self, row: int, least: float) -> Tensor:
        """Return an image before it is resized; see `Split.whole`."""
        shelf = self.shelves.get(least)
        image = shelf.get(row) if shelf is not None else None
        if image is None:
            with self._opened(row) as stream:
                # A copy, as Pillow's own memory is read-only.
                image = np.array(decode(stream, self.view.channels, self.view.bits, least=least))
            image = image if image.ndim == 3 else image[..., None]
            if shelf is not None:
                shelf.put(row, image)
        return torch.from_numpy(image).permute(2, 0, 1)

    def keep(self, rows: Tensor, least: float, limit: int) -> None:
        """Keep every image of these rows that is decoded from now on, if all fit; see `Split.keep`."""
        wanted = rows.tolist()
        if self.sizes is None or (least in self.shelves and all(row in self.shelves[least] for row in wanted)):
            return
        shapes = {}
        for row, (height, width) in zip(wanted, self.sizes[wanted].tolist(), strict=True):
            factor = reduction(width, height, least)
            shapes[row] = (-(-height // factor), -(-width // factor), self.view.channels)
        if sum(map(math.prod, shapes.values())) <= limit:
            self.shelves[least] = Shelf(shapes)

    @contextmanager
    def _opened(self, row: int) -> Iterator[BinaryIO]:
        try:
            with self.images.stream(row) as stream:
                yield stream
        except BadImage as error:
            raise UserError(f"{self.names[row]} cannot be used: {error}") from error

    def digests(self, rows: Tensor) -> Tensor:
        """Return the digests of the bytes, which are read now."""
        try:
            return digests_of(self.images, rows.tolist())
        except BadImage as error:
            raise UserError(f"an image cannot be read any longer: {error}") from error

    def length(self, row: int) -> int:
        """Return the number of bytes of an image, which are not read; below 0, no two equal, of unreadable ones."""
        try:
            return self.images.length(row)
        except BadImage:
            return -1 - row
