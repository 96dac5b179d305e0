"""Two ways to compute the same scores: how far they differ on real images, and how long each takes."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from howdeep.data import Batch
from howdeep.errors import UserError

TOLERANCE = 1e-4
"""Largest |exported score − score| that counts as rounding, as a share of the largest |score|.

float32 has 6e-8; sums in another order, and folded norms, make up to 2e-6 of it in the networks of the tests.
"""
TIMED_BATCHES = (1, 32)
TIMED_THREADS = 1
"""Threads of either side in the timing.

torch's threads wait for each other after every operator. Where another program holds one of two cores, that made a
pass of a small network take 216 ms instead of 0.2, in every run alike, so that no spread would have told.
"""
RUNS, FEWEST_RUNS, SECONDS = 20, 5, 10.0
"""Timed passes of each side per batch size; fewer where they would take longer than so many seconds."""

Runner = Callable[[Tensor], Tensor]
"""Images to scores."""


@dataclass(frozen=True)
class Latency:
    """How long one batch takes, original and exported by turns."""

    batch: int
    """Images of the batch."""
    runs: int
    """Timed passes of each."""
    original_ms: float
    """Median of the original as this package runs it, in milliseconds."""
    original_quartiles_ms: tuple[float, float]
    """First and third quartile."""
    exported_ms: float
    """Median of the exported file."""
    exported_quartiles_ms: tuple[float, float]
    """First and third quartile."""


@dataclass(frozen=True)
class Agreement:
    """How far exported scores are from the original's."""

    images: int
    """Images that were compared."""
    batch_sizes: tuple[int, ...]
    """Images at a time; the last batch is smaller where they do not divide the images."""
    other_class: int
    """Images that get another class at any batch size."""
    difference: float
    """Largest |exported score − score|, as a share of the largest |score|."""
    tolerance: float
    """What of that is allowed."""


def compared(original: Runner, exported: Runner, batches: Iterable[Batch]) -> Agreement:
    """Return how far exported scores are from the original's, one image at a time and batch by batch.

    Raises:
        UserError: The original's scores are not finite.
    """
    images, other, difference, scale, sizes = 0, 0, 0.0, 0.0, {1: None}
    for batch in batches:
        expected = original(batch.images)
        if not bool(expected.isfinite().all()):
            raise UserError("the network returns scores that are not finite: weights or data are broken")
        sizes[len(expected)] = None
        found = torch.stack([_scores(exported, batch.images, size) for size in (1, len(expected))])
        other += int((found.argmax(2) != expected.argmax(1)).any(0).sum())
        # The largest of a number and NaN is NaN here, whichever comes first.
        difference = torch.tensor([difference, (found - expected).abs().max().item()]).max().item()
        scale = max(scale, expected.abs().max().item())
        images += len(expected)
    return Agreement(images, tuple(sizes), other, difference / scale if scale else difference, TOLERANCE)


def timed(original: Runner, exported: Runner, images: Tensor) -> Latency:
    """Return how long a batch takes, original and exported by turns, so that other work disturbs both alike."""
    sides = (original, images.contiguous(memory_format=torch.channels_last)), (exported, images.contiguous())
    for runner, batch in sides:
        runner(batch)
    once = sum(_milliseconds(runner, batch) for runner, batch in sides)
    runs = max(FEWEST_RUNS, min(RUNS, int(1000 * SECONDS / once)))
    rounds = [[_milliseconds(runner, batch) for runner, batch in sides] for _ in range(runs)]
    mine, theirs = (statistics.quantiles(side, n=4) for side in zip(*rounds, strict=True))
    return Latency(len(images), runs, mine[1], (mine[0], mine[2]), theirs[1], (theirs[0], theirs[2]))


def _scores(runner: Runner, images: Tensor, size: int) -> Tensor:
    return torch.cat([runner(part.contiguous()) for part in images.split(size)])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _milliseconds(runner: Runner, images: Tensor) -> float:
    started = time.perf_counter()
    runner(images)
    return 1000 * (time.perf_counter() - started)
