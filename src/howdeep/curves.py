"""What a training run measured while it ran, epoch by epoch: its curves, and the sentence that they say."""

import math
from dataclasses import dataclass
from typing import Any

from howdeep.evaluation import Evaluation
from howdeep.records import from_json
from howdeep.runs import Run


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of the metrics."""

    epoch: float
    """Passes over the training images so far."""
    train_error_percent: float
    """Of the images of this epoch, while it was trained and augmented."""
    validation_error_percent: float | None
    """At its end; None without a validation split."""
    lr: float
    """Learning rate at its end."""
    open_units: float
    """Units whose branch was computed, mean over the mini-batches."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What a training run measured per epoch."""

    network: str
    """The network, as a catalogue or a library calls it."""
    data: str
    """What the data is called."""
    units: int
    """Units of the network."""
    epochs: tuple[Epoch, ...]
    """In order; empty before the end of the first."""
    test: Evaluation | None
    """The test split, read once; None before the end, or without one."""

    @property
    def open_units_vary(self) -> bool:
        """Whether branches were closed in training."""
        return any(one.open_units < self.units for one in self.epochs)


def curves_of(run: Run) -> Curves:
    """Return the curves of a run, finished or not; of imported weights they are empty."""
    lines = [line for line in run.metrics() if line.get("event") == "epoch"]
    test = (run.result() or {}).get("test")
    return Curves(
        network=run.network_name,
        data=run.record["data"].get("name") or run.record["data"].get("source") or "",
        units=max((line["units"] for line in lines), default=0),
        epochs=tuple(_epoch(line) for line in lines),
        test=None if test is None else from_json(Evaluation, test),
    )


def curves_finding(found: Curves) -> str:
    """Return the sentence of a training run: where it ends, the gap, when it was best."""
    if not found.epochs:
        return f"no epoch of {found.network} is measured"
    last = found.epochs[-1]
    validation, training = last.validation_error_percent, last.train_error_percent
    epochs = f"{last.epoch:.4g} epoch{'' if last.epoch == 1 else 's'}"
    after = f"after {epochs} {found.network} is at {training:.1f} % training"
    if validation is None:
        return f"{after} error"
    gap = f"{validation - training:+.1f}".replace("-", "−")
    ends = f"{after} and {validation:.1f} % validation error (gap {gap} points)"
    best = min(found.epochs, key=_validation)
    if _validation(best) == validation:
        return f"{ends}, its best"
    return f"{ends}; its best was {_validation(best):.1f} % after epoch {best.epoch:.4g}"


def _validation(one: Epoch) -> float:
    return math.inf if one.validation_error_percent is None else one.validation_error_percent


def _epoch(line: dict[str, Any]) -> Epoch:
    return from_json(Epoch, line)
