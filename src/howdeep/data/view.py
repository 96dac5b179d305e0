"""The shape in which a network sees every image: decided from what all of them declare, and how an image gets there."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from howdeep.data.decoding import GRAY_MODES, MAX_PIXELS, WHOLE_BITS, BadImage, Header, bits_of, decode, read_header
from howdeep.data.images import Listing, Problem, visit
from howdeep.util.errors import UserError, unknown
from howdeep.util.options import processors

KEPT_SIDE = 512
SMALL_SIDE, LARGE_SIDE = 32, 224
SMALL_MEDIAN = 64

RESIZE: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": lambda image, size: ImageOps.fit(image, size, method=Image.Resampling.BILINEAR),
    "pad": lambda image, size: ImageOps.pad(image, size, method=Image.Resampling.BILINEAR, color=0),
    "squash": lambda image, size: image.resize(size, Image.Resampling.BILINEAR),
}
"""Resizing policies, antialiased bilinear. Crop: shorter side to size, centre. Pad: letterbox in black."""


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

    def read(self, stream: BinaryIO) -> np.ndarray:
        """Return one file as a network sees it: uint8 of shape (channels, height, width).

        Raises:
            BadImage: It cannot be used.
        """
        return self.render(decode(stream, self.channels, self.bits))

    def render(self, image: Image.Image) -> np.ndarray:
        """Return a decoded image in this shape: uint8 of shape (channels, height, width).

        Raises:
            BadImage: The image is so thin that nothing of it is left.
        """
        size, as_published = (self.width, self.height), self.crop is not None and self.policy == "crop"
        if image.size != size or as_published:
            try:
                image = self.crop(image, size) if self.crop and as_published else RESIZE[self.policy](image, size)
            except ValueError as error:
                shape = f"{image.width}×{image.height}"
                raise BadImage("unsupported", f"{shape} cannot be resized by {self.policy}") from error
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@dataclass(frozen=True)
class Headers:
    """What the images of one split declare."""

    good: dict[int, Header]
    """By row; rows with a problem are absent."""
    problems: dict[int, Problem]
    """By row."""

    @property
    def threads(self) -> int:
        """How many threads decode these images fastest (see `images.spread`)."""
        areas = [header.width * header.height for header in self.good.values()]
        return 1 if not areas or statistics.fmean(areas) < 128 * 128 else processors()


def read_headers(listing: Listing, split: str) -> Headers:
    """Read every header of a listing, in file order."""
    rows = range(len(listing.names))
    return Headers(*visit(listing, split, rows, lambda _, stream: read_header(stream)))


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
