"""How long something takes, on machines that are shared: several things by turns, medians with their quartiles."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from howdeep.chain import Chain
from howdeep.device import synchronise

THREADS = 1
"""Threads of a timed forward pass on the host.

torch's threads wait for each other after every operator. Where another program holds one of two cores, that made a
pass of a small network take 216 ms instead of 0.2, in every run alike, so that no spread would have told.
"""
RUNS, FEWEST_RUNS, SECONDS = 20, 5, 10.0
"""Timed runs of each side; fewer where all sides together would take longer than so many seconds."""


@dataclass(frozen=True)
class Timing:
    """How long one run takes."""

    median_ms: float
    """Median, in milliseconds."""
    quartiles_ms: tuple[float, float]
    """First and third quartile."""
    runs: int
    """Timed runs."""


def by_turns(
    sides: Sequence[Callable[[], object]], *, runs: int = RUNS, seconds: float = SECONDS,
    device: torch.device | None = None,
) -> list[Timing]:  # fmt: skip
    """Time several things by turns, so that other work on the machine disturbs all alike; each runs once unmeasured.

    Args:
        sides: What to run.
        runs: Timed runs of each.
        seconds: Fewer runs, but at least five, where all together would take longer.
        device: Where they run; None is the host.
    """
    where = device or torch.device("cpu")
    for side in sides:
        side()
    once = sum(_milliseconds(side, where) for side in sides)
    count = max(FEWEST_RUNS, min(runs, int(1000 * seconds / max(once, 1e-6))))
    rounds = [[_milliseconds(side, where) for side in sides] for _ in range(count)]
    return [_timing(list(column)) for column in zip(*rounds, strict=True)]


def forward_times(
    chains: Sequence[Chain], images: Tensor, *, threads: int = THREADS, runs: int = RUNS, seconds: float = SECONDS
) -> list[Timing]:
    """Return how long one forward pass of each network takes, by turns, without gradients.

    Args:
        chains: Networks in evaluation mode, as they are run: folded, on the device of the images.
        images: A batch, laid out as the networks want it.
        threads: Threads on the host.
        runs: Timed runs of each.
        seconds: As in :func:`by_turns`.
    """
    sides = [lambda chain=chain: chain(images) for chain in chains]
    with threads_of(threads), torch.inference_mode():
        return by_turns(sides, runs=runs, seconds=seconds, device=images.device)


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Let torch use so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _milliseconds(side: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    side()
    synchronise(device)
    return 1000 * (time.perf_counter() - started)


def _timing(milliseconds: list[float]) -> Timing:
    first, median, third = statistics.quantiles(milliseconds, n=4)
    return Timing(median, (first, third), len(milliseconds))
