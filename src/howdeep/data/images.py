"""Encoded images as they lie on disk or in Arrow: where a stream of bytes for image i comes from.

These are classes and not closures because worker processes receive them.
"""

import hashlib
import io
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import torch
from torch import Tensor

from howdeep.data.decoding import BadImage, spread
from howdeep.data.records import Images

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class FileImages:
    """One file per image."""

    paths: Sequence[Path]
    """The files, in the order of the labels."""

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def stream(self, index: int) -> BinaryIO:
        """Open one file.

        Raises:
            BadImage: The file cannot be opened, or is something else than a regular file.
        """
        return open_regular(self.paths[index])

    def length(self, index: int) -> int:
        """Return the size of one file in bytes.

        Raises:
            BadImage: There is no such file.
        """
        try:
            return os.stat(self.paths[index]).st_size
        except OSError as error:
            raise BadImage("unreadable", error.strerror or type(error).__name__) from error


@dataclass(frozen=True)
class BytesImages:
    """Encoded images that are held in memory."""

    blobs: Sequence[bytes]
    """One encoded image each."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.blobs)

    def stream(self, index: int) -> BinaryIO:
        """Return one image as a file in memory."""
        return io.BytesIO(self.blobs[index])

    def length(self, index: int) -> int:
        """Return the number of bytes of one image."""
        return len(self.blobs[index])


@dataclass(frozen=True)
class ArrowImages:
    """Encoded images in Arrow columns, read in place: Parquet in memory, or a memory-mapped hub set."""

    contents: "pyarrow.ChunkedArray"
    """Encoded bytes; null where the image is a file of its own."""
    paths: "pyarrow.ChunkedArray | None" = None
    """Files to read where the bytes are null; given only for sources whose paths can be trusted."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.contents)

    def stream(self, index: int) -> BinaryIO:
        """Return one image as a file in memory.

        Raises:
            BadImage: The row holds no image.
        """
        content = self.contents[index]
        if content.is_valid:
            return io.BytesIO(content.as_buffer())
        path = self.paths[index].as_py() if self.paths is not None else None
        if path is None:
            raise BadImage("empty", "the row holds no bytes")
        return open_regular(Path(path))

    def length(self, index: int) -> int:
        """Return the number of bytes of one image.

        Raises:
            BadImage: The row holds no image.
        """
        with self.stream(index) as stream:
            return stream.seek(0, os.SEEK_END)


@dataclass(frozen=True)
class PickedImages:
    """Some of the images of another listing."""

    images: Images
    """All of them."""
    rows: Sequence[int]
    """Which; in the order of the labels."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def stream(self, index: int) -> BinaryIO:
        """Open one image, as the other listing does."""
        return self.images.stream(self.rows[index])

    def length(self, index: int) -> int:
        """Return the number of bytes of one image."""
        return self.images.length(self.rows[index])


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


DIGEST_BYTES = 8


class Part(Protocol):
    """Images of one listing, encoded."""

    @property
    def digests(self) -> Tensor | None:
        """Int64 of shape (n,); None where the bytes were not read."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def lengths(self) -> Tensor:
        """Return the number of bytes of every image, int64 of shape (n,), without reading them."""
        ...

    def digests_at(self, positions: Tensor) -> Tensor:
        """Return the digests of images by position; their bytes are read."""
        ...


def digest_of(stream: BinaryIO) -> int:
    """Return the digest of an image, and leave its stream at the start."""
    stream.seek(0)
    found = hashlib.blake2b(stream.read(), digest_size=DIGEST_BYTES).digest()
    stream.seek(0)
    return int.from_bytes(found, "little", signed=True)


def digests_of(images: Images, rows: Sequence[int]) -> Tensor:
    """Return the digests of some rows, int64 of shape (rows,).

    Raises:
        BadImage: A file can no longer be opened.
    """

    def digest(row: int) -> int:
        with images.stream(row) as stream:
            return digest_of(stream)

    return torch.tensor(list(spread(digest, rows, threads=os.cpu_count() or 1)), dtype=torch.int64)


def content_keys(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Return numbers, by part, that are equal where and only where images are.

    Bytes that were not read yet are read only where another image has as many of them: of photographs that is almost
    none.
    """
    if all(part.digests is not None for part in parts.values()):
        return {name: part.digests for name, part in parts.items() if part.digests is not None}
    keys = {name: part.lengths() for name, part in parts.items()}
    often = Counter(length for found in keys.values() for length in found.tolist())
    for name, part in parts.items():
        alike = torch.tensor(
            [i for i, length in enumerate(keys[name].tolist()) if often[length] > 1], dtype=torch.int64
        )
        keys[name][alike] = part.digests_at(alike)
    return keys
