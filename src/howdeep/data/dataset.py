"""What the rest of the package sees of data: labelled images in splits.

There is one type of split; how its images are kept is behind it (`storage`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from howdeep.data.images import Problem
from howdeep.data.storage import Decoded, Encoded, free_bytes
from howdeep.util.errors import UserError
from howdeep.util.options import SPLIT_NAMES, check_split

HELD_BYTES = 320_000_000
"""Pixels that one split holds at most: 2,125 colour images of 224×224."""


@dataclass(frozen=True)
class Split:
    """One of train, validation and test: labelled images that can be fetched by position."""

    images: Decoded | Encoded
    """All images of the listing, shared by the splits that are cut from it."""
    rows: Tensor
    """The rows of `images` that belong to this split, int64 of shape (n,)."""
    labels: Tensor
    """Class indices, int64 of shape (n,), on the host."""
    names: Sequence[str]
    """Where each image came from: a relative path, or `train.parquet#17`."""
    digests: Tensor | None = None
    """What each image is, int64 of shape (n,): of the bytes that it is decoded from; None where they were not read."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network sees."""
        return self.images.shape

    def pixels(self, indices: Tensor) -> Tensor:
        """Return images as the evaluation sees them: resized by the policy, not augmented.

        Args:
            indices: Positions in this split, int64 of shape (k,).

        Returns:
            uint8 of shape (k, channels, height, width), on the host.

        Raises:
            UserError: An image is broken.
        """
        return self.images.pixels(self.rows[indices])

    def whole(self, index: int, least: float) -> Tensor:
        """Return one image before it is brought to the size of the network, or at that size where it is held so.

        Args:
            index: Position in this split.
            least: Pixels that are enough (see `decoding.decode`).

        Returns:
            uint8 of shape (channels, any height, any width), on the host; not to be written to.

        Raises:
            UserError: The image is broken.
        """
        return self.images.whole(int(self.rows[index]), least)

    def keep(self, least: float, processes: int = 1) -> None:
        """Keep every image that :meth:`whole` decodes from now on, if all of the split fit into memory.

        Args:
            least: Pixels that are enough.
            processes: How many on this machine do the same.
        """
        if isinstance(self.images, Encoded):
            self.images.keep(self.rows, least, free_bytes() // processes)

    def take(self, positions: Tensor) -> "Split":
        """Return the split of these positions; pixels are shared, not copied."""
        names = [self.names[i] for i in positions.tolist()]
        digests = None if self.digests is None else self.digests[positions]
        return replace(self, rows=self.rows[positions], labels=self.labels[positions], names=names, digests=digests)

    def digests_at(self, positions: Tensor) -> Tensor:
        """Return the digests of images by position; their bytes are read, unless they were before."""
        return self.images.digests(self.rows[positions]) if self.digests is None else self.digests[positions]


@dataclass(frozen=True)
class Dataset:
    """Labelled images in up to three splits, all of one shape."""

    name: str
    """What the data is called in tables and records."""
    classes: tuple[str, ...]
    """Class names; a label is a position in this tuple."""
    channels: int
    """1 for grayscale, 3 for colour."""
    height: int
    """Rows of pixels the network sees."""
    width: int
    """Columns of pixels the network sees."""
    train: Split | None
    """What parameters are fitted to; `None` where the data holds nothing to train on."""
    validation: Split | None
    """What choices are made by."""
    test: Split | None
    """What is read once, at the end."""
    bits: int = 16
    """How many bits the values of 16-bit grayscale images are taken to use."""
    notes: tuple[str, ...] = ()
    """Decisions worth printing, such as `validation: stratified 10 % of train, seed 0`."""
    skipped: tuple[Problem, ...] = ()
    """The broken images that were left out on request."""
    unused: Split | None = None
    """Images that are in no split: training images beyond a limit, copies of images that are held out."""
    changes: tuple[str, ...] = ()
    """Those of the notes that say how the images differ from the recorded ones of a run."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network sees."""
        return self.channels, self.height, self.width

    def split(self, name: str) -> Split:
        """Return the split a user means by `train`, `val`, `validation` or `test`.

        Raises:
            UserError: There is no such name, or this data set has no such split.
        """
        check_split(name)
        split: Split | None = getattr(self, SPLIT_NAMES[name])
        if split is None:
            present = [field for field in ("train", "validation", "test") if getattr(self, field) is not None]
            raise UserError(f"{self.name} has no {SPLIT_NAMES[name]} split; it has {', '.join(present)}")
        return split


def decodes(split: Split) -> bool:
    """Return whether every access to the images of a split decodes them."""
    return isinstance(split.images, Encoded) and not split.images.limit


def held(split: Split, limit: int = HELD_BYTES) -> Split:
    """Return a split whose images are decoded once; those that do not fit any more, whenever they are asked for.

    Args:
        split: The images; a split that holds them already stays as it is.
        limit: Bytes of pixels that are held.
    """
    if isinstance(split.images, Encoded) and not split.images.limit:
        return replace(split, images=replace(split.images, limit=limit, held={}))
    return split


def content_keys(parts: Mapping[str, Split]) -> dict[str, Tensor]:
    """Return numbers, by part, that are equal where and only where images are.

    Bytes that were not read yet are read only where another image has as many of them: of photographs that is almost
    none.
    """
    if all(part.digests is not None for part in parts.values()):
        return {name: part.digests for name, part in parts.items() if part.digests is not None}
    lengths: dict[str, list[int]] = {}
    for name, part in parts.items():
        assert isinstance(part.images, Encoded), "images are decoded with their digests"
        lengths[name] = [part.images.length(row) for row in part.rows.tolist()]
    often = Counter(length for several in lengths.values() for length in several)
    keys = {name: torch.tensor(several, dtype=torch.int64) for name, several in lengths.items()}
    for name, part in parts.items():
        alike = torch.tensor([i for i, length in enumerate(lengths[name]) if often[length] > 1], dtype=torch.int64)
        keys[name][alike] = part.digests_at(alike)
    return keys
