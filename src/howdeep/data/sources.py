"""From what a user calls DATA to the listing of its encoded images."""

from collections import Counter
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from howdeep.data.digits import read_digits
from howdeep.data.folder import read_folder
from howdeep.data.hub import read_hub
from howdeep.data.parquet import find_parquet, read_parquet
from howdeep.data.records import Source
from howdeep.errors import UserError

KINDS = "DATA is digits, a folder of class folders, a Parquet file or a folder of them, or hf:owner/name"


def find_source(data: str) -> Source:
    """List what lies at the place that a user named.

    Raises:
        UserError: There is nothing of a known kind, or it has fewer than two classes.
    """
    source = _told_apart(_read(data))
    if len(source.classes) < 2:
        names = ", ".join(map(repr, source.classes))
        raise UserError(f"{data} has only one class, {names}; a classifier needs at least two")
    return source


def _told_apart(source: Source) -> Source:
    """Give every class a name of its own: counts and predictions are by name."""
    times = Counter(source.classes)
    if len(times) == len(source.classes):
        return source
    names = tuple(f"{name} (label {i})" if times[name] > 1 else name for i, name in enumerate(source.classes))
    twice = ", ".join(repr(name) for name, count in times.items() if count > 1)
    note = f"several classes are called {twice}: their labels tell them apart"
    return replace(source, classes=names, notes=(*source.notes, note))


def _read(data: str) -> Source:
    if data == "digits":
        return read_digits()
    if data.startswith("hf:"):
        return read_hub(data.removeprefix("hf:"))
    path = Path(data).expanduser()
    if not data or "\0" in data or not path.exists():
        raise UserError(f"there is no data at {data!r}; {_nearest(data)}{KINDS}")
    if path.is_dir():
        return read_parquet(path) if find_parquet(path) else read_folder(path)
    if path.suffix.lower() == ".parquet":
        return read_parquet(path)
    raise UserError(f"{data} is neither a folder nor a Parquet file; {KINDS}")


def _nearest(data: str) -> str:
    """Return the question whether a name beside the missing one was meant, or nothing."""
    missing = Path(data).expanduser()
    if not data or "\0" in data:
        return ""
    while not missing.parent.is_dir():
        missing = missing.parent
    beside = {path.name: str(path) for path in missing.parent.iterdir() if path.is_dir() or path.suffix == ".parquet"}
    known = {"digits": "digits", **beside}
    match = get_close_matches(missing.name, known, n=1, cutoff=0.5)
    return f"did you mean {known[match[0]]}? " if match else ""
