"""SIGINT and SIGTERM ask a run to stop after the step that is under way."""

import signal
from types import FrameType, TracebackType


class StopRequest:
    """Within this context the two signals are remembered; a second one of the same kind acts at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum = 0

    def __enter__(self) -> "StopRequest":
        self._before = {signum: signal.signal(signum, self._remember) for signum in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        signal.signal(signum, self._before[signal.Signals(signum)])
