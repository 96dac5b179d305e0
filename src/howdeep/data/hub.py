"""Data sets of the Hugging Face hub, through the `datasets` library, which downloads and caches them.

Its own environment variables hold, such as `HF_HUB_OFFLINE` and `HF_HOME`.
"""

import re
import sys
from typing import TYPE_CHECKING, Any

from howdeep.data.records import SPLIT_NAMES, Listing, Source
from howdeep.data.tables import encode_labels, encoded_images, find_columns
from howdeep.errors import UserError

if TYPE_CHECKING:
    import datasets


def read_hub(name: str) -> Source:
    """List the images of a data set on the hub.

    Args:
        name: `owner/name`.

    Raises:
        UserError: The set cannot be reached, or is no set of labelled images.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"hf:{name} is not of the form hf:owner/name")
    place = f"hf:{name}"
    tables, ignored = _by_split(_download(name))
    columns = {split: find_columns(place, table.data.schema, _features(table)) for split, table in tables.items()}
    values = {split: table.data.column(columns[split].label).to_pylist() for split, table in tables.items()}
    classes, labels = encode_labels(place, values, {split: columns[split].classes for split in columns})
    parts = {
        split: Listing(
            encoded_images(table.data.column(columns[split].image)),
            labels[split],
            [f"{split}#{row}" for row in range(len(table))],
        )
        for split, table in tables.items()
    }
    chosen = dict.fromkeys(note for found in columns.values() for note in found.notes)
    return Source(name, classes, parts, (*chosen, *ignored))


def _features(table: "datasets.Dataset") -> dict[str, Any]:
    declared = table.features.to_dict()
    return declared if isinstance(declared, dict) else {}


def _download(name: str) -> "datasets.DatasetDict":
    import datasets  # costs a second, and only this source needs it
    from datasets.exceptions import DatasetsError

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"hf:{name} cannot be loaded: {reason}") from error


def _by_split(
    loaded: "datasets.DatasetDict",
) -> tuple[dict[str, "datasets.Dataset"], tuple[str, ...]]:
    """Sort the hub's splits into ours, train first; note those with other names."""
    known = {**SPLIT_NAMES, "valid": "validation"}
    named = {known[str(split)]: table for split, table in loaded.items() if str(split) in known}
    if not named and len(loaded) == 1:
        return {"train": next(iter(loaded.values()))}, ()
    if not named:
        raise UserError(f"none of the splits {', '.join(map(str, loaded))} is train, validation or test")
    order = [split for split in ("train", "validation", "test") if split in named]
    others = tuple(f"ignored split {split}" for split in loaded if split not in known)
    return {split: named[split] for split in order}, others
