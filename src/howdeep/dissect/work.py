"""Long work in blocks: shared among processes, kept on disk block by block, so that the same command goes on.

Every block is a function of its number alone, and results are put together in the order of the blocks: an
interrupted sweep, or one of several processes, ends with the numbers of an uninterrupted one, to the bit.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from howdeep.errors import Stopped, UserError
from howdeep.files import append
from howdeep.keys import difference
from howdeep.training.distributed import Ranks
from howdeep.training.interrupt import patience, stopped

Result = dict
"""What one block gives: plain data."""


@dataclass(frozen=True)
class Work:
    """How the blocks are worked on; by default here, at once, kept nowhere."""

    ranks: Ranks = field(default_factory=lambda: Ranks(0, 1))
    """Which process this is; each takes every world-th of the blocks that are left."""
    place: Path | None = None
    """File beside which finished blocks are kept until the record is written; None keeps nothing."""
    key: dict = field(default_factory=dict)
    """Everything that the numbers depend on; blocks that were kept under another key are refused."""
    console: Console = field(default_factory=lambda: Console(stderr=True))
    """Where the progress bar goes, if it is a terminal."""

    def blocks(self, what: str, total: int, compute: Callable[[int], Result]) -> list[Result]:
        """Return the results of the blocks 0 … total − 1, in order.

        Raises:
            UserError: What was kept belongs to other work.
            Stopped: An interrupt arrived.
        """
        done, error = self.ranks.from_first(_tried(self._kept) if self.ranks.first else None)  # type: ignore[misc]
        _raise(error)
        left = [block for block in range(total) if block not in done]

        def own() -> dict[int, Result]:
            with self._bar(what, total, len(done)) as advance, stopped(self._goes_on):
                for block in left[self.ranks.rank :: self.ranks.world]:
                    with patience():
                        done[block] = compute(block)
                        self._keep(block, done[block])
                    advance()
            return done

        parts = self.ranks.gathered(_tried(own))
        _raise(next((error for _, error in parts if error), None))
        merged = {block: result for part, _ in parts for block, result in part.items()}
        return [merged[block] for block in range(total)]

    @property
    def _goes_on(self) -> str:
        if self.place is None:
            return "nothing was kept; with --json FILE the same command would go on"
        return "the same command goes on"

    def kept(self, name: str) -> object:
        """Return an entry of the key under which blocks were kept before, or None."""
        lines = [line for path in _kept_files(self.place) for line in _whole_lines(path)] if self.place else []
        return lines[0]["key"].get(name) if lines else None

    def finished(self) -> None:
        """Remove what was kept: the record is written."""
        if self.ranks.first and self.place is not None:
            for path in _kept_files(self.place):
                path.unlink()

    def _kept(self) -> dict[int, Result]:
        found: dict[int, Result] = {}
        own = json.loads(json.dumps(self.key))  # as it is written down: tuples are lists
        for path in _kept_files(self.place) if self.place is not None else []:
            for line in _whole_lines(path):
                if other := difference(line["key"], own):
                    kept = f"{path} holds an unfinished measurement of another {other}"
                    raise UserError(f"{kept}; remove it, or name another --json")
                found[line["block"]] = line["result"]
        return found

    def _keep(self, block: int, result: Result) -> None:
        if self.place is not None:
            line = json.dumps({"key": self.key, "block": block, "result": result})
            # The line end first: it closes a line that a crash cut short.
            append(_kept_file(self.place, self.ranks.rank), f"\n{line}")

    @contextmanager
    def _bar(self, what: str, total: int, done: int) -> Iterator[Callable[[], None]]:
        columns = (TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn())
        quiet = not self.ranks.first or not self.console.is_terminal
        columns = (*columns, TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True))
        with Progress(*columns, console=self.console, transient=True, disable=quiet) as bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda: bar.advance(task, self.ranks.world)


def _tried(work: Callable[[], dict[int, Result]]) -> tuple[dict[int, Result], Exception | None]:
    """Return what work gives, or the error for the user, which every process must raise: none may wait for another."""
    try:
        return work(), None
    except (UserError, ArithmeticError, OSError, Stopped) as error:
        return {}, error


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


def _kept_file(place: Path, rank: int) -> Path:
    return place.with_name(f"{place.name}.part{rank}")


def _kept_files(place: Path) -> list[Path]:
    return sorted(place.parent.glob(f"{place.name}.part[0-9]*"))


def _whole_lines(path: Path) -> list[dict]:
    """Return the lines of a file; those that a crash cut short are left out."""
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
