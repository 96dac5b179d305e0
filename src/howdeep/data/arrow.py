"""Arrow tables in the Hugging Face image layout: which column is what, and labels as class indices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from howdeep.data.images import ArrowImages, Images, Listing, PickedImages, Source
from howdeep.util.errors import UserError

if TYPE_CHECKING:
    import pyarrow

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True)
class Columns:
    """Where images and labels are in a table."""

    image: str
    """The column of images."""
    label: str | None
    """The column of labels; None where there is none."""
    all: tuple[str, ...]
    """All columns."""
    classes: tuple[str, ...] | None
    """Class names by label, where the metadata gives them."""
    notes: tuple[str, ...] = ()
    """Said where there was more than one to choose from."""


def find_columns(place: str, schema: "pyarrow.Schema", features: Mapping[str, Any]) -> Columns:
    """Find image and label column by the features that Hugging Face declares, or else by type and name.

    Raises:
        UserError: There is no image column.
    """
    import pyarrow as pa

    def declared(kind: str) -> list[str]:
        columns = {name: features.get(name) for name in schema.names}
        return [name for name, one in columns.items() if isinstance(one, Mapping) and one.get("_type") == kind]

    def is_image(kind: "pyarrow.DataType") -> bool:
        if pa.types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    images = declared("Image") or [field.name for field in schema if is_image(field.type)]
    classed = declared("ClassLabel")
    labels = classed or [name for name in LABEL_NAMES if name in schema.names]
    if not images:
        raise UserError(
            f"{place} has no image column (a struct of bytes and path); its columns are {', '.join(schema.names)}"
        )
    names = features[labels[0]].get("names") if classed else None
    notes = [
        f"{kind} column: {columns[0]} (not {', '.join(columns[1:])})"
        for kind, columns in (("image", images), ("label", labels))
        if len(columns) > 1
    ]
    classes = tuple(map(str, names)) if names else None
    return Columns(images[0], labels[0] if labels else None, tuple(schema.names), classes, tuple(notes))


def with_labels(place: str, columns: Mapping[str, Columns]) -> tuple[dict[str, Columns], tuple[str, ...]]:
    """Return the splits that have a label column, and what to say of the others.

    Raises:
        UserError: None has one.
    """
    labelled = {split: each for split, each in columns.items() if each.label is not None}
    if not labelled:
        names = next(iter(columns.values())).all
        raise UserError(f"{place} has no label column; its columns are {', '.join(names)}")
    return labelled, tuple(f"left out {split}: it has no label column" for split in columns if split not in labelled)


def labelled_source(
    name: str, place: str, tables: "Mapping[str, pyarrow.Table]", columns: Mapping[str, Columns], notes: Sequence[str]
) -> Source:
    """List the images of tables by split; those whose label is hidden are left out.

    Args:
        name: What the data is called.
        place: Where it is, for messages.
        tables: Columns called image, label and name, by split, `train` first where there is one. A path beside an
            image is opened where its bytes are missing. So a table that comes from elsewhere must not have paths,
            which would name files of this machine.
        columns: What they are in the data, by split.
        notes: What to say of splits that were left out.

    Raises:
        UserError: As :func:`encode_labels`.
    """
    import pyarrow as pa

    values = {split: table.column("label").to_pylist() for split, table in tables.items()}
    declared = {split: columns[split].classes for split in tables}
    classes, labels, rows, label_notes = encode_labels(place, values, declared)
    parts = {}
    for split, shown in rows.items():
        column, names = tables[split].column("image"), tables[split].column("name").to_pylist()
        images: Images = ArrowImages(column)
        if pa.types.is_struct(column.type):
            fields = {field.name: part for field, part in zip(column.type, column.flatten(), strict=True)}
            images = ArrowImages(fields["bytes"], fields.get("path"))
        if len(shown) < len(names):
            images, names = PickedImages(images, shown), [names[row] for row in shown]
        parts[split] = Listing(images, labels[split], names)
    chosen = dict.fromkeys(note for each in columns.values() for note in each.notes)
    return Source(name, classes, parts, (*chosen, *notes, *label_notes))


def encode_labels(
    place: str, values: Mapping[str, Sequence[Any]], declared: Mapping[str, tuple[str, ...] | None]
) -> tuple[tuple[str, ...], dict[str, Tensor], dict[str, list[int]], list[str]]:
    """Turn the label values of all splits into class indices.

    Hidden labels are nulls, empty texts, and −1 where names of classes are declared or 0 is a label: −1 beside 1 alone
    are two classes.

    Args:
        place: Where the data is, for messages.
        values: Label values by split, `train` first where there is one.
        declared: Class names by split, where metadata gives them.

    Returns:
        The class names, which are the sorted values where none are declared; by split, without those in which all
        labels are hidden, the class indices of the labelled images, int64, and their rows; what was left out.

    Raises:
        UserError: No image has a label, labels are of another kind, or the splits disagree on the classes.
    """
    plain = {split: list(map(_plain, own)) for split, own in values.items()}
    numbered = any(declared.values()) or any(0 in own for own in plain.values())
    hidden = (None, "", -1) if numbered else (None, "")
    rows: dict[str, list[int]] = {}
    notes: list[str] = []
    for split, own in plain.items():
        shown = [row for row, value in enumerate(own) if value not in hidden]
        if not shown:
            notes.append(f"left out {split}: none of its {len(own):,} images has a label")
            continue
        rows[split] = shown
        if len(shown) < len(own):
            notes.append(f"{split}: left out {len(own) - len(shown):,} of {len(own):,} images, which have no label")
    if not rows:
        raise UserError(f"{place}: no image has a label")
    given = {split: [plain[split][row] for row in own] for split, own in rows.items()}
    for split, own in given.items():
        kinds = {type(value).__name__ for value in own}
        if not (kinds <= {"int"} or kinds <= {"str"}):
            kinds = ", ".join(sorted(kinds))
            raise UserError(f"{place}: {split}: labels are of type {kinds}; one class per image is expected")
    first = next(iter(given))
    classes = declared[first]
    if classes is None:
        index = {value: number for number, value in enumerate(sorted(set(given[first])))}
        classes = tuple(map(str, index))
    else:
        agree(place, {split: names for split in given if (names := declared[split]) is not None})
        index = {number: number for number in range(len(classes))}
    for split, own in given.items():
        if extra := sorted(set(own) - set(index), key=str):
            raise UserError(f"{place}: {split} has labels without a class: {', '.join(map(repr, extra[:5]))}")
    labels = {split: torch.tensor([index[value] for value in own]) for split, own in given.items()}
    return classes, labels, rows, notes


def _plain(value: Any) -> Any:
    """Return a whole number as such, which is stored as a float where others are missing; a missing one as None."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def agree(place: str, classes: Mapping[str, Sequence[str]]) -> None:
    """Check that all splits have the same classes in the same order.

    Raises:
        UserError: They do not; names a class that is extra, and where.
    """
    (first, expected), *others = classes.items()
    for split, names in others:
        for here, there, extra in (
            (split, first, sorted(set(names) - set(expected))),
            (first, split, sorted(set(expected) - set(names))),
        ):
            if extra:
                extra = ", ".join(map(repr, extra[:5]))
                raise UserError(f"{place}: classes differ between splits: {extra} is in {here} but not in {there}")
        if tuple(names) != tuple(expected):
            raise UserError(f"{place}: {first} and {split} number the same classes in another order")
