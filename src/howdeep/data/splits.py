"""Which split a name means: of a folder, of a file, of a split on the hub. One rule for all of them.

A name is cut into words at everything that is no letter, and at capitals inside (`xTrain`, `MNISTTest`). A split is
meant where one of its words is among them, alone or joined to one of `FILLERS` (`x_train-00000-of-00002`, `testset`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from howdeep.data.decoding import BadImage, View, channels_first, decode, render
from howdeep.data.images import BytesImages, digests_of
from howdeep.data.records import Images
from howdeep.util.errors import UserError
from howdeep.util.seeds import generator

WORDS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What people call the splits; the words of the hub's own loader."""
USUAL = ("train", "val", "valid", "validation", "test")
"""Names that nobody needs to be told about."""
JUNK = frozenset(("__MACOSX", "@eaDir", "lost+found"))
"""Folders that archives, network drives and disks leave behind."""
FILLERS = ("set", "data", "images", "files", "split", "folder")

_SPLITS = {word: split for split, words in WORDS.items() for word in words}
_FILLED = re.compile(rf"({'|'.join(_SPLITS)})(?:{'|'.join(FILLERS)})?")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LETTERS = re.compile(r"[^\W\d_]+")


def _words(name: str) -> list[str]:
    return [word.lower() for part in _CAPITAL.split(name) for word in _LETTERS.findall(part)]


def is_junk(name: str) -> bool:
    """Return whether a file or folder is hidden, or none of the user's."""
    return name.startswith(".") or name in JUNK


def split_words(name: str) -> list[str]:
    """Return the words for splits in a name, in order, each as the key that it is of `WORDS`' tuples."""
    return list(dict.fromkeys(match[1] for word in _words(name) if (match := _FILLED.fullmatch(word))))


def splits_in(name: str) -> list[str]:
    """Return the splits that a name means: none, one, or several where it is ambiguous."""
    return list(dict.fromkeys(_SPLITS[word] for word in split_words(name)))


def split_of(place: str, name: str) -> str | None:
    """Return the split that a name means, or None.

    Raises:
        UserError: It means several.
    """
    found = splits_in(name)
    if len(found) > 1:
        raise UserError(f"{place}: the name {name} could mean {' or '.join(found)}; rename it, or move it away")
    return found[0] if found else None


def is_split_name(name: str) -> bool:
    """Return whether a name says nothing but one split: `Training_Set` does, `test tube` does not."""
    words = _words(name)
    return len(splits_in(name)) == 1 and all(word in FILLERS or _FILLED.fullmatch(word) for word in words)


def called_like_splits(names: list[str]) -> list[str]:
    """Return which folders beside each other cannot be classes, since they are called like splits.

    A folder `train` alone among others can: it holds trains.
    """
    if names and all(map(splits_in, names)):
        return names
    found = [name for name in names if is_split_name(name)]
    return found if any(splits_in(name) != ["train"] for name in found) else []


def chosen_note(split: str, names: list[str]) -> tuple[str, ...]:
    """Say what a split was read from, or nothing where its name is the usual one."""
    unusual = [name for name in names if [word for word in _words(name) if word != "of"] not in [[w] for w in USUAL]]
    return (f"{split}: read from {listed(names)}",) if unusual else ()


def listed(names: list[str], most: int = 3) -> str:
    """Return names in one line; many are cut and say by how much."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


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
    digests: Tensor | None = None
    """What each image is, int64 of shape (n,): of the bytes that it was decoded from; None where they are not known."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return images by position; see `records.Split`."""
        return self.images[self.rows[indices]]

    def take(self, positions: Tensor) -> "MemorySplit":
        """Return the split of these positions; pixels are shared, not copied."""
        return _taken(self, positions)

    def lengths(self) -> Tensor:
        """Return the number of bytes of every image; pixels here, as the encoded bytes are gone."""
        return torch.full((len(self),), self.images[0].numel(), dtype=torch.int64)

    def digests_at(self, positions: Tensor) -> Tensor:
        """Return the digests of images by position: of their pixels, where those of their bytes are not known."""
        if self.digests is not None:
            return self.digests[positions]
        blobs = [image.numpy().tobytes() for image in self.pixels(positions)]
        return digests_of(BytesImages(blobs), range(len(blobs)))


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
    digests: Tensor | None = None
    """What each image is, int64 of shape (n,); None where its bytes were not read yet."""

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
        return _taken(self, positions)

    def lengths(self) -> Tensor:
        """Return the number of bytes of every image, int64 of shape (n,); below 0, no two equal, of unreadable ones."""
        return torch.tensor([self._length(row) for row in self.rows.tolist()], dtype=torch.int64)

    def _length(self, row: int) -> int:
        try:
            return self.images.length(row)
        except BadImage:
            return -1 - row

    def digests_at(self, positions: Tensor) -> Tensor:
        """Return the digests of images by position; their bytes are read, unless they were before."""
        if self.digests is not None:
            return self.digests[positions]
        try:
            return digests_of(self.images, self.rows[positions].tolist())
        except BadImage as error:
            raise UserError(f"an image cannot be read any longer: {error}") from error

    def _decode(self, index: int, seed: int | None) -> np.ndarray:
        try:
            with self.images.stream(int(self.rows[index])) as stream:
                image = decode(stream, self.view.channels, self.view.bits)
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


Cut = MemorySplit | EncodedSplit
AnyCut = TypeVar("AnyCut", bound=Cut)


def _taken(split: AnyCut, positions: Tensor) -> AnyCut:
    digests = None if split.digests is None else split.digests[positions]
    names = [split.names[i] for i in positions.tolist()]
    return replace(split, rows=split.rows[positions], labels=split.labels[positions], names=names, digests=digests)


def identified(split: AnyCut) -> AnyCut:
    """Return a split whose digests are known; bytes that were not read before are read now."""
    return replace(split, digests=split.digests_at(torch.arange(len(split))))


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
        keys: Numbers that are equal where images are (see `identity.content_keys`); None where all differ.

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
        keys: Numbers that are equal where images are, by the same names (see `identity.content_keys`).
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
