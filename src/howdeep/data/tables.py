"""Arrow tables in the Hugging Face image layout: which column is what, and labels as class indices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from howdeep.data.encoded import ArrowImages
from howdeep.errors import UserError

if TYPE_CHECKING:
    import pyarrow

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True)
class Columns:
    """Where images and labels are in a table."""

    image: str
    """The column of images."""
    label: str
    """The column of labels."""
    classes: tuple[str, ...] | None
    """Class names by label, where the metadata gives them."""
    notes: tuple[str, ...] = ()
    """Said where there was more than one to choose from."""


def find_columns(place: str, schema: "pyarrow.Schema", features: Mapping[str, Any]) -> Columns:
    """Find image and label column by the features that Hugging Face declares, or else by type and name.

    Raises:
        UserError: There is no image or no label column.
    """
    images = _declared(features, "Image", schema) or [field.name for field in schema if _is_image(field.type)]
    classed = _declared(features, "ClassLabel", schema)
    labels = classed or [name for name in LABEL_NAMES if name in schema.names]
    if not images or not labels:
        missing = "label column" if images else "image column (a struct of bytes and path)"
        raise UserError(f"{place} has no {missing}; its columns are {', '.join(schema.names)}")
    names = features[labels[0]].get("names") if classed else None
    others = [
        f"{kind} column: {found[0]} (not {', '.join(found[1:])})"
        for kind, found in (("image", images), ("label", labels))
        if len(found) > 1
    ]
    return Columns(images[0], labels[0], tuple(map(str, names)) if names else None, tuple(others))


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


def encode_labels(
    place: str, values: Mapping[str, Sequence[Any]], declared: Mapping[str, tuple[str, ...] | None]
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Turn the label values of all splits into class indices.

    Args:
        place: Where the data is, for messages.
        values: Label values by split, `train` first where there is one.
        declared: Class names by split, where metadata gives them.

    Returns:
        The class names, and int64 labels by split. Without declared names the classes are the sorted values.

    Raises:
        UserError: Labels are missing or of another kind, or the splits disagree on the classes.
    """
    for split in values:
        _check_values(f"{place}: {split}", values[split])
    first = next(iter(values))
    names = declared[first]
    if names is None:
        known = sorted(set(values[first]))
        index = {value: position for position, value in enumerate(known)}
        names = tuple(map(str, known))
    else:
        agree(place, {split: found for split, found in declared.items() if found is not None})
        index = {position: position for position in range(len(names))}
    return names, {split: _lookup(f"{place}: {split}", values[split], index) for split in values}


def _check_values(place: str, values: Sequence[Any]) -> None:
    kinds = {type(value).__name__ for value in values}
    if kinds <= {"int"} or kinds <= {"str"}:
        return
    if "NoneType" in kinds:
        raise UserError(f"{place}: {sum(value is None for value in values)} images have no label")
    raise UserError(f"{place}: labels are of type {', '.join(sorted(kinds))}; one class per image is expected")


def _lookup(place: str, values: Sequence[Any], index: Mapping[Any, int]) -> Tensor:
    extra = sorted(set(values) - set(index))
    if extra:
        hint = "; -1 stands for a hidden label" if extra == [-1] else ""
        raise UserError(f"{place} has labels without a class: {', '.join(map(repr, extra[:5]))}{hint}")
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
