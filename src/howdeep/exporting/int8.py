"""What a file gets wrong whose weights and activations have 8 bits: it need not agree, so that its errors are said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from howdeep.data import Batch
from howdeep.deploying.formats import Runner
from howdeep.util.intervals import of_change


@dataclass(frozen=True)
class Int8:
    """A quantised file beside its original, on the compared images."""

    calibration_images: int
    """Images by which the ranges of activations were set."""
    original_error_percent: float
    """What the original gets wrong."""
    error_percent: float
    """What the file gets wrong."""
    change_low: float
    """Lower end of the 95 % interval of the difference in points, paired."""
    change_high: float
    """Upper end."""

    @property
    def change(self) -> float:
        """Points of error above the original's."""
        return self.error_percent - self.original_error_percent


def int8_of(original: Runner, exported: Runner, batches: Iterable[Batch], calibration: Sequence[Batch]) -> Int8:
    """Return what a quantised file gets wrong, compared with its original image by image; all on the host."""
    before, after = [], []
    for batch in batches:
        for wrong, run in ((before, original), (after, exported)):
            wrong.append(run(batch.images.contiguous()).argmax(1) != batch.labels)
    old, new = torch.cat(before), torch.cat(after)
    low, high = of_change(int((new & ~old).sum()), int((old & ~new).sum()), len(old))
    return Int8(
        calibration_images=sum(len(batch.labels) for batch in calibration),
        original_error_percent=100 * float(old.double().mean()),
        error_percent=100 * float(new.double().mean()),
        change_low=low,
        change_high=high,
    )
