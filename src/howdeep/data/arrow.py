"""Arrow tables in the Hugging Face image layout: which column is what, and labels as class indices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from howdeep.data.images import ArrowImages, PickedImages
from howdeep.data.records import Images, Listing
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
    images = _declared(features, "Image", schema) or [field.name for field in schema if _is_image(field.type)]
    classed = _declared(features, "ClassLabel", schema)
    labels = classed or [name for name in LABEL_NAMES if name in schema.names]
    if not images:
        raise UserError(
            f"{place} has no image column (a struct of bytes and path); its columns are {', '.join(schema.names)}"
        )
    names = features[labels[0]].get("names") if classed else None
    others = [
        f"{kind} column: {found[0]} (not {', '.join(found[1:])})"
        for kind, found in (("image", images), ("label", labels))
        if len(found) > 1
    ]
    classes = tuple(map(str, names)) if names else None
    return Columns(images[0], labels[0] if labels else None, tuple(schema.names), classes, tuple(others))


def with_labels(place: str, columns: Mapping[str, Columns]) -> tuple[dict[str, Columns], tuple[str, ...]]:
    """Return the splits that have a label column, and what to say of the others.

    Raises:
        UserError: None has one.
    """
    found = {split: each for split, each in columns.items() if each.label is not None}
    if not found:
        names = next(iter(columns.values())).all
        raise UserError(f"{place} has no label column; its columns are {', '.join(names)}")
    return found, tuple(f"left out {split}: it has no label column" for split in columns if split not in found)


def _declared(features: Mapping[str, Any], kind: str, schema: "pyarrow.Schema") -> list[str]:
    """Return the columns of one feature type, in the order of the table."""
    return [
        name for name in schema.names if isinstance(features.get(name), Mapping) and features[name].get("_type") == kind
    ]


def _is_image(kind: "pyarrow.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def encoded_images(column: "pyarrow.ChunkedArray") -> ArrowImages:
    """Return the images of a column of bytes, or of structs of bytes and path, without copying.

    A path is opened where bytes are missing. So a column that comes from elsewhere must not have the field,
    since its paths would name files of this machine.
    """
    import pyarrow as pa

    if not pa.types.is_struct(column.type):
        return ArrowImages(column)
    fields = {field.name: part for field, part in zip(column.type, column.flatten(), strict=True)}
    return ArrowImages(fields["bytes"], fields.get("path"))


@dataclass(frozen=True)
class Labelled:
    """The labels of all splits as class indices."""

    classes: tuple[str, ...]
    """Class names."""
    labels: dict[str, Tensor]
    """Class indices of the images that have a label, int64, by split; a split without any is absent."""
    rows: dict[str, list[int]]
    """The rows of those images."""
    notes: tuple[str, ...]
    """What was left out."""

    def listing(self, split: str, images: Images, names: Sequence[str]) -> Listing:
        """Return the labelled ones of all images of a split."""
        rows = self.rows[split]
        if len(rows) == len(names):
            return Listing(images, self.labels[split], names)
        return Listing(PickedImages(images, rows), self.labels[split], [names[row] for row in rows])


def encode_labels(
    place: str, values: Mapping[str, Sequence[Any]], declared: Mapping[str, tuple[str, ...] | None]
) -> Labelled:
    """Turn the label values of all splits into class indices; images whose label is hidden are left out.

    Hidden are nulls, empty texts, and −1 where names of classes are declared or 0 is a label: −1 beside 1 alone are
    two classes.

    Args:
        place: Where the data is, for messages.
        values: Label values by split, `train` first where there is one.
        declared: Class names by split, where metadata gives them.

    Returns:
        The class names, and labels by split. Without declared names the classes are the sorted values.

    Raises:
        UserError: No image has a label, labels are of another kind, or the splits disagree on the classes.
    """
    plain = {split: list(map(_plain, found)) for split, found in values.items()}
    numbered = any(declared.values()) or any(0 in found for found in plain.values())
    rows = {
        split: [row for row, value in enumerate(found) if not _is_hidden(value, numbered)]
        for split, found in plain.items()
    }
    rows = {split: kept for split, kept in rows.items() if kept}
    if not rows:
        raise UserError(f"{place}: no image has a label")
    shown = {split: [plain[split][row] for row in kept] for split, kept in rows.items()}
    for split, found in shown.items():
        _check_values(f"{place}: {split}", found)
    names, index = _index(place, shown, {split: declared[split] for split in shown})
    labels = {split: _lookup(f"{place}: {split}", found, index) for split, found in shown.items()}
    return Labelled(names, labels, rows, _hidden_notes(plain, rows))


def _plain(value: Any) -> Any:
    """Return a whole number that was stored as a float, beside missing ones, as what it is."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def _is_hidden(value: Any, numbered: bool) -> bool:
    return value is None or value == "" or (numbered and value == -1)


def _index(
    place: str, values: Mapping[str, Sequence[Any]], declared: Mapping[str, tuple[str, ...] | None]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names, and the class of every value."""
    names = declared[first := next(iter(values))]
    if names is None:
        known = sorted(set(values[first]))
        return tuple(map(str, known)), {value: position for position, value in enumerate(known)}
    agree(place, {split: found for split, found in declared.items() if found is not None})
    return names, {position: position for position in range(len(names))}


def _hidden_notes(values: Mapping[str, Sequence[Any]], rows: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    notes = []
    for split, found in values.items():
        hidden = len(found) - len(rows.get(split, ()))
        if split not in rows:
            notes.append(f"left out {split}: none of its {hidden:,} images has a label")
        elif hidden:
            notes.append(f"{split}: left out {hidden:,} of {len(found):,} images, which have no label")
    return tuple(notes)


def _check_values(place: str, values: Sequence[Any]) -> None:
    kinds = {type(value).__name__ for value in values}
    if not (kinds <= {"int"} or kinds <= {"str"}):
        raise UserError(f"{place}: labels are of type {', '.join(sorted(kinds))}; one class per image is expected")


def _lookup(place: str, values: Sequence[Any], index: Mapping[Any, int]) -> Tensor:
    extra = sorted(set(values) - set(index), key=str)
    if extra:
        raise UserError(f"{place} has labels without a class: {', '.join(map(repr, extra[:5]))}")
    return torch.tensor([index[value] for value in values], dtype=torch.int64)


def agree(place: str, classes: Mapping[str, Sequence[str]]) -> None:
    """Check that all splits have the same classes in the same order.

    Raises:
        UserError: They do not; names a class that is extra, and where.
    """
    (first, expected), *others = classes.items()
    for split, found in others:
        for here, there, extra in (
            (split, first, sorted(set(found) - set(expected))),
            (first, split, sorted(set(expected) - set(found))),
        ):
            if extra:
                names = ", ".join(map(repr, extra[:5]))
                raise UserError(f"{place}: classes differ between splits: {names} is in {here} but not in {there}")
        if tuple(found) != tuple(expected):
            raise UserError(f"{place}: {first} and {split} number the same classes in another order")
