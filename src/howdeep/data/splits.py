"""The splits of a data set: images with labels, and which of them are held out.

There is one type of split. What differs is how its images are kept: decoded in one tensor, encoded and decoded
whenever they are asked for, or encoded with those in memory that were asked for before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from howdeep.data.decoding import BadImage, View, channels_first, decode, render
from howdeep.data.images import BytesImages, digests_of
from howdeep.data.records import Images, Split
from howdeep.util.errors import UserError
from howdeep.util.seeds import generator

HELD_OUT = 0.1
"""Share of the train split for each split that the data lacks."""
HELD_BYTES = 320_000_000
"""Pixels that one split holds at most: 2,125 colour images of 224×224."""


@dataclass(frozen=True)
class ImageSplit:
    """Some rows of a listing of images, with their labels: see `records.Split`."""

    images: "Decoded | Encoded | Held"
    """All images of the listing, shared by the splits that are cut from it."""
    rows: Tensor
    """The rows of `images` that belong to this split, int64 of shape (n,)."""
    labels: Tensor
    """Class indices, int64 of shape (n,)."""
    names: Sequence[str]
    """Where each image came from."""
    digests: Tensor | None = None
    """What each image is, int64 of shape (n,): of the bytes that it is decoded from; None where they were not read."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return images by position; see `records.Split`."""
        return self.images.pixels(self.rows[indices])

    def random_crops(self, indices: Tensor, seeds: Tensor) -> Tensor:
        """Return a random area of each image, resized: `RandomResizedCrop` (Szegedy et al. 2015).

        Args:
            indices: Positions in this split, int64 of shape (k,).
            seeds: One seed per image, int64 of shape (k,); it alone decides the crop.

        Returns:
            uint8 of shape (k, channels, height, width).

        Raises:
            UserError: An image is broken, or images are in memory at their final size.
        """
        if not isinstance(self.images, Encoded):
            raise UserError("random resized crops need images that are decoded on demand; these are held in memory")
        return self.images.random_crops(self.rows[indices], seeds)

    def take(self, positions: Tensor) -> "ImageSplit":
        """Return the split of these positions; pixels are shared, not copied."""
        names = [self.names[i] for i in positions.tolist()]
        digests = None if self.digests is None else self.digests[positions]
        return replace(self, rows=self.rows[positions], labels=self.labels[positions], names=names, digests=digests)

    def lengths(self) -> Tensor:
        """Return the number of bytes of every image, int64 of shape (n,), without reading them."""
        return self.images.lengths(self.rows)

    def digests_at(self, positions: Tensor) -> Tensor:
        """Return the digests of images by position; their bytes are read, unless they were before."""
        return self.images.digests(self.rows[positions]) if self.digests is None else self.digests[positions]

    def identified(self) -> "ImageSplit":
        """Return the split with its digests; bytes that were not read before are read now."""
        return replace(self, digests=self.digests_at(torch.arange(len(self))))


def decodes(split: Split) -> bool:
    """Return whether every access to the images of a split decodes them."""
    return isinstance(split, ImageSplit) and isinstance(split.images, Encoded)


def held(split: Split, limit: int = HELD_BYTES) -> Split:
    """Return a split whose images are decoded once; those that do not fit any more, whenever they are asked for.

    Args:
        split: The images; a split that holds them already stays as it is.
        limit: Bytes of pixels that are held.
    """
    if isinstance(split, ImageSplit) and isinstance(split.images, Encoded):
        return replace(split, images=Held(split.images, limit))
    return split


@dataclass(frozen=True)
class Decoded:
    """Images that were decoded once and lie in one tensor."""

    tensor: Tensor
    """uint8 of shape (all rows, channels, height, width)."""

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row."""
        return self.tensor[rows]

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of pixels of every image, as the encoded bytes are gone."""
        return torch.full((len(rows),), self.tensor[0].numel(), dtype=torch.int64)

    def digests(self, rows: Tensor) -> Tensor:
        """Return the digests of the pixels, as the encoded bytes are gone."""
        blobs = [image.numpy().tobytes() for image in self.pixels(rows)]
        return digests_of(BytesImages(blobs), range(len(blobs)))


@dataclass(frozen=True)
class Encoded:
    """Images that are too large to hold decoded: every access opens and decodes the file."""

    images: Images
    """All encoded images of the listing."""
    view: View
    """The shape every image is brought to."""
    names: Sequence[str]
    """Where each image came from."""

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row, resized by the policy."""
        return self._stack([self._decode(row, None) for row in rows.tolist()])

    def random_crops(self, rows: Tensor, seeds: Tensor) -> Tensor:
        """Return a random area of each image, resized; see `ImageSplit.random_crops`."""
        return self._stack([self._decode(row, s) for row, s in zip(rows.tolist(), seeds.tolist(), strict=True)])

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of bytes of every image, int64 of shape (n,); below 0, no two equal, of unreadable ones."""

        def length(row: int) -> int:
            try:
                return self.images.length(row)
            except BadImage:
                return -1 - row

        return torch.tensor([length(row) for row in rows.tolist()], dtype=torch.int64)

    def digests(self, rows: Tensor) -> Tensor:
        """Return the digests of the bytes, which are read now."""
        try:
            return digests_of(self.images, rows.tolist())
        except BadImage as error:
            raise UserError(f"an image cannot be read any longer: {error}") from error

    def _decode(self, row: int, seed: int | None) -> np.ndarray:
        try:
            with self.images.stream(row) as stream:
                image = decode(stream, self.view.channels, self.view.bits)
            if seed is None:
                return render(image, self.view)
        except BadImage as error:
            raise UserError(f"{self.names[row]} cannot be used: {error}") from error
        return random_resized_crop(image, self.view, seed)

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        stacked = np.empty((len(arrays), self.view.channels, self.view.height, self.view.width), np.uint8)
        for slot, array in zip(stacked, arrays, strict=True):
            slot[...] = array
        return torch.from_numpy(stacked)


@dataclass(frozen=True)
class Held:
    """Encoded images, of which those that were decoded stay in memory as far as they fit."""

    encoded: Encoded
    """Where the others are decoded."""
    limit: int
    """Bytes of pixels that are held."""
    pixels_of: dict[int, Tensor] = field(default_factory=dict)
    """Pixels by row."""

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

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of bytes of every image."""
        return self.encoded.lengths(rows)

    def digests(self, rows: Tensor) -> Tensor:
        """Return the digests of the bytes, which are read now."""
        return self.encoded.digests(rows)


def random_resized_crop(image: Image.Image, view: View, seed: int) -> np.ndarray:
    """Return one random area of a Pillow image in the shape of `view`, decided by `seed` alone."""
    from torchvision.transforms import v2  # costs a second, and only large images need it

    crop = v2.RandomResizedCrop((view.height, view.width))
    # The transform draws from the host's default generator. `torch.manual_seed` would reseed CUDA too, which
    # nothing here could restore.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return channels_first(crop(image))


def stratified(labels: Tensor, parts: int, seed: int, keys: Tensor | None = None) -> list[Tensor]:
    """Cut positions into `parts` held-out sets of 10 % of each class, and the rest.

    A class of three or more images gives at least one to each held-out set and keeps at least one. Images that are
    equal are drawn as one, and lie on one side.

    Args:
        labels: Class indices, int64 of shape (n,).
        parts: How many held-out sets.
        seed: Which images go where.
        keys: Numbers that are equal where images are (see `images.content_keys`); None where all differ.

    Returns:
        The rest first, then the held-out sets; ascending positions, disjoint, together all of them.
    """
    random = generator(seed, "splits")
    first = _first_of_equals(torch.arange(len(labels)) if keys is None else keys)
    drawn, side = first == torch.arange(len(labels)), torch.zeros_like(labels)
    for label in labels.unique().tolist():
        positions = torch.nonzero((labels == label) & drawn).flatten()
        positions = positions[torch.randperm(len(positions), generator=random)]
        share = min(max(1, round(HELD_OUT * len(positions))), max(0, len(positions) - 1) // parts)
        pieces = positions.split([len(positions) - parts * share] + [share] * parts)
        for number, piece in enumerate(pieces):
            side[piece] = number
    side = side[first]
    return [torch.nonzero(side == number).flatten() for number in range(parts + 1)]


def _first_of_equals(keys: Tensor) -> Tensor:
    """Return for every position the first one with the same key."""
    values, group = keys.unique(return_inverse=True)
    first = torch.full((len(values),), len(keys)).scatter_reduce(0, group, torch.arange(len(keys)), "amin")
    return first[group]


Plan = dict[str, tuple[str, Tensor]]
"""By split, the existing split that its images lie in, and their positions there."""


def three_splits(
    labels: Mapping[str, Tensor], keys: Mapping[str, Tensor], seed: int
) -> tuple[Plan, tuple[str, ...]]:  # fmt: skip
    """Plan which images make up train, validation and test.

    What the data has is kept, but images that are training images too are in no other split. What it lacks is held
    out from its train split, if there is one and a class of it is large enough.

    Args:
        labels: Class indices of the splits that exist, by name.
        keys: Numbers that are equal where images are, by the same names (see `images.content_keys`).
        seed: Which images are held out.

    Returns:
        The plan, and what to tell the user.
    """
    plan = {name: (name, torch.arange(len(found))) for name, found in labels.items()}
    if "train" not in labels:
        return plan, ()
    notes = []
    for name in [name for name in plan if name != "train"]:
        seen = torch.isin(keys[name], keys["train"])
        if seen.any():
            notes.append(f"{name}: {counted(int(seen.sum()), 'image')} left out, found in train as well")
            plan[name] = (name, torch.nonzero(~seen).flatten())
            if seen.all():
                del plan[name]
    missing = [name for name in ("validation", "test") if name not in plan]
    if not missing:
        return plan, tuple(notes)
    rest, *held_out = stratified(labels["train"], len(missing), seed, keys["train"])
    if not len(held_out[0]):
        least = len(missing) + 1
        few = f"no {' or '.join(missing)} images: that needs a class of at least {least} in train"
        return plan, (*notes, few)
    plan |= {name: ("train", positions) for name, positions in zip(("train", *missing), (rest, *held_out), strict=True)}
    plan = {name: plan[name] for name in ("train", "validation", "test")}
    return plan, (*notes, *(f"{name}: stratified 10 % of train, seed {seed}" for name in missing))


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as ``2 images``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
