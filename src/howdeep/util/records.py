"""Frozen records: what an analysis found, as JSON with where it comes from, and as sentence, table and chart."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from html import escape
from importlib.metadata import PackageNotFoundError, version
from json import JSONDecodeError
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from howdeep.util.errors import UserError
from howdeep.util.text import listed

if TYPE_CHECKING:
    from howdeep.show.figures.drawing import Chart
    from howdeep.show.tables import Table

T = TypeVar("T")
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, StopIteration, RecursionError)
"""What reading or drawing raises where a record does not hold what its kind should."""
IN_MEMORY = {"in_memory": True}
"""Metadata of a field that no file holds, such as a network; its default is None."""
KIND = "record"
"""Entry of a written record that says what it is: the name of its class, in lower case."""
SCHEMA, SCHEMA_NOW = "schema", 1
"""Entry that says how it is written, and the number that this version writes: another one means other entries."""
LIBRARIES = ("howdeep", "torch", "torchvision", "numpy", "pillow", "timm", "transformers")
"""What networks, arithmetic and decoded pixels come from."""


class OtherVersionError(UserError):
    """A record that this version would not write: another one did, or it is damaged.

    Args:
        lacks: What is missing or different, and where.
    """

    def __init__(self, lacks: str) -> None:
        super().__init__(f"{lacks}: another version of howdeep wrote it")
        self.lacks = lacks


class Shown:
    """A record that can be looked at: what draws it is imported when it is asked for, and not before.

    These are the only imports from a later room: code that holds a record should not have to know what draws it.
    """

    @property
    def finding(self) -> str:
        """What the record says, in one sentence."""
        from howdeep.show import kind_of

        return kind_of(self).finding(self)

    def table(self, *, wide: bool = False) -> "Table":
        """Return the record as a table: of 80 columns or, wide, with every row and column."""
        from howdeep.show import kind_of

        return kind_of(self).table(self, wide=wide)

    def figure(self) -> "Chart":
        """Return the record as a chart.

        Raises:
            UserError: There is no chart of this kind of record.
        """
        from howdeep.show import figures, kind_of

        if (name := kind_of(self).figure) is None:
            raise UserError(f"there is no chart of a record of kind {type(self).__name__}")
        return getattr(figures, name)(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the finding, the chart where there is one, and the table."""
        from howdeep.show.figures import svg

        try:
            chart = svg(self.figure())
        except UserError:
            chart = ""
        table = replace(self.table(), title="")
        return f"<p><b>{escape(self.finding)}</b></p>{chart}{table._repr_html_()}"


def tagged(kind: str, data: Mapping[str, Any]) -> dict:
    """Return plain data that a command is about to write, with what it is, so that a reader of files can tell."""
    return {SCHEMA: SCHEMA_NOW, KIND: kind, "versions": versions(), **data}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are there."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def to_json(record: Any) -> dict:
    """Return a frozen record as plain data, without its fields :data:`IN_MEMORY`."""
    held = [field.name for field in fields(record) if field.metadata.get("in_memory")]
    written = asdict(replace(record, **dict.fromkeys(held)) if held else record)
    return {name: value for name, value in written.items() if name not in held}


def from_json(kind: type[T], data: Mapping[str, Any]) -> T:
    """Return the record of a kind that :func:`to_json` turned into plain data; entries of other names are left out.

    Raises:
        OtherVersionError: An entry is missing, or is not what its annotation says.
    """
    if not isinstance(data, Mapping):
        raise OtherVersionError(f"{kind.__name__} is no record")
    own = fields(kind)  # type: ignore[arg-type]
    if missing := [one.name for one in own if one.name not in data and one.default is one.default_factory is MISSING]:
        raise OtherVersionError(f"{kind.__name__} has no {listed(missing)}")
    hints, values = get_type_hints(kind), {}
    for name in [one.name for one in own if one.name in data]:
        try:
            values[name] = _value(hints[name], data[name])
        except (TypeError, ValueError) as error:
            told = isinstance(error, OtherVersionError)
            raise error if told else OtherVersionError(f"{kind.__name__} has {name} of another kind") from None
    return kind(**values)


@contextmanager
def read_from(path: Path, cure: str) -> Iterator[None]:
    """Let what is wrong with the record of a file be one line for the user, that names the file.

    Args:
        path: The file.
        cure: What to do.

    Raises:
        UserError: It is damaged, or was written by another version.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except MALFORMED as error:
        if isinstance(error, UserError) and not isinstance(error, OtherVersionError):
            raise
        raise UserError(f"{path} {unlike(error)}; {cure}") from None


def unlike(error: Exception) -> str:
    """Return what is wrong with a record, behind the name of its file and in no words of Python's."""
    if isinstance(error, JSONDecodeError | UnicodeDecodeError | RecursionError):
        return f"is damaged: {error}"
    if isinstance(error, OtherVersionError | KeyError):
        lacks = error.lacks if isinstance(error, OtherVersionError) else f"it has no {error.args[0]}"
        return f"was written by another version of howdeep: {lacks}"
    return "was written by another version of howdeep, or is damaged"


def _value(hint: Any, value: Any) -> Any:
    """Return a value as its annotation says: tuples, records and optional ones; all else as it is."""
    if value is None:
        return None
    if is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_value(kinds[0], item) for item in value)
        return tuple(_value(kind, item) for kind, item in zip(kinds, value, strict=True))
    if get_origin(hint) in (Union, UnionType):
        return _value(next(kind for kind in get_args(hint) if kind is not type(None)), value)
    return value
