"""The works of all tabs: one computes at a time, piece by piece, in turn; a tab's new work ends its old one."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from howdeep.runtime.timing import threads_of
from howdeep.util.errors import UserError

Line = dict[str, Any]
"""What is sent to the page: progress, or a result."""
CANCELLED: Line = {"cancelled": True}


class Cancelled(Exception):
    """Nobody waits for this work any more."""


class Advance(Protocol):
    """Between two pieces of a work: others have their turn, and the page learns how far it is."""

    def __call__(self, done: float, more: Line | None = None) -> None:
        """Tell what share is done, 0 to 1, and what is known already.

        Raises:
            Cancelled: Nobody waits for the rest.
        """
        ...


Work = Callable[[Advance], Line]
"""Computes something, calls ``advance`` between its pieces, returns the result."""


@dataclass(frozen=True)
class Job:
    """One work that is under way."""

    lines: asyncio.Queue[Line | None] = field(default_factory=asyncio.Queue)
    """What it has to say; None ends it."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Whether it shall end at the next piece."""


class Jobs:
    """Who computes.

    Args:
        threads: Threads of the host of every work; None leaves torch its own.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self._turn = asyncio.Lock()  # hands over in the order of asking
        self._of_tab: dict[str, Job] = {}
        self._tasks: set[asyncio.Task] = set()

    async def run(self, tab: str, work: Work) -> AsyncIterator[Line]:
        """Yield the progress of a work and then its result; whoever stops listening cancels it."""
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
        """End the work of a tab, if there is one."""
        if tab in self._of_tab:
            self._of_tab[tab].stopped.set()

    def stop(self) -> None:
        """End all works at their next piece."""
        for job in list(self._of_tab.values()):
            job.stopped.set()

    async def close(self) -> None:
        """End all works and wait until they have."""
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, work: Work, job: Job) -> None:
        loop = asyncio.get_running_loop()

        def advance(done: float, more: Line | None = None) -> None:
            line = {"progress": round(done, 4), **(more or {})}
            asyncio.run_coroutine_threadsafe(self._next(job, line), loop).result()
            if job.stopped.is_set():
                raise Cancelled

        async with self._turn:
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
                logging.getLogger("howdeep").exception("a work of the page failed")
                message = f"this failed unexpectedly ({type(error).__name__}: {error}); the terminal says more"
                return {"error": message}

    async def _next(self, job: Job, line: Line) -> None:
        """Give the turn to whoever waits longest, and take it again."""
        job.lines.put_nowait(line)
        self._turn.release()
        await self._turn.acquire()
