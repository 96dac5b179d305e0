"""What a pass over one image takes more where the weights of a network no longer fit the caches.

Weights of a shallow network stay in the caches from one image to the next; those of a very deep one are read from
memory for every image, and so is what else belongs to a unit. A line through shallow networks therefore ends too low.
By how much is measured on copies of two units, few and many of them in a row, each copy with weights of its own:

    more(network) = share(bytes of all weights) · (units · unit_ms + bytes · byte_ms)

The share rises from 0, where everything fits, to 1, where every weight is read from memory.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from howdeep.analysis.study import prepared
from howdeep.chain import Unit, run
from howdeep.networks import build, spec_of
from howdeep.networks.counting import Description
from howdeep.runtime.timing import by_turns, threads_of

FLOAT_BYTES = 4
"""Of one weight in forward passes, which are fp32."""
FITS = 3 << 20
"""Bytes of weights up to which a line through shallow networks is believed."""
FEW = 4
"""Copies of a unit that are the measure: 1.2 MB at most."""
NARROW, MANY = 0, 600
"""Unit of `cifar_resnet14`, from 0: 16 channels, 18 kB; of so many copies none is in a cache when it is needed."""
WIDE, COUNTS = 5, (16, 32, 64, 128, 300)
"""Another one: 64 channels, 295 kB; its copies have from about as many bytes as fit to 88 MB."""
SECONDS = 1.5
"""Of timing the rows of either."""


@dataclass(frozen=True)
class Caches:
    """What a host's caches hold of a network's weights, and what the rest takes; measured once."""

    bytes: tuple[float, ...]
    """Of weights, few first."""
    share: tuple[float, ...]
    """For each, from 0 to 1: how much it takes of what reading everything from memory takes."""
    unit_ms: float
    """What a unit takes more then, whatever its weights, in milliseconds."""
    byte_ms: float
    """And a byte of weights."""

    def more_ms(self, network: Description) -> float:
        """Return what one image takes more than by a line through networks whose weights fit, in milliseconds."""
        weights = FLOAT_BYTES * network.parameters
        share = float(np.interp(weights, self.bytes, self.share))
        return share * (network.units * self.unit_ms + weights * self.byte_ms)


def measured_caches(threads: int) -> Caches:
    """Measure rows of units on the host; that takes some five seconds.

    Args:
        threads: Of one pass.
    """
    with threads_of(threads), torch.inference_mode():
        image = torch.randn(1, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        chain = prepared(build(spec_of("cifar_resnet14")), image, precision="fp32", device=image.device).chain
        few, many = _each(chain.units[NARROW], side=8, counts=(FEW, MANY))
        least, *rows = _each(chain.units[WIDE], side=2, counts=(FEW, *COUNTS))
    narrow, wide = (FLOAT_BYTES * sum(w.numel() for w in chain.units[unit].parameters()) for unit in (NARROW, WIDE))
    more = np.maximum.accumulate(np.maximum(np.array(rows) - least, 0.0))
    byte_ms = max(0.0, float(more[-1]) - max(0.0, many - few)) / (wide - narrow)
    return Caches(
        bytes=(float(FITS), *(float(count * wide) for count in COUNTS)),
        share=(0.0, *(float(one) for one in more / (more[-1] or 1.0))),
        unit_ms=max(0.0, float(more[-1]) - byte_ms * wide),
        byte_ms=byte_ms,
    )


def _each(unit: Unit, *, side: int, counts: Sequence[int]) -> list[float]:
    """Return the milliseconds of each of so many copies of a unit in a row, on one map of its channels."""
    steps = [(copy.deepcopy(unit), 1.0) for _ in range(max(counts))]
    channels = next(iter(unit.parameters())).shape[1]
    x = torch.randn(1, channels, side, side).contiguous(memory_format=torch.channels_last)
    passes = [2 * max(counts) // count for count in counts]  # what another row left in the caches is soon replaced

    def row(count: int, times: int) -> None:
        for _ in range(times):
            run(steps[:count], x)

    sides = [partial(row, *one) for one in zip(counts, passes, strict=True)]
    found = by_turns(sides, seconds=SECONDS)
    return [time.median_ms / (count * times) for time, count, times in zip(found, counts, passes, strict=True)]
