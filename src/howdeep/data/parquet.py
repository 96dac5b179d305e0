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

from howdeep.data.records import SPLIT_NAMES, Listing, Source
from howdeep.data.tables import Columns, encode_labels, encoded_images, find_columns
from howdeep.errors import UserError

if TYPE_CHECKING:
    import pyarrow

PREFIX = re.compile(r"(train|test|validation|valid|val)(?![a-z])", re.IGNORECASE)


def find_parquet(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder, or of the folder `data` in it (as in hub repositories)."""
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))


def read_parquet(place: Path) -> Source:
    """List the images of one Parquet file, or of a folder of `train*`, `test*` and `validation*` files.

    A file whose name begins with no split is the train split where it is alone; beside named ones it is
    ignored.

    Raises:
        UserError: A file is damaged, or its columns or labels are not those of an image data set.
    """
    files = find_parquet(place) if place.is_dir() else [place]
    _refuse_huge(place, files)
    groups, ignored = _by_split(files)
    columns = {split: _columns(paths[0]) for split, paths in groups.items()}
    tables = {split: _read(paths, columns[split]) for split, paths in groups.items()}
    values = {split: tables[split].column("label").to_pylist() for split in tables}
    classes, labels = encode_labels(str(place), values, {split: columns[split].classes for split in columns})
    parts = {
        split: Listing(
            encoded_images(table.column("image")),
            labels[split],
            table.column("name").to_pylist(),
        )
        for split, table in tables.items()
    }
    chosen = dict.fromkeys(note for found in columns.values() for note in found.notes)
    return Source(place.resolve().stem, classes, parts, (*chosen, *ignored))


def _refuse_huge(place: Path, files: Sequence[Path]) -> None:
    """Refuse what would not fit in memory: Parquet has no cheap access to single rows of a file."""
    total = sum(path.stat().st_size for path in files)
    known = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    if known and total > 0.8 * (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise UserError(
            f"{place} holds {total / 1e9:.0f} GB, more than fits into the memory of this machine"
            f" ({memory / 1e9:.0f} GB); unpack it into an image folder, or open it as hf:owner/name"
        )


def _by_split(files: Sequence[Path]) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Group files by the split their names begin with, train first; note the files that fit none."""
    groups: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    others: list[Path] = []
    for path in files:
        match = PREFIX.match(path.name)
        word = match[1].lower() if match else ""
        (groups[SPLIT_NAMES.get(word, "validation")] if match else others).append(path)
    named = {split: paths for split, paths in groups.items() if paths}
    if not named:
        return {"train": others}, ()
    return named, tuple(f"ignored {path.name}: its name begins with no split" for path in others)


def _columns(path: Path) -> Columns:
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these two
        raise _unreadable(path, error) from error
    for key in ("info", "features"):
        features = features.get(key, {}) if isinstance(features, dict) else {}
    return find_columns(str(path), schema, features if isinstance(features, dict) else {})


def _read(paths: Sequence[Path], columns: Columns) -> "pyarrow.Table":
    """Read files of one split into one table of image, label and name; buffers are joined without copying."""
    import pyarrow as pa

    tables = [_read_one(path, columns) for path in paths]
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        files = ", ".join(path.name for path in paths)
        raise UserError(f"{files}: the files of one split have different column types") from error


def _read_one(path: Path, columns: Columns) -> "pyarrow.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        missing = {columns.image, columns.label} - set(file.schema_arrow.names)
        if missing:
            raise UserError(f"{path} has no column {', '.join(sorted(missing))}, unlike the files beside it")
        is_struct = pa.types.is_struct(file.schema_arrow.field(columns.image).type)
        # The paths inside the struct stay unread: see `encoded_images`.
        table = file.read(columns=[f"{columns.image}.bytes" if is_struct else columns.image, columns.label])
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    names = pa.array([f"{path.name}#{row}" for row in range(len(table))], pa.string())
    picked = {"image": table.column(columns.image), "label": table.column(columns.label), "name": names}
    return pa.table(picked)


def _unreadable(path: Path, error: BaseException) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"{path} is not a readable Parquet file: {reason}")
