"""Encoded bytes → an upright image in grayscale or colour, the same on every machine, or a named refusal.

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

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from howdeep.util.errors import reason

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
        kind: One of the kinds of `images.Problem`.
        reason: What was found, in a few words.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


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
        raise BadImage("broken", reason(error)) from error
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
        raise BadImage("broken", reason(error)) from error


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
        raise BadImage("broken", reason(error)) from error


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
