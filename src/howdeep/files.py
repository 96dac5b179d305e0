"""Files that are whole or as they were before: written beside their place, flushed to the disk, then renamed."""

import os
from contextlib import suppress
from pathlib import Path

PARTIAL = ".partial-"


class SaveError(OSError):
    """Something could not be written; what was on the disk before is untouched."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either whole or as it was before.

    A link stays one: what it points at is written. What is no regular file (a pipe, ``/dev/null``) cannot be renamed
    away and is written as it is.

    Raises:
        SaveError: The disk is full, or the folder cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        raise SaveError(f"{path} was not saved: {error.strerror or error}") from error


def _replace(place: Path, data: bytes) -> None:
    partial = partial_of(place)
    try:
        write_flushed(partial, data)
        partial.replace(place)
    finally:
        with suppress(OSError):
            partial.unlink()
    flush_folder(place.parent)


def append(path: Path, text: str) -> None:
    """Add text to a file.

    Raises:
        SaveError: The disk is full, or the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SaveError(f"{path} was not written: {error.strerror or error}") from error


def partial_of(path: Path) -> Path:
    """Return where :func:`write_whole` writes before it renames."""
    return path.with_name(f"{PARTIAL}{path.name}")


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
