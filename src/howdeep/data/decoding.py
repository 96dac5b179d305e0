"""Encoded bytes → uint8 pixels of one shape, the same on every machine, or a named refusal.

Every mode has one documented way to the network (`to_channels`); nothing else is guessed:

| mode | becomes |
| --- | --- |
| 1, L | grayscale |
| I;16 (16-bit grayscale) | v · 255 / (2^bits − 1), rounded and cut off at 255; bits: those that the data set uses |
| P, PA (palette), RGB, YCbCr, CMYK | colour by Pillow's own formula (no colour profile is applied) |
| LA, RGBA and every other transparency | composited on white first |
| I, F, LAB, … | refused: their range is not declared, or the conversion needs a profile |

Of an animation or a multi-page file the first frame is used. EXIF orientation is applied.
"""

import math
import os
import statistics
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from howdeep.data.listing import Listing, Problem
from howdeep.util.errors import UserError, unknown

MAX_PIXELS = 64_000_000
"""Images that declare more are refused before anything is decoded: 64 megapixels are 192 MB of RGB."""

# Named, so that a file never starts one of Pillow's interpreters (EPS calls Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
GRAY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16L", "I;16B"})
MODES = GRAY_MODES | {"P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "CMYK"}

# What Pillow's decoders raise on damaged bytes: its documentation promises OSError only, its code does not
# keep to it.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

BITS = (8, 10, 12, 14, 16)
"""How many bits sensors give; files of 16 bits hold them all."""
WHOLE_BITS = BITS[-1]


class BadImage(ValueError):
    """An image that cannot be used.

    Attributes:
        kind: One of the kinds of `listing.Problem`.
        reason: What was found, in a few words.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True)
class Crop:
    """How timm and torchvision evaluate published weights: shorter side to ⌊size / share⌋, then the centre.

    The pixels are theirs to the bit: the whole image is resized, which costs 1 / share² of what its centre would.
    """

    share: float
    """Of the resized shorter side that the network sees, above 0 and at most 1."""
    interpolation: str
    """As Pillow calls it: bilinear, bicubic, …"""

    def __post_init__(self) -> None:
        known = [method.name.lower() for method in Image.Resampling]
        if not 0 < self.share <= 1:
            raise UserError(f"crop share {self.share} is not allowed: it must be above 0 and at most 1")
        if self.interpolation not in known:
            raise unknown("interpolation", self.interpolation, known)

    def shorter(self, size: tuple[int, int]) -> int:
        """Return the shorter side of the whole resized image in pixels."""
        return math.floor(min(size) / self.share + 1e-6)  # a share may come from a division

    def __call__(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Return the centre of a resized image, of width and height ``size``.

        Raises:
            ValueError: The image is so thin that it would be huge.
        """
        short = self.shorter(size)
        whole = short * image.width // min(image.size), short * image.height // min(image.size)
        if whole[0] * whole[1] > MAX_PIXELS:
            raise ValueError(f"resized it would have {whole[0] * whole[1]:,} pixels")
        left, top = (round((side - seen) / 2) for side, seen in zip(whole, size, strict=True))
        resized = image.resize(whole, Image.Resampling[self.interpolation.upper()])
        return resized.crop((left, top, left + size[0], top + size[1]))


@dataclass(frozen=True)
class View:
    """The shape in which a network sees every image, and how an image gets there."""

    channels: int
    """1 or 3."""
    height: int
    """Rows of pixels."""
    width: int
    """Columns of pixels."""
    policy: str
    """One of `RESIZE`: `crop`, `pad` or `squash`; unused where an image has this size already."""
    bits: int = WHOLE_BITS
    """How many bits of 16 the values of 16-bit grayscale images use (see `bits_of`)."""
    crop: Crop | None = None
    """Instead of the policy `crop`, what published weights were evaluated with."""


@dataclass(frozen=True)
class Header:
    """What an image declares before it is decoded."""

    width: int
    """Columns of pixels, after EXIF orientation."""
    height: int
    """Rows of pixels, after EXIF orientation."""
    mode: str
    """Pillow's name of the pixel format."""
    peak: int | None = None
    """The largest value, of 16-bit images alone: for it they are decoded."""


RESIZE: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": lambda image, size: ImageOps.fit(image, size, method=Image.Resampling.BILINEAR),
    "pad": lambda image, size: ImageOps.pad(image, size, method=Image.Resampling.BILINEAR, color=0),
    "squash": lambda image, size: image.resize(size, Image.Resampling.BILINEAR),
}
"""Resizing policies, antialiased bilinear. Crop: shorter side to size, centre. Pad: letterbox in black."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Turn Pillow's warning about huge images into an error and drop its remarks on odd metadata.

    The filters of `warnings` belong to the process, so this is entered once around a pass over many images,
    in the main thread, never per image.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(stream: BinaryIO) -> Image.Image:
    """Read the header of an image and refuse what must not or cannot be decoded.

    Raises:
        BadImage: Empty, not an image, oversized, of an unsupported mode, or damaged in the header.
    """
    if stream.seek(0, os.SEEK_END) == 0:
        raise BadImage("empty", "zero bytes")
    stream.seek(0)
    try:
        image = Image.open(stream, formats=FORMATS)
    except BOMB as error:
        raise BadImage("oversized", f"declares more than {MAX_PIXELS // 10**6} megapixels") from error
    except UnidentifiedImageError as error:
        raise BadImage("not an image", "no known image format") from error
    except DAMAGE as error:
        raise BadImage("broken", _reason(error)) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage("oversized", f"declares {width}×{height} pixels, the limit is {MAX_PIXELS // 10**6} megapixels")
    if image.mode not in MODES:
        raise BadImage(
            "unsupported", f"mode {image.mode} has no conversion to 8 bits; known: {', '.join(sorted(MODES))}"
        )
    return image


def read_header(stream: BinaryIO) -> Header:
    """Return what an image declares, and find truncation without decoding where the format allows.

    JPEG and PNG end in a fixed marker; where it is missing, and for all other formats, the image is decoded,
    since bytes after the end are legal and harmless.

    Raises:
        BadImage: The image cannot be used.
    """
    image = open_image(stream)
    width, height = image.size
    if _orientation(image) >= 5:
        width, height = height, width
    mode, wide = image.mode, image.mode.startswith("I;16") or ";16" in str(getattr(image, "tile", ""))
    if wide or not _ends_properly(image.format, stream):
        _load(image)
    if not wide:
        return Header(width, height, mode)
    # Of 16-bit colour Pillow keeps the upper byte: the peak is the largest that it may be.
    peak = int(np.asarray(image).max())
    return Header(width, height, mode, peak if image.mode.startswith("I;16") else 256 * peak + 255)


def bits_of(peak: int) -> int:
    """Return the fewest of `BITS` that hold a value."""
    return next(bits for bits in BITS if peak < 2**bits)


def _orientation(image: Image.Image) -> int:
    # A PNG that has its EXIF behind the pixels would be decoded for it, so only what the header gave is read.
    if "exif" not in image.info and image.format != "TIFF":
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except DAMAGE:
        return 1


def _ends_properly(kind: str | None, stream: BinaryIO) -> bool:
    endings = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB\x60\x82"}
    if kind not in endings:
        return False
    here = stream.tell()
    stream.seek(-len(endings[kind]), os.SEEK_END)
    tail = stream.read()
    stream.seek(here)
    return tail == endings[kind]


def _load(image: Image.Image) -> None:
    """Decode the pixels of an opened image."""
    try:
        image.load()
    except BOMB as error:
        raise BadImage("oversized", "a frame declares too many pixels") from error
    except DAMAGE as error:
        raise BadImage("broken", _reason(error)) from error


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def decode(stream: BinaryIO, channels: int, bits: int = WHOLE_BITS, *, least: float | None = None) -> Image.Image:
    """Return the upright image of one file in mode L (one channel) or RGB (three).

    Args:
        stream: The file.
        channels: 1 or 3.
        bits: See `View`.
        least: Pixels that are enough: the image is reduced by the `reduction` that leaves as many. JPEG is decoded at
            that scale, for which half of the work or less is left; everything else is averaged over squares.

    Raises:
        BadImage: The image cannot be used.
    """
    image = open_image(stream)
    factor = 1 if least is None else reduction(*image.size, least)
    if factor > 1 and image.draft(None, (image.width // factor, image.height // factor)):
        factor = 1
    _load(image)
    try:
        ImageOps.exif_transpose(image, in_place=True)
        image = to_channels(image, channels, bits)
        return image.reduce(factor) if factor > 1 else image
    except DAMAGE as error:
        raise BadImage("broken", _reason(error)) from error


def reduction(width: int, height: int, least: float) -> int:
    """Return by how much each side can be divided, 1, 2, 4 or 8, so that so many pixels are left."""
    return next((factor for factor in (8, 4, 2) if width * height >= factor**2 * least), 1)


def to_channels(image: Image.Image, channels: int, bits: int = WHOLE_BITS) -> Image.Image:
    """Convert any of `MODES` to L or RGB by the table at the head of this file."""
    if image.mode.startswith("I;16"):
        top = 2**bits - 1
        wide = np.minimum(np.asarray(image).astype(np.uint32), top)
        image = Image.fromarray(((255 * wide + top // 2) // top).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    target = "L" if channels == 1 else "RGB"
    return image if image.mode == target else image.convert(target)


def render(image: Image.Image, view: View) -> np.ndarray:
    """Return a decoded image in the shape of `view`: uint8 of shape (channels, height, width).

    Raises:
        BadImage: The image is so thin that nothing of it is left in this shape.
    """
    size, as_published = (view.width, view.height), view.crop is not None and view.policy == "crop"
    if image.size != size or as_published:
        try:
            image = view.crop(image, size) if view.crop and as_published else RESIZE[view.policy](image, size)
        except ValueError as error:
            raise BadImage("unsupported", f"{image.width}×{image.height} cannot be resized by {view.policy}") from error
    return channels_first(image)


def channels_first(image: Image.Image) -> np.ndarray:
    """Return an image of mode L or RGB as uint8 of shape (channels, height, width)."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


KEPT_SIDE = 512
SMALL_SIDE, LARGE_SIDE = 32, 224
SMALL_MEDIAN = 64

T = TypeVar("T")


@dataclass(frozen=True)
class Survey:
    """What the images of one split declare."""

    headers: dict[int, Header]
    """By row; rows with a problem are absent."""
    problems: dict[int, Problem]
    """By row."""

    @property
    def good(self) -> list[int]:
        """Rows without a problem, in file order."""
        return list(self.headers)


def survey(listing: Listing, split: str) -> Survey:
    """Read every header of a listing, in file order."""
    headers: dict[int, Header] = {}
    problems: dict[int, Problem] = {}
    with quiet_pillow():
        for row, name in enumerate(listing.names):
            try:
                with listing.images.stream(row) as stream:
                    headers[row] = read_header(stream)
            except BadImage as error:
                problems[row] = Problem(name, split, error.kind, error.reason)
    return Survey(headers, problems)


def spread(function: Callable[[int], T], rows: Sequence[int], *, threads: int = 1) -> Iterator[T]:
    """Apply a function to every row, in order, in blocks over threads.

    Threads pay where Pillow decodes large images, since its decoders release the interpreter's lock. For
    headers (see `survey`) and for small images the lock is most of the work: 10,000 CIFAR JPEGs decode in
    0.43 s alone and in 0.53 s with two threads on two cores.
    """
    if threads == 1:
        yield from map(function, rows)
        return
    blocks = [rows[start : start + 64] for start in range(0, len(rows), 64)]
    with ThreadPoolExecutor(threads) as pool:
        for block in pool.map(lambda block: [function(row) for row in block], blocks):
            yield from block


def decoding_threads(headers: Sequence[Header]) -> int:
    """Return how many threads decode these images fastest (see `spread`)."""
    area = statistics.fmean(header.width * header.height for header in headers)
    return 1 if area < 128 * 128 else os.cpu_count() or 1


def check_options(size: int | None, resize: str, channels: int | None) -> None:
    """Refuse options of `choose_view` that are out of range.

    Raises:
        UserError: One of them is; names it, its value and what is allowed.
    """
    if size is not None and size < 1:
        raise UserError(f"size is {size}; it is a number of pixels, at least 1")
    if resize not in RESIZE:
        raise unknown("resize policy", resize, RESIZE)
    if channels not in (None, 1, 3):
        raise UserError(f"channels is {channels}; allowed are 1 (grayscale) and 3 (colour)")


def choose_view(
    headers: Sequence[Header],
    *,
    size: int | None,
    resize: str,
    channels: int | None,
    bits: int | None = None,
    crop: Crop | None = None,
) -> tuple[View, tuple[str, ...]]:
    """Decide the shape the network sees, and say so.

    Without a size, images that all have the same size of at most 512 pixels a side keep it. Otherwise the
    median of their shorter sides decides: up to 64 pixels they become 32×32, above that 224×224. Without a
    number of channels, grayscale stays grayscale if every image is. Without a number of bits, 16-bit images are
    scaled by the fewest bits that hold all their values: by one rule, so that one is as much brighter than another as
    it was.

    Returns:
        The view, and one note per decision that changes images.
    """
    if channels is None:
        channels = 1 if all(header.mode in GRAY_MODES for header in headers) else 3
    shapes = {(header.height, header.width) for header in headers}
    height, width = (size, size) if size is not None else default_shape(headers)
    scale, scaled = _bits(headers, bits)
    notes = [] if shapes == {(height, width)} else [f"resize: {resize} to {height}×{width}"]
    if crop is not None and resize == "crop":
        side = f"{crop.shorter((width, height))} pixels ({crop.interpolation})"
        notes = [f"resize: shorter side to {side}, then the centre of {height}×{width}"]
    if channels == 3 and any(header.mode in GRAY_MODES for header in headers):
        notes.append("grayscale images: converted to colour")
    if channels == 1 and any(header.mode not in GRAY_MODES for header in headers):
        notes.append("colour images: converted to grayscale")
    return View(channels, height, width, resize, scale, crop), (*notes, *scaled)


def _bits(headers: Sequence[Header], given: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the bits that 16-bit grayscale images are scaled by, and what to say of 16-bit images."""
    gray = [header.peak for header in headers if header.peak is not None and header.mode in GRAY_MODES]
    colour = [header.peak for header in headers if header.peak is not None and header.mode not in GRAY_MODES]
    bits = given or (bits_of(max(gray)) if gray else WHOLE_BITS)
    notes = []
    if gray and bits < WHOLE_BITS:
        notes.append(f"16-bit images: scaled as {bits} bits, their largest value is {max(gray):,}")
    if above := sum(peak >= 2**bits for peak in gray):
        notes.append(f"16-bit images with values above {2**bits - 1:,}, which are cut off: {above:,}")
    if colour:
        levels = 2 ** max(0, bits_of(max(colour)) - 8)
        notes.append(f"16-bit colour images: of their upper 8 bits, {levels} levels are used")
    return bits, tuple(notes)


def default_shape(headers: Sequence[Header]) -> tuple[int, int]:
    """Return the height and width that images get when no size is asked for (see `choose_view`)."""
    shapes = {(header.height, header.width) for header in headers}
    if len(shapes) == 1 and max(next(iter(shapes))) <= KEPT_SIDE:
        return next(iter(shapes))
    median = statistics.median(min(header.height, header.width) for header in headers)
    side = SMALL_SIDE if median <= SMALL_MEDIAN else LARGE_SIDE
    return side, side


def refuse(place: str, problems: Sequence[Problem]) -> None:
    """Stop with the first few names when images cannot be used.

    Raises:
        UserError: There is at least one problem.
    """
    if not problems:
        return
    first = "; ".join(f"{problem.name} ({problem.kind}: {problem.reason})" for problem in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    files = "1 image" if len(problems) == 1 else f"{len(problems)} images"
    raise UserError(f"{place}: {files} cannot be used: {first}{more}; remove them, or give --skip-broken")
