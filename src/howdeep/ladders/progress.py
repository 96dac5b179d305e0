"""Progress of a ladder: one line per finished run, and a bar with the time left where the output is a terminal."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich import progress
from rich.console import Console

from howdeep.training.journal import print_line, seconds_text


class LadderProgress:
    """What a ladder says while it is climbed.

    Args:
        console: Where to.
        costs: How long each run takes relative to the others, in their order.
    """

    def __init__(self, console: Console, costs: Sequence[float]) -> None:
        self.console, self.costs = console, costs
        self.done, self.spent, self.worked, self.at = 0, 0.0, 0.0, time.perf_counter()
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=None))
        more = (progress.MofNCompleteColumn(), progress.TimeElapsedColumn(), progress.TextColumn("{task.fields[left]}"))
        self.bar = progress.Progress(
            *columns, *more, console=console, transient=True, disable=not console.is_terminal
        )  # fmt: skip
        self.task = self.bar.add_task("", total=len(costs), left="")

    def __enter__(self) -> "LadderProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, what: str) -> None:
        """Show which run is under way."""
        self.at = time.perf_counter()
        self.bar.update(self.task, description=what)

    def finished(self, line: str, *, now: bool) -> None:
        """Print a finished run.

        Args:
            line: What it found.
            now: Whether it was trained now, and not read back: only then it tells how long the others take.
        """
        if now:
            self.spent += time.perf_counter() - self.at
            self.worked += self.costs[self.done]
        self.done += 1
        left = self._left()
        self.bar.update(self.task, completed=self.done, left=left)
        print_line(self.console, f"{self.done:>{len(str(len(self.costs)))}}/{len(self.costs)}  {line}  {left}".rstrip())

    def _left(self) -> str:
        """Return the time left at the speed so far."""
        ahead = sum(self.costs[self.done :])
        if not ahead or not self.worked:
            return ""
        return f"{seconds_text(self.spent / self.worked * ahead)} left"
