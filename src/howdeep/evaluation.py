"""How good a network is: error, per class, calibration. Sums first, one division at the end."""

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch.nn import functional as F

from howdeep.chain import Chain, Gates
from howdeep.data import Batch
from howdeep.device import synchronise
from howdeep.errors import UserError

CALIBRATION_BINS = 15


class NotFiniteScoresError(UserError):
    """A network returns scores that are not numbers: training diverged, or its weights are broken."""


@dataclass(frozen=True)
class Sums:
    """What one pass over a split adds up to."""

    images: int
    """Images seen."""
    wrong: int
    """Images whose highest score was not their class's."""
    loss: float
    """Sum of the cross-entropies."""

    @property
    def error_percent(self) -> float:
        """Share of wrong answers."""
        return 100 * self.wrong / self.images

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss / self.images


@dataclass(frozen=True)
class ClassResult:
    """One class."""

    name: str
    """Name of the class."""
    n: int
    """Its images."""
    error_percent: float | None
    """Share of them that was given another class; None without images."""


@dataclass(frozen=True)
class Evaluation:
    """How a network does on a split."""

    n: int
    """Images."""
    error_percent: float
    """Share of wrong answers."""
    standard_error: float
    """Of the error, in percent: √(e(1−e)/n)."""
    loss: float
    """Mean cross-entropy in nats."""
    calibration_error_percent: float
    """Expected calibration error, 15 bins (Guo et al. 2017, Eq. 3)."""
    classes: tuple[ClassResult, ...]
    """One per class."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts, row = true class, column = given class."""
    images_per_second: float
    """Preparing images included."""

    def to_json(self) -> dict:
        """Return the record as plain data."""
        return asdict(self)


@torch.inference_mode()
def add_up(chain: Chain, batches: Iterable[Batch], *, autocast: torch.autocast, gates: Gates | None = None) -> Sums:
    """Count the errors of a chain in evaluation mode; its mode is put back afterwards."""
    images, wrong, loss, training = 0, 0, 0.0, chain.training
    chain.eval()
    try:
        for batch in batches:
            with autocast:
                scores = chain(batch.images, gates).float()
            loss += F.cross_entropy(scores, batch.labels, reduction="sum").item()
            wrong += int((scores.argmax(1) != batch.labels).sum())
            images += len(batch.labels)
    finally:
        chain.train(training)
    return Sums(images, wrong, loss)


@torch.inference_mode()
def evaluate(
    chain: Chain, batches: Iterable[Batch], classes: tuple[str, ...], *, autocast: torch.autocast
) -> Evaluation:
    """Return how a chain does on the images of a split.

    Args:
        chain: The network; it is put into evaluation mode.
        batches: Of the split.
        classes: Their names, in the order of the scores.
        autocast: The precision.

    Raises:
        UserError: There are no images.
        NotFiniteScoresError: A score is not finite.
    """
    from torchmetrics.classification import MulticlassCalibrationError, MulticlassConfusionMatrix

    confusion = MulticlassConfusionMatrix(len(classes))
    calibration = MulticlassCalibrationError(len(classes), n_bins=CALIBRATION_BINS)
    n, loss, started = 0, 0.0, time.perf_counter()
    chain.eval()
    for batch in batches:
        with autocast:
            scores = chain(batch.images).float()
        if not bool(scores.isfinite().all()):
            raise NotFiniteScoresError("the network returns scores that are not finite: its weights are broken")
        loss += F.cross_entropy(scores, batch.labels, reduction="sum").item()
        n += len(batch.labels)
        confusion.update(scores.argmax(1).cpu(), batch.labels.cpu())
        calibration.update(scores.softmax(1).cpu(), batch.labels.cpu())
        synchronise(scores.device)
    seconds = time.perf_counter() - started
    if not n:
        raise UserError("there are no images to evaluate on")
    return _record(confusion.compute(), loss, float(calibration.compute()), classes, seconds)


def standard_error_percent(error: float, n: int) -> float:
    """Return the standard error, in percent, of a share of n independent answers."""
    return 100 * math.sqrt(error * (1 - error) / n)


def _record(
    counts: torch.Tensor, loss: float, calibration: float, classes: tuple[str, ...], seconds: float
) -> Evaluation:
    n, error = int(counts.sum()), 1 - float(counts.trace()) / float(counts.sum())
    totals = counts.sum(1)
    results = [
        ClassResult(name, int(total), 100 * (1 - float(right) / float(total)) if total else None)
        for name, total, right in zip(classes, totals, counts.diag(), strict=True)
    ]
    rows = tuple(tuple(int(count) for count in row) for row in counts)
    return Evaluation(
        n=n,
        error_percent=100 * error,
        standard_error=standard_error_percent(error, n),
        loss=loss / n,
        calibration_error_percent=100 * calibration,
        classes=tuple(results),
        confusion=rows,
        images_per_second=n / seconds,
    )
