"""What a source lists before anything is decoded: encoded images with labels and names."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from torch import Tensor


class Images:
    """Images that are still encoded (JPEG, PNG, …), opened one at a time.

    These are classes and not closures because worker processes receive them.
    """

    def stream(self, index: int) -> BinaryIO:
        """Return the encoded bytes of one image as a file, to be closed by the caller.

        Raises:
            BadImage: There are none.
        """
        raise NotImplementedError

    def length(self, index: int) -> int:
        """Return the number of those bytes; raises as `stream`."""
        with self.stream(index) as stream:
            return stream.seek(0, os.SEEK_END)


@dataclass(frozen=True)
class Listing:
    """The encoded images of one split, as a source found them."""

    images: Images
    """The encoded images."""
    labels: Tensor
    """Class indices, int64 of shape (n,)."""
    names: Sequence[str]
    """Where each image came from."""


@dataclass(frozen=True)
class Source:
    """What lies where a user said, before anything is decoded."""

    name: str
    """What the data is called."""
    classes: tuple[str, ...]
    """Class names in the order of the labels."""
    parts: Mapping[str, Listing]
    """Listings by split: some of `train`, `validation`, `test`, never none."""
    notes: tuple[str, ...] = ()
    """What was ignored or decided while listing."""


@dataclass(frozen=True)
class Problem:
    """An image that cannot be used, and why."""

    name: str
    """Where the image is."""
    split: str
    """The split it belongs to."""
    kind: str
    """One of `empty`, `not an image`, `broken`, `oversized`, `unreadable`, `unsupported`."""
    reason: str
    """What was found, in a few words."""
