"""Decoded images in memory that all processes of a loader see: whoever decodes one first puts it where all find it.

The memory is anonymous and shared. It belongs to no file system, costs nothing where nothing was written, and processes
that are forked afterwards see it without a copy. Every image has a place of its own, so nobody waits for anybody: two
processes that decode the same image write the same bytes.
"""

import math
import mmap
import os
from collections.abc import Mapping

import numpy as np

SHELF_BYTES = 4_000_000_000
"""Pixels that are kept at most; more images than that are decoded whenever they are used."""


class Shelf:
    """Places for images of known shapes.

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
