"""How many threads a run computes with: chosen at its start, watched while it trains.

Threads wait for each other after every operator. Where another program takes one of two cores, two of them were seen
to take 50 times as long as one, so a run on a busy machine continues with fewer, and with more when it is quiet; also
where it was busy when the run began.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from howdeep.runs.folder import Run
from howdeep.runtime.timing import thread_counts
from howdeep.training.state import Memory
from howdeep.util.options import Threads

EVENT = "threads"
IN_A_ROW, SLOW = 10, 3.0
"""So many steps in a row that take so many times the expected time are not chance."""
SHARE = 0.05
"""Of the training time, what timing more threads again may take."""
TIMED_STEPS = 20
"""What timing them takes, in steps, until it is known."""


@dataclass
class Pace:
    """What a run's steps are expected to take, and what they took lately.

    The same number of threads gives the same bits, another one other roundings.
    """

    counts: Sequence[int]
    """Numbers of threads to choose from; one where there is no choice."""
    threads: int
    """The number in use."""
    expected: float | None
    """Seconds of a step of a whole mini-batch with it; None where that is not known, and then nothing is watched."""
    before: int
    """The number with which the run came here: another one may have been asked for now."""
    slow: int = 0
    """Steps in a row, until now, that took far too long."""
    timed_at: float = 0.0
    """Training time of the run when threads were timed again, in seconds."""
    timing: float = 0.0
    """What that took, in seconds."""

    @property
    def fewer(self) -> list[int]:
        """What to choose from when the machine is busy."""
        return [count for count in self.counts if count <= self.threads]

    @property
    def more(self) -> list[int]:
        """What to choose from when the machine may be quiet."""
        return [count for count in self.counts if count >= self.threads]

    def stalls(self, seconds: float) -> bool:
        """Count the step of a whole mini-batch; return whether threads should be timed again, with fewer to choose."""
        if len(self.fewer) < 2 or self.expected is None:
            return False
        self.slow = self.slow + 1 if seconds > SLOW * self.expected else 0
        return self.slow >= IN_A_ROW

    def may_rise(self, trained: float) -> bool:
        """Return whether more threads should be timed again, after so many seconds of training."""
        return len(self.more) > 1 and SHARE * (trained - self.timed_at) >= self.timing

    def settle(self, threads: int, expected: float, *, trained: float, timing: float) -> None:
        """Go on with what was fastest when threads were timed again."""
        self.threads, self.expected, self.slow = threads, expected, 0
        self.timed_at, self.timing = trained, timing


def pace_of(run: Run | Memory, asked: Threads, device: torch.device, step: int) -> Pace:
    """Return the pace of a run at a step: that of its last change, else what was chosen at its start.

    Args:
        run: With the choices and the events until then.
        asked: Threads, or ``auto``.
        device: On an accelerator nothing is watched.
        step: From which it resumes.
    """
    own, choices = thread_counts(asked, device), run.record["choices"]
    chosen = choices["chosen"]["threads"]
    taken = (trial["seconds_per_step"] for trial in choices["trials"] if choices["chosen"].items() <= trial.items())
    threads, expected = chosen, next(taken, None)
    for event in run.metrics():
        if event["event"] == EVENT and event["step"] <= step:
            threads, expected = event["threads"], event["seconds_per_step"]
    if asked != "auto":
        return Pace([asked], asked, None, threads)
    counts = sorted({*own, chosen, threads}) if device.type == "cpu" else [threads]
    return Pace(counts, threads, expected, threads, timing=TIMED_STEPS * (expected or 0.0))
