"""Parquet files in the Hugging Face image layout: a column of encoded images, a column of labels.

They are read with pyarrow and not with `datasets`, which would first copy everything into its cache: the
encoded bytes stay in Arrow's buffers (47 MB for CIFAR-10) until they are decoded, and nothing is written
anywhere.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from howdeep.data.arrow import Columns, find_columns, labelled_source, with_labels
from howdeep.data.images import Source
from howdeep.data.splits import chosen_note, is_junk, split_of, split_words, splits_in
from howdeep.util.errors import UserError, reason
from howdeep.util.text import first_few

if TYPE_CHECKING:
    import pyarrow

SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{16})?$")
"""What the hub's own tools put behind the name of a split that is cut into several files."""


def find_parquet(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder, also those of `data/`, `SPLIT/`, `CONFIG/` and `CONFIG/SPLIT/` in it."""
    files, folders = _scan(folder)
    for below in folders:
        more, deeper = _scan(below)
        # Deeper only where the name says so: folders of a million images are not listed for nothing.
        files += [*more, *(path for one in deeper if splits_in(one.name) for path in _scan(one)[0])]
    return files


def _scan(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the Parquet files and the folders in a folder, by name."""
    files: list[Path] = []
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if is_junk(entry.name):
                    continue
                # A link may lead to itself, where the entry's own method raises; all others cost no look at the disk.
                if os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():
                    folders.append(folder / entry.name)
                elif entry.name.lower().endswith(".parquet"):
                    files.append(folder / entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    return files, folders


def read_parquet(place: Path) -> Source:
    """List the images of one Parquet file, or of a folder of them, by the splits that their names or folders mean.

    Where none means a split they are the train split; beside named ones those without are left out.

    Raises:
        UserError: A file is damaged, its columns or labels are not those of an image data set, or it is not clear
            which files belong together.
    """
    files, left_out = _of_one_set(place) if place.is_dir() else ([place], ())
    _refuse_huge(place, files)
    groups, unnamed = _by_split(place, files)
    columns, unlabelled = with_labels(str(place), {split: _columns_of(paths) for split, paths in groups.items()})
    tables = {split: _read(place, groups[split], columns[split]) for split in columns}
    return labelled_source(place.resolve().stem, str(place), tables, columns, (*left_out, *unnamed, *unlabelled))


def _of_one_set(place: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files of the one data set in a folder, and what to say of others.

    What is left of the folders above a file without the one of its split is the data set that it belongs to. Files
    directly in the folder come before those of others.

    Raises:
        UserError: There are several data sets, or folders that hold something else.
    """
    above = bool(_scan(place)[0])
    sets: dict[str, list[Path]] = {}
    for path in find_parquet(place):
        # The folder `data` is no data set, unless there are files above it.
        folders, split = path.relative_to(place).parts[:-1], _split_of(place, path)
        names = [name for name in folders if (name != "data" or above) and splits_in(name) != [split]]
        sets.setdefault("/".join(names), []).append(path)
    if "" not in sets and len(sets) > 1:
        named = first_few(list(sets))
        raise UserError(f"{place} holds several data sets: {named}; name one, such as {place / min(sets)}")
    files = sets.pop("" if "" in sets else next(iter(sets)))
    used = {folder for path in files for folder in path.relative_to(place).parts[:-1][:1]}
    others = [path.name for path in _scan(place)[1] if path.name not in used]
    if others and used - {"data"} and not sets:
        inside = first_few(sorted(used))
        raise UserError(f"{place} holds Parquet files in {inside}, and other folders: {first_few(others)}")
    return files, tuple(f"left out folder {name}" for name in others)


def _split_of(place: Path, path: Path) -> str | None:
    """Return the split that a file is of: what its name means, else the folder that it lies in."""
    folder = path.parent.name if path.parent != place and place.is_dir() else ""
    return split_of(str(place), path.stem) or split_of(str(place), folder)


def _refuse_huge(place: Path, files: Sequence[Path]) -> None:
    """Refuse what would not fit in memory: Parquet has no cheap access to single rows of a file."""
    total = sum(path.stat().st_size for path in files)
    has_size = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    if has_size and total > 0.8 * (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise UserError(
            f"{place} holds {total / 1e9:.0f} GB, more than fits into the memory of this machine"
            f" ({memory / 1e9:.0f} GB); unpack it into an image folder, or open it as hf:owner/name"
        )


def _by_split(place: Path, files: Sequence[Path]) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Group files by split, train first; and what to say of names that are not the usual ones.

    Raises:
        UserError: A name means several splits, or files of one split are called by two words, such as val and dev.
    """
    groups: dict[str | None, list[Path]] = {"train": [], "validation": [], "test": [], None: []}
    for path in files:
        groups[_split_of(place, path)].append(path)
    others = groups.pop(None)
    named = {str(split): paths for split, paths in groups.items() if paths}
    if not named:
        stems = list(dict.fromkeys(_stem(path) for path in others))
        note = f"train: read from {first_few(stems)}, as no name is that of a split"
        return {"train": others}, (note,) if len(stems) > 1 else ()
    notes: list[str] = []
    for split, paths in named.items():
        words = {word: None for path in paths for word in split_words(path.stem) or split_words(path.parent.name)}
        if len(words) > 1:
            raise UserError(f"{place} has {len(words)} {split} splits: {', '.join(words)}")
        # What says of which split files are, once for all shards.
        kinds = dict.fromkeys(_stem(path) if splits_in(path.stem) else path.parent.name for path in paths)
        notes += chosen_note(split, list(kinds))
    return named, (*notes, *(f"left out {path.name}: its name is that of no split" for path in others))


def _stem(path: Path) -> str:
    return SHARD.sub("", path.stem) or path.stem


def _columns_of(paths: Sequence[Path]) -> Columns:
    """Return the columns of the files of one split.

    Raises:
        UserError: One has no image column, or they number their classes differently.
    """
    first, *others = map(_columns, paths)
    for path, other in zip(paths[1:], others, strict=True):
        if (other.classes, other.label is None) != (first.classes, first.label is None):
            raise UserError(f"{paths[0]} and {path} are of one split and differ in their classes")
    return first


def _columns(path: Path) -> Columns:
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these two
        raise UserError(f"{path} is not a readable Parquet file: {reason(error)}") from error
    for key in ("info", "features"):
        features = features.get(key, {}) if isinstance(features, dict) else {}
    return find_columns(str(path), schema, features if isinstance(features, dict) else {})


def _read(place: Path, paths: Sequence[Path], columns: Columns) -> "pyarrow.Table":
    """Read files of one split into one table of image, label and name; buffers are joined without copying."""
    import pyarrow as pa

    tables = [_read_one(place, path, columns) for path in paths]
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        files = ", ".join(path.name for path in paths)
        raise UserError(f"{files}: the files of one split have different column types") from error


def _read_one(place: Path, path: Path, columns: Columns) -> "pyarrow.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        missing = {columns.image, columns.label} - set(file.schema_arrow.names)
        if missing:
            raise UserError(f"{path} has no column {', '.join(sorted(missing))}, unlike the files beside it")
        is_struct = pa.types.is_struct(file.schema_arrow.field(columns.image).type)
        # The paths inside the struct stay unread: see `labelled_source`.
        table = file.read(columns=[f"{columns.image}.bytes" if is_struct else columns.image, columns.label])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is not a readable Parquet file: {reason(error)}") from error
    name = path.relative_to(place).as_posix().removeprefix("data/") if place.is_dir() else path.name
    names = pa.array([f"{name}#{row}" for row in range(len(table))], pa.string())
    picked = {"image": table.column(columns.image), "label": table.column(columns.label), "name": names}
    return pa.table(picked)
