"""Data sets of the Hugging Face hub, through the `datasets` library, which downloads and caches them.

Its own environment variables hold, such as `HF_HUB_OFFLINE` and `HF_HOME`.
"""

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from howdeep.data.arrow import find_columns, labelled_source, with_labels
from howdeep.data.images import Source
from howdeep.data.splits import chosen_note, is_split_name, split_of
from howdeep.util.errors import UserError, reason

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
    import pyarrow as pa

    place = f"hf:{name}"
    splits, ignored = _by_split(_download(name), place)
    features = {split: cast(dict, one.features.to_dict()) for split, one in splits.items()}
    columns = {split: find_columns(place, one.data.schema, features[split]) for split, one in splits.items()}
    columns, unlabelled = with_labels(place, columns)
    tables = {}
    for split, each in columns.items():
        table = splits[split].data
        names = [f"{split}#{row}" for row in range(len(table))]
        tables[split] = pa.table({"image": table.column(each.image), "label": table.column(each.label), "name": names})
    return labelled_source(name, place, tables, columns, (*ignored, *unlabelled))


def _download(name: str) -> "datasets.DatasetDict":
    import datasets  # costs a second, and only this source needs it
    from datasets.exceptions import DatasetsError

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise UserError(f"hf:{name} cannot be loaded: {reason(error)}") from error


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
    chosen: dict[str, str] = {}
    for split, names in named.items():
        # The only one, or the only one that is called just so.
        exact = [name for name in names if is_split_name(name)]
        if len(names) > 1 and len(exact) != 1:
            raise UserError(f"{place} has {len(names)} {split} splits: {', '.join(names)}")
        if names:
            chosen[split] = exact[0] if exact else names[0]
    notes = [note for split, name in chosen.items() for note in chosen_note(split, [name])]
    notes += [f"left out split {name}" for name in map(str, loaded) if name not in chosen.values()]
    return {split: loaded[name] for split, name in chosen.items()}, tuple(notes)
