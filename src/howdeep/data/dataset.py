"""What the rest of the package sees of data: labelled images in splits.

There is one type of split. What differs is how its images are kept: decoded in one tensor, encoded and decoded
whenever they are asked for, or encoded with those in memory that were asked for before.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from howdeep.data.decoding import BadImage, View, decode, reduction, render
from howdeep.data.images import BytesImages, digests_of
from howdeep.data.listing import Images, Problem
from howdeep.data.shelf import Shelf, free_bytes
from howdeep.util.errors import UserError, unknown

HELD_BYTES = 320_000_000
"""Pixels that one split holds at most: 2,125 colour images of 224×224."""
SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""The names a user may give a split, and the field of `Dataset` each one means."""


@dataclass(frozen=True)
class Split:
    """One of train, validation and test: labelled images that can be fetched by position."""

    images: "Decoded | Encoded | Held"
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

    def split(self, name: str) -> Split:
        """Return the split a user means by `train`, `val`, `validation` or `test`.

        Raises:
            UserError: There is no such name, or this data set has no such split.
        """
        if name not in SPLIT_NAMES:
            raise unknown("split", name, SPLIT_NAMES)
        split: Split | None = getattr(self, SPLIT_NAMES[name])
        if split is None:
            present = [field for field in ("train", "validation", "test") if getattr(self, field) is not None]
            raise UserError(f"{self.name} has no {SPLIT_NAMES[name]} split; it has {', '.join(present)}")
        return split


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
    """Images that are too large to hold decoded: every access opens and decodes the file, unless they are kept."""

    images: Images
    """All encoded images of the listing."""
    view: View
    """The shape every image is brought to."""
    names: Sequence[str]
    """Where each image came from."""
    sizes: np.ndarray | None = None
    """Height and width that each declares, upright, int32 of shape (all rows, 2); zeros where no header was read."""
    shelves: dict[float, Shelf] = field(default_factory=dict)
    """Images that are kept, by the pixels that are enough."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.view.channels, self.view.height, self.view.width

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row, resized by the policy."""
        stacked = np.empty((len(rows), *self.shape), np.uint8)
        for slot, row in zip(stacked, rows.tolist(), strict=True):
            with self._named(row):
                slot[...] = render(self._decoded(row), self.view)
        return torch.from_numpy(stacked)

    def whole(self, row: int, least: float) -> Tensor:
        """Return an image before it is resized; see `Split.whole`."""
        shelf = self.shelves.get(least)
        image = shelf.get(row) if shelf is not None else None
        if image is None:
            with self._named(row):
                image = np.array(self._decoded(row, least))  # a copy, as Pillow's own memory is read-only
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

    def _decoded(self, row: int, least: float | None = None) -> Image.Image:
        with self.images.stream(row) as stream:
            return decode(stream, self.view.channels, self.view.bits, least=least)

    @contextmanager
    def _named(self, row: int) -> Iterator[None]:
        try:
            yield
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


@dataclass(frozen=True)
class Held:
    """Encoded images, of which those that were decoded stay in memory as far as they fit."""

    encoded: Encoded
    """Where the others are decoded."""
    limit: int
    """Bytes of pixels that are held."""
    pixels_of: dict[int, Tensor] = field(default_factory=dict)
    """Pixels by row."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.encoded.shape

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row."""
        wanted = rows.tolist()
        missing = list(dict.fromkeys(row for row in wanted if row not in self.pixels_of))
        fresh = dict(zip(missing, self.encoded.pixels(torch.tensor(missing, dtype=torch.int64)), strict=True))
        for row, image in fresh.items():
            if (len(self.pixels_of) + 1) * image.nbytes <= self.limit:
                # A copy: what does not fit is not kept alive by what does.
                self.pixels_of[row] = image.clone()
        images = [self.pixels_of[row] if row in self.pixels_of else fresh[row] for row in wanted]
        return torch.stack(images) if images else self.encoded.pixels(rows)

    def whole(self, row: int, least: float) -> Tensor:
        """Return an image before it is resized; see `Split.whole`."""
        return self.encoded.whole(row, least)

    def digests(self, rows: Tensor) -> Tensor:
        """Return the digests of the bytes, which are read now."""
        return self.encoded.digests(rows)


def decodes(split: Split) -> bool:
    """Return whether every access to the images of a split decodes them."""
    return isinstance(split.images, Encoded)


def held(split: Split, limit: int = HELD_BYTES) -> Split:
    """Return a split whose images are decoded once; those that do not fit any more, whenever they are asked for.

    Args:
        split: The images; a split that holds them already stays as it is.
        limit: Bytes of pixels that are held.
    """
    return replace(split, images=Held(split.images, limit)) if isinstance(split.images, Encoded) else split


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
