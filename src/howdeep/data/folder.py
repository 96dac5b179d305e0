"""Image folders: `root/class/*`, or `root/{train,val,test}/class/*` (see `splits` for other names).

A folder that can be reached in two ways (a loop of symbolic links) is read once. Files that are hidden or
whose extension says that they are no images are left out and counted; everything else is taken for an image
and, if it is none, reported as broken.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from howdeep.data.arrow import agree
from howdeep.data.images import FileImages, Listing, Source
from howdeep.data.splits import called_like_splits, chosen_note, is_junk, is_split_name, split_of, splits_in
from howdeep.util.errors import UserError
from howdeep.util.text import first_few

EXTENSIONS = frozenset(
    {"", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".png", ".webp", ".gif", ".avif", ".bmp"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)


@dataclass(frozen=True)
class ClassFolder:
    """The files below one class folder."""

    name: str
    """That of the class."""
    images: list[Path]
    """Files that should be images, by name."""
    ignored: Counter[str]
    """How many files were left out, by extension, `hidden` for the hidden ones."""


def read_folder(root: Path) -> Source:
    """List an image folder. Classes are the names of the class folders, sorted.

    Raises:
        UserError: There are no class folders, a class is empty, the splits have different classes, or folders that
            would be classes are called like splits.
    """
    splits, left_out = _split_folders(root)
    classes = {split: list(map(_class_folder, _subfolders(folder))) for split, folder in splits.items()}
    empty = [split for split, folders in classes.items() if not any(one.images for one in folders)]
    kept = {split: folders for split, folders in classes.items() if split not in empty} or classes
    agree(str(root), {split: [one.name for one in folders] for split, folders in kept.items()})
    first, folders = next(iter(kept.items()))
    if not folders:
        raise UserError(f"{root} has no class folders; expected {root}/CLASS/image.jpg or {root}/train/CLASS/image.jpg")
    if missing := [one.name for one in folders if not one.images]:
        hint = "".join(f" ({note})" for note in _ignored_note(folders))
        raise UserError(f"{root}: no images of class {', '.join(map(repr, missing[:5]))} in {first}{hint}")
    parts: dict[str, Listing] = {}
    for split, own in kept.items():
        paths = [path for one in own for path in one.images]
        labels = torch.arange(len(own)).repeat_interleave(torch.tensor([len(one.images) for one in own]))
        names = [printable(path.relative_to(root).as_posix()) for path in paths]
        parts[split] = Listing(FileImages(paths), labels, names)
    empties = tuple(f"left out {printable(splits[split].name)}: it holds no images" for split in empty)
    ignored = _ignored_note([one for folders in classes.values() for one in folders])
    notes = (*left_out, *empties, *_strays(root, splits), *ignored)
    return Source(printable(root.resolve().name), tuple(one.name for one in folders), parts, notes)


def _split_folders(root: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the folders of the splits, train first, and what to say of the others.

    A folder that holds folders is a split where its name says nothing else, or where all that hold folders are called
    like splits. Beside such a one nothing is a class. Otherwise `root` itself is train and holds the classes.

    Raises:
        UserError: A name means several splits, two folders are one split, or classes are called like splits.
    """
    folders = _subfolders(root)
    holders = [folder for folder in folders if _subfolders(folder)]
    named = [folder for folder in holders if splits_in(folder.name)]
    if not any(is_split_name(folder.name) for folder in named) and (named != holders or not named):
        names = [folder.name for folder in folders]
        _refuse_splits(root, names)
        return {"train": root}, tuple(
            f"{name} is taken for a class, not for a split" for name in names if is_split_name(name)
        )
    groups: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for folder in named:
        groups[str(split_of(str(root), folder.name))].append(folder)
    for split, several in groups.items():
        if len(several) > 1:
            raise UserError(f"{root} has {len(several)} {split} folders: {', '.join(path.name for path in several)}")
    splits = {split: several[0] for split, several in groups.items() if several}
    for folder in splits.values():
        _refuse_splits(folder, [path.name for path in _subfolders(folder)], all_of_them=True)
    notes = [note for split, folder in splits.items() for note in chosen_note(split, [printable(folder.name)])]
    for folder in folders:
        if folder not in splits.values():
            reason = "it has no class folders" if splits_in(folder.name) else "its name is that of no split"
            notes.append(f"left out {printable(folder.name)}: {reason}")
    return splits, tuple(notes)


def _refuse_splits(folder: Path, names: list[str], *, all_of_them: bool = False) -> None:
    """Refuse folders that lie where classes, or images of one class, are expected and are called like splits.

    Raises:
        UserError: There are some.
    """
    alike = called_like_splits(names)
    if alike and (len(alike) == len(names) or not all_of_them):
        whole = any(_subfolders(folder / name) for name in alike)
        raise UserError(
            f"{folder} holds folders that are called like splits, where a class or its images should be:"
            f" {first_few([printable(name) for name in alike])}; "
            + (f"if {folder} is the data, name that" if whole else "a split is a folder of class folders")
        )


def _strays(root: Path, splits: dict[str, Path]) -> tuple[str, ...]:
    """Say how many images lie outside the class folders, where nothing says what they show."""
    count = sum(
        path.suffix.lower() in EXTENSIONS - {""} and not path.name.startswith(".") and not os.path.isdir(path)
        for folder in {root, *splits.values()}
        for path in _entries(folder)
    )
    return (f"left out images outside the class folders: {count:,}",) if count else ()


def _entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, by name, without what is hidden.

    Raises:
        UserError: The folder cannot be read.
    """
    try:
        return sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error


def _subfolders(folder: Path) -> list[Path]:
    # os.path.isdir answers False for a link that points nowhere or to itself, where Path.is_dir may raise.
    return [path for path in _entries(folder) if not is_junk(path.name) and os.path.isdir(path)]


def _class_folder(folder: Path) -> ClassFolder:
    own = ClassFolder(printable(folder.name), [], Counter())
    for path in _walk(folder, set()):
        if path.name.startswith("."):
            own.ignored["hidden"] += 1
        elif path.suffix.lower() not in EXTENSIONS:
            own.ignored[path.suffix.lower()] += 1
        else:
            own.images.append(path)
    return own


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files below a folder, every folder once."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    folders: list[Path] = []
    for path in _entries(folder):
        if not os.path.isdir(path):
            yield path
        elif not is_junk(path.name):
            folders.append(path)
    _refuse_splits(folder, [path.name for path in folders])
    for path in folders:
        yield from _walk(path, seen)


def _ignored_note(folders: Sequence[ClassFolder]) -> tuple[str, ...]:
    ignored = sum((one.ignored for one in folders), Counter())
    if not ignored:
        return ()
    kinds = ", ".join(f"{count} {printable(kind)}" for kind, count in ignored.most_common())
    return (f"ignored files that are not images: {kinds}",)


def printable(name: str) -> str:
    """Return a file name that every terminal and every JSON file can hold; undecodable bytes are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
