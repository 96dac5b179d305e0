"""Data sets of the Hugging Face hub, through the `datasets` library, which downloads and caches them.

Its own environment variables hold, such as `HF_HUB_OFFLINE` and `HF_HOME`.
"""

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from howdeep.data.arrow import encode_labels, encoded_images, find_columns, with_labels
from howdeep.data.records import Source
from howdeep.data.split_names import chosen_note, is_split_name, split_of
from howdeep.util.errors import UserError

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
    tables, ignored = _by_split(_download(name), place)
    columns = {split: find_columns(place, table.data.schema, _features(table)) for split, table in tables.items()}
    columns, unlabelled = with_labels(place, columns)
    values = {split: tables[split].data.column(each.label).to_pylist() for split, each in columns.items()}
    found = encode_labels(place, values, {split: columns[split].classes for split in columns})
    parts = {
        split: found.listing(
            split,
            encoded_images(tables[split].data.column(columns[split].image)),
            [f"{split}#{row}" for row in range(len(tables[split]))],
        )
        for split in found.labels
    }
    chosen = dict.fromkeys(note for each in columns.values() for note in each.notes)
    return Source(name, found.classes, parts, (*chosen, *ignored, *unlabelled, *found.notes))


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
    loaded: "Mapping[Any, datasets.Dataset]", place: str
) -> tuple[dict[str, "datasets.Dataset"], tuple[str, ...]]:
    """Sort the hub's splits into ours, train first; note those with other names.

    Raises:
        UserError: A name means several splits, two splits are called the same, or none is called like one of ours.
    """
    named: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name in map(str, loaded):
        if (split := split_of(place, name)) is not None:
            named[split].append(name)
    if not any(named.values()) and len(loaded) == 1:
        return {"train": next(iter(loaded.values()))}, ()
    if not any(named.values()):
        raise UserError(f"none of the splits {', '.join(map(str, loaded))} is train, validation or test")
    chosen = {split: _one(place, split, names) for split, names in named.items() if names}
    notes = [note for split, name in chosen.items() for note in chosen_note(split, [name])]
    notes += [f"left out split {name}" for name in map(str, loaded) if name not in chosen.values()]
    return {split: loaded[name] for split, name in chosen.items()}, tuple(notes)


def _one(place: str, split: str, names: list[str]) -> str:
    """Return which of the hub's splits is one of ours: the only one, or the only one that is called just so."""
    exact = [name for name in names if is_split_name(name)]
    if len(names) > 1 and len(exact) != 1:
        raise UserError(f"{place} has {len(names)} {split} splits: {', '.join(names)}")
    return exact[0] if exact else names[0]
