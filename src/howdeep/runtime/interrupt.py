"""SIGINT and SIGTERM ask a computation to stop after the step that is under way.

There is one handler in a process, that of the command; a function that is called from a program installs its own and
removes it again. Other threads than the main one can have none, and need none.
"""

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
    """What the signals asked for: the first one waits for a work that is patient, the next one acts at once.

    At most one exception comes of them, so that nothing disturbs the end that it leads to. Whoever asks still again
    ends the process as if there were no handler.
    """

    def __init__(self) -> None:
        self.signum = 0
        """The first signal; 0 before there is one."""
        self.patient = 0
        """Works that look at it between their steps."""
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
    """Let a first signal wait until this context ends, or until the work looks at it.

    Raises:
        Interrupted: A signal arrived, and the work has not ended because of it: at the end. A second one: at once.
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
