"""Standard streams that cannot fail: nobody who closes the pager of a training's lines shall end the training."""

import io
import os


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
