"""How long something takes, on machines that are shared: several things by turns, medians with their quartiles.

And how many threads are fastest: beside one busy process on two cores, two of them can take 50 times as long as one.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from howdeep.chain import Chain
from howdeep.runtime.deployment import HERE, Deployment
from howdeep.runtime.device import synchronise
from howdeep.runtime.parts import parts_of
from howdeep.util.options import Threads

RUNS, FEWEST_RUNS, SECONDS = 20, 5, 10.0
"""Timed runs of each side, the fewest, and the seconds for all sides together; fewer runs where they take longer."""
ROUNDS, SLOWER = 3, 1.5
"""Timed rounds of a race; a side that once takes this much longer than the best one's median leaves it."""
FEW = 32
"""Images on which threads are tried; of large ones a part."""
Side = TypeVar("Side")


@dataclass(frozen=True)
class Timing:
    """How long one run takes."""

    median_ms: float
    """Median, in milliseconds."""
    quartiles_ms: tuple[float, float]
    """First and third quartile."""
    runs: int
    """Timed runs."""
    where: Deployment | None = None
    """Of a forward pass: where it ran."""

    @property
    def aside(self) -> str:
        """Where it ran, in brackets; empty for one image, one thread, PyTorch."""
        return "" if self.where in (None, HERE) else f" ({self.where})"

    def per(self, images: int) -> "Timing":
        """Return the share of one image in a batch of so many."""
        first, third = self.quartiles_ms
        return replace(self, median_ms=self.median_ms / images, quartiles_ms=(first / images, third / images))


def seconds_of(side: Callable[[], object], device: torch.device) -> float:
    """Return how long one run takes, until everything that it launched has finished."""
    started = time.perf_counter()
    side()
    synchronise(device)
    return time.perf_counter() - started


def by_turns(
    sides: Sequence[Callable[[], object]],
    *,
    runs: int = RUNS,
    seconds: float = SECONDS,
    device: torch.device | None = None,
) -> list[Timing]:
    """Time several things by turns, so that other work on the machine disturbs all alike; each runs once unmeasured.

    Args:
        sides: What to run.
        runs: Timed runs of each.
        seconds: Fewer runs, but at least five, where all together would take longer.
        device: Where they run; None is the host.
    """
    device = device or torch.device("cpu")
    for side in sides:
        side()
    once = sum(seconds_of(side, device) for side in sides)
    count = max(FEWEST_RUNS, min(runs, int(seconds / max(once, 1e-9))))
    rounds = [[1000 * seconds_of(side, device) for side in sides] for _ in range(count)]
    timings = []
    for milliseconds in zip(*rounds, strict=True):
        first, median, third = statistics.quantiles(milliseconds, n=4)
        timings.append(Timing(median, (first, third), len(milliseconds)))
    return timings


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Let torch use this many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def race(sides: Mapping[Side, Callable[[], object]], *, device: torch.device | None = None) -> dict[Side, list[float]]:
    """Return the seconds of every timed run of several things; all have run once unmeasured.

    They run by turns, so that other work on the machine disturbs all alike. One that is clearly slower is timed no
    further: it may take a hundred times as long.

    Args:
        sides: What to run.
        device: Where they run; None is the host.
    """
    device = device or torch.device("cpu")
    for side in sides.values():
        side()
    seconds: dict[Side, list[float]] = {name: [] for name in sides}
    left = list(sides)
    for _ in range(ROUNDS):
        for name in left:
            seconds[name].append(seconds_of(sides[name], device))
        medians = {name: statistics.median(seconds[name]) for name in left}
        best = min(medians, key=medians.__getitem__)
        left = [name for name in left if name == best or seconds[name][-1] <= SLOWER * medians[best]]
    return seconds


def thread_counts(asked: Threads, device: torch.device) -> list[int]:
    """Return the numbers of threads to choose from, most first: torch's own, half of it and 1, or what is asked for.

    On an accelerator there is nothing to choose: the host only launches.
    """
    if asked != "auto":
        return [asked]
    own = torch.get_num_threads()
    return sorted({own, (own + 1) // 2, 1}, reverse=True) if device.type == "cpu" else [own]


def race_of_threads(step: Callable[[], object], counts: Sequence[int], device: torch.device) -> dict[int, list[float]]:
    """Return the seconds of a step by the number of threads (see :func:`race`)."""

    def with_threads(count: int) -> None:
        with threads_of(count):
            step()

    return race({count: partial(with_threads, count) for count in counts}, device=device)


@torch.inference_mode()
def fastest_threads(chain: Chain, images: Callable[[], Tensor], asked: Threads, device: torch.device) -> int:
    """Return in how many threads a network's forward passes are fastest here, or what is asked for.

    Args:
        chain: The network in evaluation mode.
        images: Gives some, of which a few are used; it is not called where there is no choice.
        asked: ``auto``, or a number.
        device: Where both are.
    """
    counts = thread_counts(asked, device)
    if len(counts) == 1:
        return counts[0]
    few = parts_of(chain, images()[:FEW])[0]
    seconds = race_of_threads(lambda: chain(few), counts, device)
    return min(counts, key=lambda count: statistics.median(seconds[count]))
