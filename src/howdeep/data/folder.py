"""Image folders: `root/class/*`, or `root/{train,val,test}/class/*`.

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

from howdeep.data.encoded import FileImages
from howdeep.data.records import SPLIT_NAMES, Listing, Source
from howdeep.data.tables import agree
from howdeep.errors import UserError

# fmt: off
EXTENSIONS = frozenset((
    "", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".mpo",
))
# fmt: on


@dataclass(frozen=True)
class Found:
    """The files of one class folder."""

    images: list[Path]
    """Files that should be images, by name."""
    ignored: Counter[str]
    """How many files were left out, by extension, `hidden` for the hidden ones."""


def read_folder(root: Path) -> Source:
    """List an image folder. Classes are the names of the class folders, sorted.

    Raises:
        UserError: There are no class folders, a class is empty, or the splits have different classes.
    """
    splits = _split_folders(root)
    classes = {split: _subfolders(folder) for split, folder in splits.items()}
    names = {split: [printable(folder.name) for folder in folders] for split, folders in classes.items()}
    agree(str(root), names)
    first = next(iter(splits))
    if not names[first]:
        raise UserError(f"{root} has no class folders; expected {root}/CLASS/image.jpg or {root}/train/CLASS/image.jpg")
    found = {split: [_find(folder) for folder in folders] for split, folders in classes.items()}
    _refuse_empty(root, first, names[first], found[first])
    ignored = sum((each.ignored for part in found.values() for each in part), Counter())
    parts = {split: _listing(root, part) for split, part in found.items()}
    return Source(printable(root.resolve().name), tuple(names[first]), parts, _ignored_note(ignored))


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits, train first; `root` itself is train where it holds class folders."""
    candidates: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    known = {**SPLIT_NAMES, "valid": "validation"}
    for folder in _subfolders(root):
        if folder.name.lower() in known and _subfolders(folder):
            candidates[known[folder.name.lower()]].append(folder)
    for split, folders in candidates.items():
        if len(folders) > 1:
            raise UserError(f"{root} has {len(folders)} {split} folders: {', '.join(path.name for path in folders)}")
    return {split: folders[0] for split, folders in candidates.items() if folders} or {"train": root}


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
    return [path for path in _entries(folder) if not path.name.startswith(".") and os.path.isdir(path)]


def _find(folder: Path) -> Found:
    found = Found([], Counter())
    for path in _walk(folder, set()):
        if path.name.startswith("."):
            found.ignored["hidden"] += 1
        elif path.suffix.lower() not in EXTENSIONS:
            found.ignored[path.suffix.lower()] += 1
        else:
            found.images.append(path)
    return found


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files below a folder, every folder once."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for path in _entries(folder):
        if not os.path.isdir(path):
            yield path
        elif not path.name.startswith("."):
            yield from _walk(path, seen)


def _refuse_empty(root: Path, split: str, names: Sequence[str], found: Sequence[Found]) -> None:
    empty = [name for name, each in zip(names, found, strict=True) if not each.images]
    if empty:
        ignored = _ignored_note(sum((each.ignored for each in found), Counter()))
        hint = f" ({'; '.join(ignored)})" if ignored else ""
        raise UserError(f"{root}: no images of class {', '.join(map(repr, empty[:5]))} in {split}{hint}")


def _listing(root: Path, found: Sequence[Found]) -> Listing:
    paths = [path for each in found for path in each.images]
    counts = torch.tensor([len(each.images) for each in found])
    labels = torch.arange(len(found)).repeat_interleave(counts)
    return Listing(FileImages(paths), labels, [printable(path.relative_to(root).as_posix()) for path in paths])


def _ignored_note(ignored: Counter[str]) -> tuple[str, ...]:
    if not ignored:
        return ()
    kinds = ", ".join(f"{count} {printable(kind)}" for kind, count in ignored.most_common())
    return (f"ignored files that are not images: {kinds}",)


def printable(name: str) -> str:
    """Return a file name that every terminal and every JSON file can hold; undecodable bytes are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
