"""Encoded images as they lie on disk or in Arrow: where the bytes of image i come from, and their digests."""

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from howdeep.data.decoding import BadImage, spread
from howdeep.data.listing import Images

if TYPE_CHECKING:
    import pyarrow

DIGEST_BYTES = 8


@dataclass(frozen=True)
class FileImages(Images):
    """One file per image."""

    paths: Sequence[Path]
    """The files, in the order of the labels."""

    def stream(self, index: int) -> BinaryIO:
        return open_regular(self.paths[index])

    def length(self, index: int) -> int:
        try:
            return os.stat(self.paths[index]).st_size
        except OSError as error:
            raise BadImage("unreadable", error.strerror or type(error).__name__) from error


@dataclass(frozen=True)
class BytesImages(Images):
    """Encoded images that are held in memory."""

    blobs: Sequence[bytes]
    """One encoded image each."""

    def stream(self, index: int) -> BinaryIO:
        return io.BytesIO(self.blobs[index])


@dataclass(frozen=True)
class ArrowImages(Images):
    """Encoded images in Arrow columns, read in place: Parquet in memory, or a memory-mapped hub set."""

    contents: "pyarrow.ChunkedArray"
    """Encoded bytes; null where the image is a file of its own."""
    paths: "pyarrow.ChunkedArray | None" = None
    """Files to read where the bytes are null; given only for sources whose paths can be trusted."""

    def stream(self, index: int) -> BinaryIO:
        content = self.contents[index]
        if content.is_valid:
            return io.BytesIO(content.as_buffer())
        path = self.paths[index].as_py() if self.paths is not None else None
        if path is None:
            raise BadImage("empty", "the row holds no bytes")
        return open_regular(Path(path))


@dataclass(frozen=True)
class PickedImages(Images):
    """Some of the images of another listing."""

    images: Images
    """All of them."""
    rows: Sequence[int]
    """Which; in the order of the labels."""

    def stream(self, index: int) -> BinaryIO:
        return self.images.stream(self.rows[index])


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; opening a named pipe would wait for ever.

    Raises:
        BadImage: The file cannot be opened, or is something else.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BadImage("unreadable", "not a regular file")
        return open(path, "rb")
    except OSError as error:
        raise BadImage("unreadable", error.strerror or type(error).__name__) from error


def digest_of(stream: BinaryIO) -> int:
    """Return the digest of an image, and leave its stream at the start."""
    stream.seek(0)
    digest = hashlib.blake2b(stream.read(), digest_size=DIGEST_BYTES).digest()
    stream.seek(0)
    return int.from_bytes(digest, "little", signed=True)


def digests_of(images: Images, rows: Sequence[int]) -> Tensor:
    """Return the digests of some rows, int64 of shape (rows,).

    Raises:
        BadImage: A file can no longer be opened.
    """

    def digest(row: int) -> int:
        with images.stream(row) as stream:
            return digest_of(stream)

    return torch.tensor(list(spread(digest, rows, threads=os.cpu_count() or 1)), dtype=torch.int64)
