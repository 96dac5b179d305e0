"""Splits that hold pixels, splits that decode on demand, and the seeded stratified cut into three."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from howdeep.data.decode import BadImage, View, channels_first, decode, render
from howdeep.data.records import Images
from howdeep.errors import UserError
from howdeep.seeds import generator

HELD_OUT = 0.1


@dataclass(frozen=True)
class MemorySplit:
    """A split whose images were decoded once and lie in one tensor."""

    images: Tensor
    """uint8 of shape (all rows, channels, height, width), shared by the splits that were cut from it."""
    rows: Tensor
    """The rows of `images` that belong to this split, ascending, int64 of shape (n,)."""
    labels: Tensor
    """Class indices, int64 of shape (n,)."""
    names: Sequence[str]
    """Where each image came from."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return images by position; see `records.Split`."""
        return self.images[self.rows[indices]]

    def take(self, positions: Tensor) -> "MemorySplit":
        """Return the split of these positions; pixels are shared, not copied."""
        names = [self.names[i] for i in positions.tolist()]
        return replace(self, rows=self.rows[positions], labels=self.labels[positions], names=names)


@dataclass(frozen=True)
class EncodedSplit:
    """A split that is too large to hold decoded: every access opens and decodes the file."""

    images: Images
    """All encoded images of the listing."""
    view: View
    """The shape every image is brought to."""
    rows: Tensor
    """The rows of `images` that belong to this split, ascending, int64 of shape (n,)."""
    labels: Tensor
    """Class indices, int64 of shape (n,)."""
    names: Sequence[str]
    """Where each image came from."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return images by position; see `records.Split`."""
        return self._stack([self._decode(i, None) for i in indices.tolist()])

    def random_crops(self, indices: Tensor, seeds: Tensor) -> Tensor:
        """Return a random area of each image, resized: `RandomResizedCrop` (Szegedy et al. 2015).

        Args:
            indices: Positions in this split, int64 of shape (k,).
            seeds: One seed per image, int64 of shape (k,); it alone decides the crop.

        Returns:
            uint8 of shape (k, channels, height, width).
        """
        return self._stack([self._decode(i, s) for i, s in zip(indices.tolist(), seeds.tolist(), strict=True)])

    def take(self, positions: Tensor) -> "EncodedSplit":
        """Return the split of these positions."""
        names = [self.names[i] for i in positions.tolist()]
        return replace(self, rows=self.rows[positions], labels=self.labels[positions], names=names)

    def _decode(self, index: int, seed: int | None) -> np.ndarray:
        try:
            with self.images.stream(int(self.rows[index])) as stream:
                image = decode(stream, self.view.channels)
            if seed is None:
                return render(image, self.view)
        except BadImage as error:
            raise UserError(f"{self.names[index]} cannot be used: {error}") from error
        return random_resized_crop(image, self.view, seed)

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        shape = (len(arrays), self.view.channels, self.view.height, self.view.width)
        stacked = np.empty(shape, np.uint8)
        for slot, array in zip(stacked, arrays, strict=True):
            slot[...] = array
        return torch.from_numpy(stacked)


def random_resized_crop(image: Image.Image, view: View, seed: int) -> np.ndarray:
    """Return one random area of a Pillow image in the shape of `view`, decided by `seed` alone."""
    from torchvision.transforms import v2  # costs a second, and only large images need it

    crop = v2.RandomResizedCrop((view.height, view.width))
    # The transform draws from the host's default generator. `torch.manual_seed` would reseed CUDA too, which
    # nothing here could restore.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return channels_first(crop(image))


def stratified(labels: Tensor, parts: int, seed: int) -> list[Tensor]:
    """Cut positions into `parts` held-out sets of 10 % of each class, and the rest.

    A class of three or more images gives at least one to each held-out set and keeps at least one.

    Args:
        labels: Class indices, int64 of shape (n,).
        parts: How many held-out sets.
        seed: Which images go where.

    Returns:
        The rest first, then the held-out sets; ascending positions, disjoint, together all of them.
    """
    random = generator(seed, "splits")
    cuts = [[torch.empty(0, dtype=torch.int64)] for _ in range(parts + 1)]
    for label in labels.unique().tolist():
        positions = torch.nonzero(labels == label).flatten()
        positions = positions[torch.randperm(len(positions), generator=random)]
        share = min(max(1, round(HELD_OUT * len(positions))), (len(positions) - 1) // parts)
        pieces = positions.split([len(positions) - parts * share] + [share] * parts)
        for cut, piece in zip(cuts, pieces, strict=True):
            cut.append(piece)
    return [torch.cat(cut).sort().values for cut in cuts]


def three_splits(labels: Mapping[str, Tensor], seed: int) -> tuple[dict[str, tuple[str, Tensor]], tuple[str, ...]]:
    """Plan which images make up train, validation and test.

    What the data has is kept. What it lacks is held out from its train split, if there is one and a class of it is
    large enough.

    Args:
        labels: Class indices of the splits that exist, by name.
        seed: Which images are held out.

    Returns:
        By split, the existing split its images lie in and their positions there; and what to tell the user.
    """
    plan = {name: (name, torch.arange(len(found))) for name, found in labels.items()}
    missing = [name for name in ("validation", "test") if name not in labels]
    if "train" not in labels or not missing:
        return plan, ()
    rest, *held_out = stratified(labels["train"], len(missing), seed)
    if not len(held_out[0]):
        least = len(missing) + 1
        return plan, (f"no {' or '.join(missing)} images: that needs a class of at least {least} in train",)
    plan |= {name: ("train", positions) for name, positions in zip(("train", *missing), (rest, *held_out), strict=True)}
    plan = {name: plan[name] for name in ("train", "validation", "test")}
    return plan, tuple(f"{name}: stratified 10 % of train, seed {seed}" for name in missing)
