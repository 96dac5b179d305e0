"""Where a run is: the step, and what has been counted since the epoch began. All of it is in every checkpoint.

A run that writes nothing leaves what it measured, and the weights of its best epoch, in a :class:`Memory`.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from torch import Tensor

from howdeep.training.recipes import Recipe
from howdeep.util.text import Report


@dataclass
class Tally:
    """Sums over the mini-batches of one epoch; means are taken once, at its end."""

    images: int = 0
    """Images seen, over all processes."""
    loss: float = 0.0
    """Sum of the losses of all images."""
    wrong: int = 0
    """Images whose highest logit was not their class's."""
    steps: int = 0
    """Mini-batches."""
    open_units: float = 0.0
    """Open units, summed over mini-batches."""
    seconds: float = 0.0
    """Time of the steps and of waiting for data."""
    waiting: float = 0.0
    """Time of waiting for data."""
    lr: float = 0.0
    """Learning rate of the last mini-batch, which may be one before the epoch."""

    def add(
        self,
        *,
        images: int,
        loss: float,
        wrong: int,
        open_units: float,
        seconds: float,
        waiting: float,
        lr: float,
    ) -> None:
        """Count one mini-batch."""
        self.lr = lr
        self.images, self.loss, self.wrong = self.images + images, self.loss + loss, self.wrong + wrong
        self.steps, self.open_units = self.steps + 1, self.open_units + open_units
        self.seconds, self.waiting = self.seconds + seconds, self.waiting + waiting


@dataclass
class Position:
    """The only clock of a run is its step; everything else here follows from what was seen up to it."""

    step: int = 0
    """Mini-batches done."""
    warmup_ended: int | None = None
    """Step at which the warm-up ended."""
    recent_errors: list[float] = field(default_factory=list)
    """Training error of the last mini-batches, as the warm-up's rule needs them."""
    tally: Tally = field(default_factory=Tally)
    """Sums since the epoch began."""
    seconds: float = 0.0
    """Training time of all processes' common clock, evaluation left out."""

    def to_json(self) -> dict:
        """Return the position as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict) -> "Position":
        """Return the position that :meth:`to_json` wrote."""
        return cls(**{**record, "tally": Tally(**record["tally"])})


def learning_rate(recipe: Recipe, position: Position, ends: Sequence[int]) -> float:
    """Return the learning rate of the next step.

    Args:
        recipe: Its schedule runs once per phase.
        position: Where the run is.
        ends: Step at which each phase ends; a run that was never given more epochs has one.
    """
    if recipe.warmup is not None and position.warmup_ended is None:
        return recipe.warmup.rate
    phase = bisect_right(ends, position.step)
    first = ends[phase - 1] if phase else 0
    return recipe.schedule.at(position.step - first, ends[phase] - first)


def watch_warmup(recipe: Recipe, position: Position, error: float, total: int) -> str | None:
    """End the warm-up when its moment has come; return a line that says so.

    The moment is the training error falling below the recipe's share over its window of mini-batches, or the cap: the
    recipe's number of steps, and never more than a tenth of the run.

    Args:
        recipe: With or without a warm-up.
        position: After the step that was just done; changed in place.
        error: Share of wrong answers in that step's mini-batch.
        total: Steps of the run.
    """
    warmup = recipe.warmup
    if warmup is None or position.warmup_ended is not None:
        return None
    recent = position.recent_errors = [*position.recent_errors, error][-warmup.window :]
    mean = sum(recent) / len(recent)
    cap = min(warmup.steps, max(1, total // 10))
    learned = warmup.until_error is not None and len(recent) == warmup.window and mean < warmup.until_error
    if not learned and position.step < cap:
        return None
    position.warmup_ended = position.step
    reason = f"training error {100 * mean:.1f} %" if learned else f"its cap of {cap} steps"
    return f"warm-up at {warmup.rate:g} ended at step {position.step}: {reason}"


@dataclass(frozen=True)
class Best:
    """The weights after the best epoch."""

    state: dict
    """Which epoch it was, and what it got wrong."""
    weights: dict[str, Tensor]


@dataclass
class Memory:
    """What a run leaves that writes nothing; it does what a run folder does."""

    record: dict
    """What was chosen when it began, and the steps at which it ends."""
    lines: list[dict] = field(default_factory=list)
    """Its metrics."""
    best: Best | None = None
    last_good: str = "nothing was written"
    begun: bool = False
    """Nothing resumes: it always begins anew."""

    def log(self, record: dict) -> None:
        """Append one line to the metrics."""
        self.lines.append(record)

    def metrics(self) -> list[dict]:
        """Return the lines of the metrics."""
        return self.lines

    def forget_after(self, step: int) -> None:
        """Remove the metrics of later steps."""
        self.lines = [line for line in self.lines if line["step"] <= step]

    def save(self, step: int, *, tensors: Mapping[str, Mapping[str, Tensor]], state: dict) -> None:
        """Do nothing: there is nowhere to resume from."""

    def save_best(self, step: int, *, weights: Mapping[str, Tensor], state: dict) -> None:
        """Keep the weights of the best epoch, in place of those that were the best before."""
        self.best = Best(state, {name: tensor.detach().clone() for name, tensor in weights.items()})

    def kept(self, report: Report) -> Best | None:
        """Return the weights of the best epoch; None where none are kept."""
        return self.best
