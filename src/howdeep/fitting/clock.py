"""The time that a search has used, over all its starts: neither a stop nor a process that died takes any."""

import json
import time
from pathlib import Path
from types import TracebackType

from howdeep.checkpoints import write_whole


class Clock:
    """Seconds since the first start, without the pauses between a stop and the next start.

    Args:
        path: File in which they are kept; written by :meth:`save`, and at the end of the context, errors included.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = float(json.loads(path.read_bytes())["seconds"]) if path.exists() else 0.0
        self._started = time.perf_counter()

    @property
    def spent(self) -> float:
        """Seconds until now."""
        return self._before + time.perf_counter() - self._started

    def excuse(self, seconds: float) -> None:
        """Leave out seconds in which nothing could be done."""
        self._before -= seconds

    def save(self) -> None:
        """Write the seconds down.

        Raises:
            SaveError: They could not be written.
        """
        write_whole(self.path, json.dumps({"seconds": self.spent}).encode())

    def __enter__(self) -> "Clock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()
