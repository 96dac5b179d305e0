"""Files that are whole or as they were before: written beside their place, flushed to the disk, then renamed."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from howdeep.util.errors import UserError

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
            return
        place = Path(os.path.realpath(path))
        partial = partial_of(place)
        try:
            write_flushed(partial, data)
            partial.replace(place)
        finally:
            with suppress(OSError):
                partial.unlink()
        flush_folder(place.parent)
    except OSError as error:
        raise SaveError(f"{path} was not saved: {error.strerror or error}") from error


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


NAME = ".howdeep.lock"
"""The file, in a folder that is being written."""
WAIT_SECONDS, POLL_SECONDS = 0.5, 0.05
"""A process that opens the file of a lock just as another one removes it tries again."""


@contextmanager
def folder_locked(out: Path) -> Iterator[None]:
    """Let no other process, and no other thread, write into a folder, which is made where it is missing.

    A folder that was made and stays empty is removed at the end. Where nothing can be written nothing is locked.

    Raises:
        UserError: Another process writes there.
    """
    made = [path for path in (out, *out.parents) if not path.exists()]  # innermost first
    with suppress(OSError):  # a file, or a place where nothing can be made: the one who writes says so
        out.mkdir(parents=True, exist_ok=True)
    try:
        with _held(out / NAME, out):
            yield
    finally:
        for path in made:
            with suppress(OSError):  # something is in it, or it could not be made
                path.rmdir()


@contextmanager
def file_locked(place: Path | None) -> Iterator[None]:
    """Let no other process work on what is kept beside a file, or do nothing without one.

    Raises:
        UserError: Another process does.
    """
    if place is None:
        yield
        return
    with _held(place.with_name(f".{place.name}{NAME}"), place):
        yield


@contextmanager
def _held(path: Path, what: Path) -> Iterator[None]:
    # One lock object per path and thread: a work may lock again what it holds, such as a cut that is trained on.
    lock = FileLock(path.resolve(), is_singleton=True, fallback_to_soft=False)
    outer = not lock.is_locked
    try:
        lock.acquire(timeout=WAIT_SECONDS, poll_interval=POLL_SECONDS)
    except Timeout:
        raise UserError(f"{what} is being written by another process{_holder(path)}") from None
    except OSError:
        # No folder, or a read-only one: whoever tries to write says why. Or a file system without locks.
        yield
        return
    try:
        if outer:
            with suppress(OSError):  # no room: it holds all the same
                path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        if outer:
            path.unlink(missing_ok=True)  # while it is held: a process that has it open already finds that it is gone
        lock.release()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f" (pid {holder['pid']} on host {holder['host']})"
    except (OSError, ValueError):  # it began or ended just now
        return ""
