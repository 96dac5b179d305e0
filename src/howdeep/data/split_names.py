"""Which split a name means: of a folder, of a file, of a split on the hub. One rule for all of them.

A name is cut into words at everything that is no letter, and at capitals inside (`xTrain`, `MNISTTest`). A split is
meant where one of its words is among them, alone or joined to one of `FILLERS` (`x_train-00000-of-00002`, `testset`).
"""

import re

from howdeep.util.errors import UserError
from howdeep.util.text import first_few

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
