"""The progress bar: one line at the foot of a terminal, nothing anywhere else."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar(Progress):
    """What is being done, how much of it is done, and how long the rest takes.

    Args:
        console: Where the bar is shown if it is a terminal.
        what: What is being done.
        total: How much there is; None where that is unknown.
        done: How much of it was done before.
        counted: Whether ``done/total`` are counts that a reader understands.
        estimate: Estimate the time that is left from the speed so far; else the caller says it (``left``).
        on: False shows nothing: another process does.
    """

    def __init__(
        self,
        console: Console,
        what: str = "",
        total: float | None = None,
        *,
        done: int = 0,
        counted: bool = True,
        estimate: bool = True,
        on: bool = True,
    ) -> None:
        estimated = [TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True)]
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            *([MofNCompleteColumn()] if counted else []),
            TimeElapsedColumn(),
            *(estimated if estimate else [TextColumn("{task.fields[left]}")]),
            console=console,
            transient=True,
            disable=not on or not console.is_terminal,
        )
        self._task = self.add_task(what, total=total, completed=done, left="")

    def show(self, what: str | None = None, *, done: float | None = None, more: float = 0, left: str = "") -> None:
        """Show what is being done, how much is done in all or more than before, and how long the rest takes."""
        self.update(self._task, description=what, completed=done, advance=more or None, left=left)
