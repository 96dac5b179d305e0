"""This process: signals that stop it after the step under way, streams that cannot fail, freed memory that it keeps.

There is one handler of SIGINT and SIGTERM in a process, that of the command; a function that is called from a program
installs its own and removes it again. Only the main thread can have one.
"""

import ctypes
import io
import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from howdeep.util.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """One of the signals, where no step has to be finished first.

    Args:
        signum: Which.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


class StopRequest:
    """What the signals asked for: the first one waits for patient tasks, the next one acts at once.

    At most one exception comes of them, so that nothing disturbs the end that it leads to. One more signal
    restores the system's handlers, under which the next one ends the process.
    """

    def __init__(self) -> None:
        self.signum = 0
        """The first signal; 0 before there is one."""
        self.patient = 0
        """Tasks that look at it between their steps."""
        self.ending = False
        """Whether the end has begun that it asks for, or any other."""

    def arrived(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        first, self.signum = not self.signum, self.signum or signum
        if first and self.patient:
            return
        if self.ending:
            signal.signal(signum, signal.SIG_DFL)
            return
        self.ending = True
        raise Interrupted(self.signum)


@contextmanager
def patience() -> Iterator[StopRequest]:
    """Let a first signal wait until this context ends, or until the task looks at it.

    Raises:
        Interrupted: A signal arrived, and the task has not ended because of it: at the end. A second one: at once.
    """
    with _handled() as request:
        request.patient += 1
        try:
            yield request
        except Stopped:
            request.ending = True
            raise
        finally:
            request.patient -= 1
        if request.signum and not request.ending:
            request.ending = True
            raise Interrupted(request.signum)


@contextmanager
def stopped(message: str) -> Iterator[None]:
    """Turn what the signals raise into :class:`Stopped`, with one line for the user."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Stopped(128 + getattr(interrupt, "signum", signal.SIGINT), f"stopped; {message}") from None


def install() -> StopRequest:
    """Handle the signals until the process ends."""
    request = StopRequest()
    for signum in SIGNALS:
        signal.signal(signum, request.arrived)
    return request


@contextmanager
def _handled() -> Iterator[StopRequest]:
    """Yield the request of this process; without one, handle the signals for a while."""
    installed = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(installed, StopRequest):
        yield installed
    elif threading.current_thread() is not threading.main_thread():
        yield StopRequest()
    else:
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        try:
            yield install()
        finally:
            for signum, handler in before.items():
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)


class Stream(io.TextIOWrapper):
    """A standard stream that cannot fail: what it cannot show is replaced, what it cannot write is left out."""

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


TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Numbers of glibc's ``mallopt`` for: bytes free at the end of the heap that are given back, bytes asked for at a time,
size from which a buffer has pages of its own."""
MIB = 2**20
SETTINGS = {MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 2047 * MIB, TOP_PAD: 64 * MIB}
"""The largest that glibc takes for the first two."""


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next buffers; its peak stays what it was.

    Returns:
        Whether that was possible: with glibc, and where the environment does not say otherwise.
    """
    own = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if own or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(ctypes.c_int(option), ctypes.c_int(value)) for option, value in SETTINGS.items())
