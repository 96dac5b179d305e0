"""Two ways to compute the same logits: how far they differ on real images, and how long each takes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from howdeep.data import Batch
from howdeep.runtime.timing import SECONDS, by_turns
from howdeep.util.errors import UserError

TOLERANCE = 1e-4
"""Largest |exported logit − logit| that counts as rounding, as a share of the largest |logit|.

float32 has 6e-8; sums in another order, and folded norms, make up to 2e-6 of it in the networks of the tests.
"""
TIMED_BATCHES = (1, 32)
Runner = Callable[[Tensor], Tensor]
"""Images to logits."""


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
    """How far exported logits are from the original's."""

    images: int
    """Images that were compared."""
    batch_sizes: tuple[int, ...]
    """Images at a time; the last batch is smaller where they do not divide the images."""
    other_class: int
    """Images that get another class at any batch size."""
    difference: float
    """Largest |exported logit − logit|, as a share of the largest |logit|."""
    tolerance: float
    """What of that is allowed."""


def compared(original: Runner, exported: Runner, batches: Iterable[Batch]) -> Agreement:
    """Return how far exported logits are from the original's, one image at a time and batch by batch.

    Raises:
        UserError: The original's logits are not finite.
    """
    images, other, difference, scale, sizes = 0, 0, 0.0, 0.0, {1: None}
    for batch in batches:
        expected = original(batch.images)
        if not bool(expected.isfinite().all()):
            raise UserError("the network returns logits that are not finite: weights or data are broken")
        sizes[len(expected)] = None
        splits = [batch.images.split(size) for size in (1, len(expected))]
        logits = torch.stack([torch.cat([exported(part.contiguous()) for part in parts]) for parts in splits])
        other += int((logits.argmax(2) != expected.argmax(1)).any(0).sum())
        # The largest of a number and NaN is NaN here, whichever comes first.
        difference = torch.tensor([difference, (logits - expected).abs().max().item()]).max().item()
        scale = max(scale, expected.abs().max().item())
        images += len(expected)
    return Agreement(images, tuple(sizes), other, difference / scale if scale else difference, TOLERANCE)


def timed(original: Runner, exported: Runner, images: Tensor) -> Latency:
    """Return how long a batch takes, original and exported by turns, so that other work disturbs both alike."""
    before, after = images.contiguous(memory_format=torch.channels_last), images.contiguous()
    mine, theirs = by_turns([lambda: original(before), lambda: exported(after)], seconds=SECONDS)
    times = (mine.median_ms, mine.quartiles_ms, theirs.median_ms, theirs.quartiles_ms)
    return Latency(len(images), mine.runs, *times)
