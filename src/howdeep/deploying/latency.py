"""How long forward passes take where a network will run."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from howdeep.chain import Chain
from howdeep.runtime.deployment import HERE, Deployment
from howdeep.runtime.timing import RUNS, SECONDS, Timing, by_turns, threads_of


def latencies(
    chains: Sequence[Chain], image: Tensor, where: Deployment = HERE, *, runs: int = RUNS, seconds: float = SECONDS
) -> list[Timing]:
    """Return how long one forward pass of each network takes, by turns, without gradients.

    Args:
        chains: Networks in evaluation mode, as they are run: folded, on the device of the image.
        image: One, shape (1, channels, height, width), laid out as the networks want it.
        where: What runs them, in how many threads, and how many such images at a time.
        runs: Timed runs of each.
        seconds: As in :func:`howdeep.runtime.timing.by_turns`.
    """
    images = torch.cat([image] * where.batch)
    sides = [lambda chain=chain: chain(images) for chain in chains]
    with threads_of(where.threads), torch.inference_mode():
        times = by_turns(sides, runs=runs, seconds=seconds, device=images.device)
    return [replace(time, where=where) for time in times]
