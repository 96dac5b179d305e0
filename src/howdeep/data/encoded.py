"""Encoded images as they lie on disk or in Arrow: where a stream of bytes for image i comes from.

These are classes and not closures because worker processes receive them.
"""

import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from howdeep.data.decode import BadImage
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
