"""Where a network will run, as a value: a latency means nothing without it."""

from dataclasses import dataclass

from howdeep.util.text import counted

THREADS = 1
"""Threads of a timed forward pass on the host.

torch's threads wait for each other after every operator. Where another program holds one of two cores, that made a
pass of a small network take 216 ms instead of 0.2, in every run alike, so that the spread would not have shown it.
"""


@dataclass(frozen=True)
class Deployment:
    """Where forward passes run."""

    runtime: str = "torch"
    """What runs the network."""
    threads: int = THREADS
    """Threads on the host."""
    batch: int = 1
    """Images at a time."""

    def __str__(self) -> str:
        together = "" if self.batch == 1 else f", {self.batch} images at a time"
        return f"{self.runtime}, {counted(self.threads, 'thread')}{together}"


HERE = Deployment()
"""One image, one thread, PyTorch."""
