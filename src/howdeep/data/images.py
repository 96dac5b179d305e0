"""What a source lists before anything is decoded: encoded images with labels and names, and a pass over all of them."""

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import torch
from torch import Tensor

from howdeep.data.decoding import BadImage, quiet_pillow
from howdeep.util.errors import UserError
from howdeep.util.options import processors
from howdeep.util.text import counted

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")
DIGEST_BYTES = 8


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


def refuse(place: str, problems: Sequence[Problem]) -> None:
    """Stop with the first few names when images cannot be used.

    Raises:
        UserError: There is at least one problem.
    """
    if not problems:
        return
    first = "; ".join(f"{problem.name} ({problem.kind}: {problem.reason})" for problem in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    images = counted(len(problems), "image")
    raise UserError(f"{place}: {images} cannot be used: {first}{more}; remove them, or give --skip-broken")


def visit(
    listing: Listing, split: str, rows: Sequence[int], function: Callable[[int, BinaryIO], T], *, threads: int = 1
) -> tuple[dict[int, T], dict[int, Problem]]:
    """Apply a function to the row and the encoded bytes of images.

    Args:
        listing: The images.
        split: What a problem says of where it is.
        rows: Which images.
        function: May raise BadImage.
        threads: See `spread`.

    Returns:
        What the function returned, and the images that cannot be used, each by row in the order of the rows.
    """

    def visited(row: int) -> T | Problem:
        try:
            with listing.images.stream(row) as stream:
                return function(row, stream)
        except BadImage as error:
            return Problem(listing.names[row], split, error.kind, error.reason)

    found: dict[int, T] = {}
    problems: dict[int, Problem] = {}
    with quiet_pillow():
        for row, one in zip(rows, spread(visited, rows, threads=threads), strict=True):
            if isinstance(one, Problem):
                problems[row] = one
            else:
                found[row] = one
    return found, problems


def spread(function: Callable[[int], T], rows: Sequence[int], *, threads: int) -> Iterator[T]:
    """Apply a function to every row, in order, in blocks over threads.

    Threads pay where Pillow decodes large images, since its decoders release the interpreter's lock. For
    headers and for small images the lock is most of the work: 10,000 CIFAR JPEGs decode in 0.43 s alone and in
    0.53 s with two threads on two cores.
    """
    if threads == 1:
        yield from map(function, rows)
        return
    blocks = [rows[start : start + 64] for start in range(0, len(rows), 64)]
    with ThreadPoolExecutor(threads) as pool:
        for block in pool.map(lambda block: [function(row) for row in block], blocks):
            yield from block


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

    return torch.tensor(list(spread(digest, rows, threads=processors())), dtype=torch.int64)
