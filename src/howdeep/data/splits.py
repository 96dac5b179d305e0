"""Splits: which one a name means, and which images are held out where the data lacks one.

One rule for the names of folders, of files and of splits on the hub: a name is cut into words at everything that is no
letter, and at capitals inside (`xTrain`, `MNISTTest`). A split is meant where one of its words is among them, alone or
joined to one of `FILLERS` (`x_train-00000-of-00002`, `testset`).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from howdeep.util.errors import UserError
from howdeep.util.seeds import generator
from howdeep.util.text import counted, first_few

WORDS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What people call the splits; the words of the hub's own loader."""
USUAL = ("train", "val", "valid", "validation", "test")
"""Names that need no note."""
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
    splits = splits_in(name)
    if len(splits) > 1:
        raise UserError(f"{place}: the name {name} could mean {' or '.join(splits)}; rename it, or move it away")
    return splits[0] if splits else None


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
    alike = [name for name in names if is_split_name(name)]
    return alike if any(splits_in(name) != ["train"] for name in alike) else []


def chosen_note(split: str, names: list[str]) -> tuple[str, ...]:
    """Say what a split was read from, or nothing where its name is the usual one."""
    unusual = [name for name in names if [word for word in _words(name) if word != "of"] not in [[w] for w in USUAL]]
    return (f"{split}: read from {first_few(names)}",) if unusual else ()


HELD_OUT = 0.1
"""Share of the train split for each split that the data lacks."""

Plan = dict[str, tuple[str, Tensor]]
"""By split, the existing split that its images lie in, and their positions there."""


def stratified(labels: Tensor, parts: int, seed: int, keys: Tensor | None = None) -> list[Tensor]:
    """Cut positions into `parts` held-out sets of 10 % of each class, and the rest.

    A class of three or more images gives at least one to each held-out set and keeps at least one. Images that are
    equal are drawn as one, and lie on one side.

    Args:
        labels: Class indices, int64 of shape (n,).
        parts: How many held-out sets.
        seed: Which images go where.
        keys: Numbers that are equal where images are (see `dataset.content_keys`); None where all differ.

    Returns:
        The rest first, then the held-out sets; ascending positions, disjoint, together all of them.
    """
    random, count = generator(seed, "splits"), len(labels)
    values, group = (torch.arange(count) if keys is None else keys).unique(return_inverse=True)
    # The first position of each group of equals stands for all of them.
    first = torch.full((len(values),), count).scatter_reduce(0, group, torch.arange(count), "amin")[group]
    drawn, side = first == torch.arange(count), torch.zeros_like(labels)
    for label in labels.unique().tolist():
        positions = torch.nonzero((labels == label) & drawn).flatten()
        positions = positions[torch.randperm(len(positions), generator=random)]
        share = min(max(1, round(HELD_OUT * len(positions))), max(0, len(positions) - 1) // parts)
        pieces = positions.split([len(positions) - parts * share] + [share] * parts)
        for number, piece in enumerate(pieces):
            side[piece] = number
    side = side[first]
    return [torch.nonzero(side == number).flatten() for number in range(parts + 1)]


def three_splits(labels: Mapping[str, Tensor], keys: Mapping[str, Tensor], seed: int) -> tuple[Plan, list[str]]:
    """Plan which images make up train, validation and test.

    What the data has is kept, but images that are training images too are in no other split. What it lacks is held
    out from its train split, if there is one and a class of it is large enough.

    Args:
        labels: Class indices of the splits that exist, by name.
        keys: Numbers that are equal where images are, by the same names (see `dataset.content_keys`).
        seed: Which images are held out.

    Returns:
        The plan, and what to tell the user.
    """
    plan, notes = {name: (name, torch.arange(len(own))) for name, own in labels.items()}, []
    if "train" not in labels:
        return plan, notes
    for name in [name for name in plan if name != "train"]:
        seen = torch.isin(keys[name], keys["train"])
        if seen.any():
            notes.append(f"{name}: {counted(int(seen.sum()), 'image')} left out, found in train as well")
            plan[name] = (name, torch.nonzero(~seen).flatten())
            if seen.all():
                del plan[name]
    missing = [name for name in ("validation", "test") if name not in plan]
    if not missing:
        return plan, notes
    rest, *held_out = stratified(labels["train"], len(missing), seed, keys["train"])
    if not len(held_out[0]):
        least = len(missing) + 1
        return plan, [*notes, f"no {' or '.join(missing)} images: that needs a class of at least {least} in train"]
    plan |= {name: ("train", positions) for name, positions in zip(("train", *missing), (rest, *held_out), strict=True)}
    plan = {name: plan[name] for name in ("train", "validation", "test")}
    return plan, [*notes, *(f"{name}: stratified 10 % of train, seed {seed}" for name in missing)]
