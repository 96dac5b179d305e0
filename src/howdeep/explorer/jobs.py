"""The jobs of all tabs: one computes at a time, piece by piece, in turn; a cut is saved by a process of its own.

A tab's new job ends its old one. ``howdeep cut --remove …`` saves a cut, so that no other job waits for it.
"""

import asyncio
import json
import logging
import shlex
import shutil
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from howdeep.cutting.records import Cut
from howdeep.explorer.records import State
from howdeep.runs.listing import CUT
from howdeep.runs.resume import Journal
from howdeep.runs.target import Target
from howdeep.runtime.timing import threads_of
from howdeep.util.errors import UserError
from howdeep.util.records import from_json

Line = dict[str, Any]
"""What is sent to the page: progress, or a result."""
CANCELLED: Line = {"cancelled": True}


class Cancelled(Exception):
    """Nobody waits for this job any more."""


class Advance(Protocol):
    """Between two pieces of a job: others have their turn, and the page learns how far it is."""

    def __call__(self, done: int, of: int, more: Line | None = None) -> None:
        """Tell how many of how many steps are done, at least one, and what is known already.

        Raises:
            Cancelled: Nobody waits for the rest.
        """
        ...


Work = Callable[[Advance], Line]
"""Computes something, calls ``advance`` between its pieces, returns the result."""


@dataclass(frozen=True)
class Job:
    """One job that is under way."""

    lines: asyncio.Queue[Line | None] = field(default_factory=asyncio.Queue)
    """What it has to say; None ends it."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Whether it shall end at the next piece."""


class Jobs:
    """Which job computes.

    Args:
        threads: Threads of the host for every job; None leaves torch its own.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self._turn = asyncio.Lock()  # hands over in the order of asking
        self._of_tab: dict[str, Job] = {}
        self._tasks: set[asyncio.Task] = set()

    async def run(self, tab: str, work: Work) -> AsyncIterator[Line]:
        """Yield the progress of a job and then its result; the job is cancelled when the listener goes away."""
        self.cancel(tab)
        job = self._of_tab[tab] = Job()
        task = asyncio.create_task(self._work(work, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while (line := await job.lines.get()) is not None:
                yield line
        finally:
            job.stopped.set()
            if self._of_tab.get(tab) is job:
                del self._of_tab[tab]

    def cancel(self, tab: str) -> None:
        """End the job of a tab, if there is one."""
        if tab in self._of_tab:
            self._of_tab[tab].stopped.set()

    def stop(self) -> None:
        """End all jobs at their next piece."""
        for job in list(self._of_tab.values()):
            job.stopped.set()

    async def close(self) -> None:
        """End all jobs and wait until they have ended."""
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, work: Work, job: Job) -> None:
        loop, started = asyncio.get_running_loop(), 0.0

        def advance(done: int, of: int, more: Line | None = None) -> None:
            left = (time.monotonic() - started) / done * (of - done)
            line = {"progress": round(done / of, 4), "step": done, "of": of, "seconds_left": left, **(more or {})}
            asyncio.run_coroutine_threadsafe(self._next(job, line), loop).result()
            if job.stopped.is_set():
                raise Cancelled

        async with self._turn:
            started = time.monotonic()
            result = CANCELLED if job.stopped.is_set() else await asyncio.to_thread(self._result, work, advance)
        job.lines.put_nowait(result)
        job.lines.put_nowait(None)

    def _result(self, work: Work, advance: Advance) -> Line:
        """Compute, in a thread that has torch's number of threads to itself."""
        with nullcontext() if self.threads is None else threads_of(self.threads):
            try:
                return work(advance)
            except Cancelled:
                return CANCELLED
            except (UserError, OSError, ArithmeticError) as error:
                return {"error": str(error)}
            except Exception as error:
                # A mistake of this program: the page must not wait for ever, and the terminal shows where it happened.
                logging.getLogger("howdeep").exception("a job of the page failed")
                message = f"this failed unexpectedly ({type(error).__name__}: {error}); the terminal says more"
                return {"error": message}

    async def _next(self, job: Job, line: Line) -> None:
        """Give the turn to the job that waits longest, and take it again."""
        job.lines.put_nowait(line)
        self._turn.release()
        await self._turn.acquire()


REPORT_EVERY = 0.5
"""Seconds between two lines of progress."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How a cut of the explored network is saved."""

    target: Target
    """The network."""
    data: str
    """What DATA is on the command line."""
    arguments: tuple[str, ...]
    """Options that say which network is meant, as on the command line."""

    @property
    def impossible(self) -> str | None:
        """Why no cut of this network can be saved, or None."""
        if self.target.network is None:
            return f"nothing says how to build {self.target.name} again"
        if not any(unit.merge.removable for unit in self.target.chain.units):
            return "no unit of this network can be taken out"
        return None

    def first(self, units: int, data: str) -> str:
        """Return the command that keeps the first units alone, under a new classifier for some data."""
        out = f"{self._run}-first-{units}"
        return shlex.join(["howdeep", "cut", *self.arguments, "--data", data, "--first", str(units), "--out", out])

    @property
    def _run(self) -> Path:
        """The run folder; of a network of a library a name of its own, here."""
        return Path(self.target.name.rpartition(":")[2])

    def removed(self, state: State, own: State) -> list[int]:
        """Return the numbers of the units that are out in a state, from 1.

        Raises:
            UserError: The state is not that of a network without some of its units.
        """
        if self.impossible:
            raise UserError(self.impossible)
        if state.shuffled:
            raise UserError("units stand at other places: a cut takes units out and leaves the others where they are")
        for index, (gate, usual) in enumerate(zip(state.gates, own.gates, strict=True), 1):
            if gate not in (None, usual):
                raise UserError(f"unit {index} has a gate of {gate:g}: a cut takes a unit out or leaves it as it is")
        if not state.closed:
            raise UserError("no unit is out: there is nothing to save")
        return [index + 1 for index in state.closed]

    async def save(self, removed: Sequence[int]) -> AsyncGenerator[Line]:
        """Yield the progress of the command that takes units out, then what it wrote.

        The command ends when the listener goes away, and what it had begun is removed.
        """
        try:
            out = self._place(len(self.target.chain) - len(removed))
        except OSError as error:
            yield {"error": f"no folder can be made for the cut: {error.strerror} ({error.filename})"}
            return
        numbers = [str(number) for number in removed]
        arguments = ["cut", *self.arguments, "--data", self.data, "--out", str(out), "--remove", *numbers]
        command, nothing, pipe = [sys.executable, "-m", "howdeep"], asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, *arguments, stdin=nothing, stdout=nothing, stderr=pipe)
        ended, started = asyncio.create_task(process.communicate()), time.monotonic()
        try:
            while not (await asyncio.wait([ended], timeout=REPORT_EVERY))[0]:
                # Nobody knows how long it takes: the share comes nearer to 1 without reaching it.
                seconds = time.monotonic() - started
                share = round(seconds / (seconds + 20), 3)
                yield {"progress": share, "text": f"cutting and measuring, {seconds:.0f} s"}
            if process.returncode == 0:
                beside = ["explore", *self.arguments, "--data", self.data, "--beside", str(out)]
                yield _saved(arguments, out, beside)
            else:
                lines = (await ended)[1].decode(errors="replace").strip().splitlines()
                yield {"error": lines[-1].removeprefix("howdeep: ") if lines else "the cut failed without output"}
        finally:
            if process.returncode is None:
                process.kill()  # nothing of it is kept, so that it need not finish what is under way
            # A server cancels at every await again: what is begun here ends in a task of its own.
            await asyncio.shield(_tidied(process, out))

    def _place(self, left: int) -> Path:
        """Make a folder beside the run folder, for networks of a library here: no other process gets the same one."""
        run = self._run
        first = run.with_name(f"{run.name}-cut-to-{left}-units")
        place, number = first, 1
        while True:
            try:
                place.mkdir()
                return place
            except FileExistsError:
                number += 1
                place = first.with_name(f"{first.name}-{number}")


async def _tidied(process: asyncio.subprocess.Process, out: Path) -> None:
    """Remove what a command leaves that does not end well."""
    if await process.wait() != 0:
        shutil.rmtree(out, ignore_errors=True)
        Journal(out).remove()


def _saved(arguments: Sequence[str], out: Path, beside: Sequence[str]) -> Line:
    record, run = json.loads((out / CUT).read_bytes()), str(out)
    following = (beside, ["evaluate", run, "--data", record["data"]], ["report", run])
    return {
        "saved": {
            "run": run,
            "command": shlex.join(["howdeep", *arguments]),
            "sentence": from_json(Cut, record).finding,
            "next": [shlex.join(["howdeep", *words]) for words in following],
        }
    }
