"""What changes of a network do to its answers: raw counts first, statistics with their errors at the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from howdeep.analysis.evaluation import standard_error_percent
from howdeep.runtime.device import wide
from howdeep.util.errors import UserError
from howdeep.util.intervals import Interval, of_change


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The baseline network."""

    n: int
    """Images."""
    error_percent: float
    """Share of wrong answers."""
    standard_error: float
    """Of the error, in percent: √(e(1−e)/n)."""
    wrong: tuple[int, ...]
    """Wrong answers per class."""
    totals: tuple[int, ...]
    """Images per class."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one change does, on the same images as the baseline network."""

    error_percent: float
    """Share of wrong answers."""
    standard_error: float
    """Of the error, in percent."""
    change: float
    """Error minus that of the baseline network, in points."""
    change_low: float
    """Lower end of the change's 95 % interval: paired (see :mod:`howdeep.util.intervals`)."""
    change_high: float
    """Its upper end."""
    wrong: tuple[int, ...]
    """Wrong answers per class."""
    score_change: float | None
    """Mean over images and classes of |logit − baseline logit|; None where a logit is not finite."""
    not_finite: int
    """Images with a logit that is not finite; they count as wrong."""

    @property
    def interval(self) -> Interval:
        """Of the change."""
        return Interval(self.change_low, self.change_high)


@dataclass(frozen=True)
class BaselineBatch:
    """The answers of the baseline network to one batch, with which those of every change are compared."""

    logits: Tensor
    labels: Tensor
    wrong: Tensor


def baseline_batch(logits: Tensor, labels: Tensor) -> BaselineBatch:
    """Return the answers of the baseline network.

    Raises:
        UserError: A score is not finite.
    """
    if not bool(logits.isfinite().all()):
        raise UserError("the network returns logits that are not finite: weights or data are broken")
    return BaselineBatch(logits, labels, logits.argmax(1) != labels)


def counts(baseline: BaselineBatch, logits: Tensor, classes: int) -> list[float]:
    """Return what one change does on one batch, as numbers that add up.

    Returns:
        Newly wrong, newly right, images with a logit that is not finite, Σ|change of the logits|, and the wrong
        answers per class.
    """
    finite = logits.isfinite().all(1)
    wrong = (logits.argmax(1) != baseline.labels) | ~finite
    moved = wide((logits - baseline.logits).abs().mean(1)[finite]).sum()
    newly = (wrong & ~baseline.wrong).sum(), (~wrong & baseline.wrong).sum(), (~finite).sum()
    return [*(float(count) for count in newly), float(moved), *per_class(baseline.labels[wrong], classes)]


def per_class(labels: Tensor, classes: int) -> list[int]:
    """Return how many of the labels each class has."""
    return torch.bincount(labels, minlength=classes).tolist()


def baseline_of(wrong: Sequence[int], totals: Sequence[int]) -> Baseline:
    """Return the record of the baseline network."""
    n, error = sum(totals), sum(wrong) / sum(totals)
    return Baseline(
        n=n,
        error_percent=100 * error,
        standard_error=standard_error_percent(error, n),
        wrong=tuple(wrong),
        totals=tuple(totals),
    )


def effect_of(sums: Sequence[float], n: int) -> Effect:
    """Return the record of one change, from the sums of its :func:`counts`."""
    newly_wrong, newly_right, not_finite, moved, *wrong = sums
    error, change = sum(wrong) / n, (newly_wrong - newly_right) / n
    low, high = of_change(newly_wrong, newly_right, n)
    return Effect(
        error_percent=100 * error,
        standard_error=standard_error_percent(error, n),
        change=100 * change,
        change_low=low,
        change_high=high,
        wrong=tuple(int(count) for count in wrong),
        score_change=None if not_finite else moved / n,
        not_finite=int(not_finite),
    )
