"""A record as a table: one neutral layout, shown on a terminal of 80 columns or as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from howdeep.util.text import counted

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

GAP = 2
"""Spaces between columns."""
WORD = 24
"""Longer words of a column of text are broken too, before a column goes for their sake."""
CHOSEN = "→"
"""A line or a row that begins with it is the answer: bold."""
REMARKS = "remarks"
"""What a page calls the column without a head."""
_MINUS = re.compile(r"(?<!\w)-(?=\d)")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A finding, lines that explain it, a grid, and notes: a terminal shows all of it, a report folds the grid."""

    heads: Sequence[str]
    """Of the columns; one without a head holds remarks."""
    rows: Sequence[Sequence[str]]
    """Cells as they are written."""
    text: Collection[int] = ()
    """Columns of text, counted from 0: aligned left and broken where they are long. The others hold numbers."""
    title: str = ""
    """The finding."""
    lines: Sequence[str] = ()
    """Above the grid."""
    below: Sequence[str | Table] = ()
    """Notes and further tables."""
    summary: str = ""
    """What the fold of a report says."""
    drop: Sequence[int] | None = None
    """Columns that a narrow terminal does without, in this order; None: those with a head, the last first, and then
    those of remarks. The first column stays, and no number is ever cut."""

    def folds(self) -> Iterator[Table]:
        """Yield this table and those below it."""
        yield self
        for table in self.below:
            if isinstance(table, Table):
                yield from table.folds()

    def aligned_left(self, column: int) -> bool:
        """Return whether a column holds text."""
        return column in self.text or not self.heads[column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what a terminal shows."""
        from rich.table import Table as Grid
        from rich.text import Text

        shown = self._widths_within(options.max_width)
        grid = Grid(box=None, pad_edge=False)
        for column, width in shown.items():
            justify, breaks = "left" if self.aligned_left(column) else "right", column in self.text
            head = Text(self.heads[column])
            grid.add_column(head, justify=justify, no_wrap=not breaks, width=width, overflow="fold")
        for row in self.rows:
            # Names of classes and files are no markup.
            cells = (Text(row[column]) for column in shown)
            grid.add_row(*cells, style="bold" if row[0].startswith(CHOSEN) else "")
        if self.title:
            yield Text(self.title, style="bold")
        yield from map(_line, self.lines)
        yield grid
        if gone := [" ".join(head.split()) for column, head in enumerate(self.heads) if head and column not in shown]:
            yield _line(f"(not shown at {options.max_width} columns: {', '.join(gone)})")
        yield from (one if isinstance(one, Table) else _line(one) for one in self.below)

    def _widths_within(self, width: int) -> dict[int, int]:
        """Return the columns that a terminal shows, and their widths: text is broken, then columns are left out."""
        from rich.cells import cell_len

        cells = [[head, *(row[column] for row in self.rows)] for column, head in enumerate(self.heads)]
        whole = [max(cell_len(line) for cell in each for line in [*cell.splitlines(), ""]) for each in cells]
        words = [max(cell_len(word) for cell in each for word in [*cell.split(), ""]) for each in cells]
        least = {at: min(words[at], WORD) if at in self.text else size for at, size in enumerate(whole)}
        last = sorted(list(least)[1:], key=lambda column: (not self.heads[column], -column))
        for column in last if self.drop is None else self.drop:
            if sum(least.values()) + GAP * (len(least) - 1) <= width:
                break
            del least[column]
        widths = {column: whole[column] for column in least}
        while sum(widths.values()) + GAP * (len(widths) - 1) > width:
            wide = [column for column in widths if widths[column] > least[column]]
            if not wide:
                break
            widths[max(wide, key=widths.__getitem__)] -= 1
        return widths

    def html(self) -> str:
        """Return the grid as an HTML table, every text escaped."""
        left = [self.aligned_left(column) for column in range(len(self.heads))]
        classes = [' class="t"' if text else "" for text in left]
        named = [head or REMARKS for head in self.heads]
        heads = "".join(f'<th scope="col"{c}>{html.escape(h)}</th>' for c, h in zip(classes, named, strict=True))
        body = ""
        for row in self.rows:
            # The minus of a number is as wide as its plus.
            cells = (cell if text else _MINUS.sub("−", cell) for text, cell in zip(left, row, strict=True))
            bold, light = ("<strong>", "</strong>") if row[0].startswith(CHOSEN) else ("", "")
            cells = (f"<td{c}>{bold}{html.escape(cell)}{light}</td>" for c, cell in zip(classes, cells, strict=True))
            body += f"<tr>{''.join(cells)}</tr>\n"
        return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        title = f"<p><b>{html.escape(self.title)}</b></p>" if self.title else ""
        below = (one._repr_html_() if isinstance(one, Table) else _paragraph(one) for one in self.below)
        return "".join([title, *map(_paragraph, self.lines), self.html(), *below])


def _line(text: str) -> RenderableType:
    """Return a line of a terminal."""
    from rich.text import Text

    return Text(text, style="bold" if text.startswith(CHOSEN) else "")


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def all_of(there: int, shown: int, what: str) -> str:
    """Return what the fold of a table says, where a long one shows the worst; ``what`` is a singular."""
    if there == 1:
        return f"The one {what}"
    return f"All {counted(there, what)}" if there == shown else f"The {shown:,} worst of {counted(there, what)}"
