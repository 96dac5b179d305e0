"""What a run reports as it trains: a bar, a line per epoch, ``metrics.jsonl``, a logger; and the curves of it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from rich.console import Console

from howdeep.analysis.evaluation import Evaluation
from howdeep.runs.folder import Run
from howdeep.training.loggers import LOGGERS, Logger
from howdeep.training.state import Memory
from howdeep.util.errors import UserError, reason
from howdeep.util.progress import ProgressBar
from howdeep.util.records import Shown, from_json


class Log:
    """The metrics of a run, and the progress bar where the output is a terminal.

    Args:
        run: Its folder, or what stands for it.
        console: Where lines and the bar go.
        total: Steps of the run.
        logger: Where numbers go too: a name of :data:`howdeep.training.loggers.LOGGERS`, or ``none``.
        on: False says and writes nothing: another process does.

    Raises:
        UserError: The logger cannot begin.
    """

    def __init__(self, run: Run | Memory, console: Console, *, total: int, logger: str, on: bool) -> None:
        self.run, self.console, self.on = run, console, on
        self.bar = ProgressBar(console, "training", total, on=on)
        self.logger: Logger | None = None
        if logger != "none" and on:
            assert isinstance(run, Run), "what a logger writes lies in a folder"
            try:
                self.logger = LOGGERS[logger](run)
            except Exception as error:  # each of them has errors of its own
                raise UserError(f"--log {logger} cannot begin: {reason(error)}") from error

    def __enter__(self) -> "Log":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            stack.callback(self.bar.stop)
            if self.logger is not None:
                stack.callback(self._tell, self.logger.close)

    def rewind(self, step: int) -> None:
        """Forget the metrics after the step from which the run resumes."""
        self.advance(step)
        if self.on:
            self.run.forget_after(step)

    def advance(self, step: int) -> None:
        """Show how many steps are done."""
        self.bar.show(done=step)

    def event(self, record: dict, line: str) -> None:
        """Write one record and print one line."""
        if not self.on:
            return
        self.run.log(record)
        print_line(self.console, line)
        if self.logger is not None:
            numbers = {name: value for name, value in record.items() if isinstance(value, int | float)}
            self._tell(partial(self.logger.write, numbers, record["step"]))

    def _tell(self, told: Callable[[], None]) -> None:
        """Tell the logger something; a server that has gone does not end a training."""
        try:
            told()
        except Exception as error:  # each of them has errors of its own
            print_line(self.console, f"the logger fails, and is told nothing more: {reason(error)}")
            self.logger = None


def print_line(console: Console, text: str) -> None:
    """Print one line as it is, above the bar if there is one."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


WIDTH, NOTABLE = 80, 5.0
"""Columns that the line of an epoch may take; share of the time, in percent, from which waiting for data is said in
place of something else."""


def epoch_line(record: dict, epochs: float) -> str:
    """Return one epoch's record as a line of 80 columns where the numbers are ordinary.

    Kept units are said where some were closed. Where there is no room, what matters least goes: waiting below 5 %, then
    the learning rate, the loss and the speed.
    """
    validation, waiting, kept = (record[name] for name in ("validation_error_percent", "waiting_percent", "open_units"))
    parts = [
        (0, f"epoch {record['epoch']:.4g}/{epochs:.4g}"),
        (0, f"train err {record['train_error_percent']:.1f} %"),
        (0, "" if validation is None else f"val err {validation:.1f} %"),
        (2, f"loss {record['train_loss']:.3g}"),
        (3, f"lr {record['lr']:.2g}"),
        (1, f"{record['images_per_second']:,.0f} img/s"),
        (4 if waiting < NOTABLE else 0, f"data wait {waiting:.2g} %"),
        (0, f"kept {kept:.0f}/{record['units']} units" if kept < record["units"] else ""),
    ]
    lines = ["  ".join(part for rank, part in parts if part and rank <= most) for most in (4, 3, 2, 1, 0)]
    return next((line for line in lines if len(line) <= WIDTH), lines[-1])


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of the metrics."""

    epoch: float
    """Passes over the training images so far."""
    train_loss: float
    """Mean loss of the images of this epoch, while it was trained and augmented."""
    train_error_percent: float
    """Of the same images."""
    validation_loss: float | None
    """Mean cross-entropy in nats at its end; None as well where it is not finite."""
    validation_error_percent: float | None
    """At its end; None without a validation split."""
    lr: float
    """Learning rate at its end."""
    open_units: float
    """Units whose branch was computed, mean over the mini-batches."""


@dataclass(frozen=True, kw_only=True)
class Curves(Shown):
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
        epochs=tuple(from_json(Epoch, line) for line in lines),
        test=None if test is None else from_json(Evaluation, test),
    )
