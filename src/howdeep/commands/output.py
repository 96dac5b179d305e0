"""Where results go: files first, then tables on standard output; remarks on standard error.

Nothing that happens to a terminal takes a result away: files are written before anything is printed, and standard
output and standard error cannot fail (see :mod:`howdeep.runtime.process`).
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro.conf

from howdeep.runtime.ranks import this_process
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
from howdeep.util.options import Flat, OptionalFile

if TYPE_CHECKING:
    from rich.console import RenderableType

    from howdeep.util.records import Shown


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options that every measuring command has."""

    json: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the result as JSON to this file; - is standard output."""
    overwrite: bool = False
    """Replace files that exist."""

    @property
    def place(self) -> Path | None:
        """The file that the result is written to."""
        return None if self.json in (None, "-") else Path(str(self.json))

    def check(self, *others: Path | None) -> None:
        """Refuse before anything is measured what could not be written afterwards.

        Args:
            others: Further files that the command writes.

        Raises:
            UserError: A file exists, its folder does not or cannot be written, or two files are one.
        """
        places = [place for place in (self.place, *others) if place is not None]
        for place in places:
            refuse_existing(place, overwrite=self.overwrite)
        for number, place in enumerate(places):
            if os.path.realpath(place) in map(os.path.realpath, places[:number]):
                raise UserError(f"{place} is named twice: one result would replace the other")

    def finish(
        self,
        record: object,
        *shown: "RenderableType",
        figure: Path | None = None,
        draw: Callable[[Path], object] = lambda place: None,
        caption: str = "chart",
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """Write what was asked for, then print. What cannot be written keeps nothing else from being written.

        Args:
            record: The result as plain data.
            shown: The same for people; a text is one line and is not broken.
            figure: A file beside the JSON.
            draw: Writes it.
            caption: What it shows.
            written: Called once the result is in its file.

        Raises:
            SaveError: Something could not be written.
        """
        with ExitStack() as last:
            last.callback(self._print, record, shown)
            if figure is not None:
                last.callback(_drawn, figure, draw, caption)
            if self.place is not None:
                write_whole(self.place, f"{json.dumps(record, indent=1)}\n".encode())
            written()

    def _print(self, record: object, shown: "tuple[RenderableType, ...]") -> None:
        """Print the tables on standard output, unless the JSON goes there."""
        from rich.console import Console

        # Names of classes and files are no markup.
        console = Console(stderr=self.json == "-", highlight=False, markup=False, emoji=False)
        for one in shown:
            console.print(one, soft_wrap=isinstance(one, str))
        if self.json == "-":
            print(json.dumps(record, indent=1))


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Where the result of a command goes that has a table and a chart."""

    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png, .pdf or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def check_files(self) -> None:
        """Refuse before anything is measured what could not be written afterwards.

        Raises:
            UserError: As :meth:`Output.check`, or the ending is not that of a chart.
        """
        if self.figure is not None:
            from howdeep.show.figures import check_ending

            check_ending(self.figure)
        self.output.check(self.figure)

    def finish(
        self,
        data: object,
        record: "Shown",
        *,
        table: "RenderableType | None" = None,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """Write, draw and print.

        Args:
            data: The record as plain data, with where it comes from.
            record: The record.
            table: What is printed; None is the record's own table.
            written: Called once the result is in its file.
        """
        from howdeep.show import figures

        self.output.finish(
            data,
            record.table() if table is None else table,
            figure=self.figure,
            draw=lambda path: figures.save(record.figure(), path),
            written=written,
        )


def _drawn(figure: Path, draw: Callable[[Path], object], caption: str) -> None:
    draw(figure)
    remark(f"{figure}: {caption}")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where no file can be written, and a file that exists, unless it may be replaced.

    Raises:
        UserError: It is one of them.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file")
    if path.is_file() and not overwrite:
        raise UserError(f"{path} exists; name another file, or say --overwrite")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: the folder {path.parent} is read-only")


def remark(line: str) -> None:
    """Print one line to standard error; of several processes the first one does."""
    if this_process().first:
        print(line, file=sys.stderr)
