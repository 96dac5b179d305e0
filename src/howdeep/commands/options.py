"""Options that several commands share. Torch is imported when a command runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from howdeep.commands.output import Output
from howdeep.util.options import Flat, OptionalFile

if TYPE_CHECKING:
    from rich.console import RenderableType

    from howdeep.util.records import Shown


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Where the result of a command goes that has a table and a chart."""

    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
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
