"""Where results go: files first, then tables on standard output; remarks on standard error.

Nothing that happens to a terminal takes a result away: files are written before anything is printed, and standard
output and standard error cannot fail (see :class:`Stream`).
"""

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro.conf

from howdeep.runtime.ranks import this_process
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole

if TYPE_CHECKING:
    from rich.console import RenderableType


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


class Stream(io.TextIOWrapper):
    """A standard stream that cannot fail: what it cannot show is replaced, what it cannot write is left out.

    A training must not end because somebody closed the pager that its lines went to.
    """

    failure: OSError | None = None
    """Why something was left out."""

    def write(self, text: str) -> int:
        """Write as far as that is possible."""
        try:
            return super().write(text)
        except OSError as error:
            return self._left_out(error) or len(text)

    def flush(self) -> None:
        """Flush as far as that is possible."""
        try:
            super().flush()
        except OSError as error:
            self._left_out(error)

    def _left_out(self, error: OSError) -> None:
        self.failure = self.failure or error
        # What the buffer still holds goes nowhere, also when Python flushes it at its end.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.fileno())


def unfailing(stream: io.TextIOWrapper | None) -> Stream:
    """Return a standard stream as one that cannot fail; None, where it was closed, is one that leads nowhere."""
    if stream is None:
        return Stream(open(os.devnull, "wb"), encoding="utf-8")
    return Stream(
        stream.buffer,
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
