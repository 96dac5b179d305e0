"""One run of a ladder: a run folder, and in it what its final network gets wrong."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import torch
from rich import progress
from rich.console import Console

from howdeep.analysis.evaluation import NotFiniteScoresError, Sums, add_up
from howdeep.data import Dataset, Split, evaluation_batches, steps_per_epoch
from howdeep.networks import build, spec_of
from howdeep.runs.checkpoints import write_whole
from howdeep.runs.folder import Run, is_run, open_run
from howdeep.runs.resume import surroundings
from howdeep.runtime import device as devices
from howdeep.runtime.precision import Arithmetic, best_of
from howdeep.runtime.timing import threads_of
from howdeep.search.diagnosis import Errors
from howdeep.training.config import TrainConfig, difference
from howdeep.training.log import print_line
from howdeep.training.loop import EVALUATION_BATCH, train
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.training.saving import NotFiniteError
from howdeep.training.session import require_same_images
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, to_json
from howdeep.util.seeds import generator
from howdeep.util.text import seconds_text

RUNG = "rung.json"
TRAINING_IMAGES = 2_000
"""Training error is taken on so many training images at most, drawn by the run's seed."""


@dataclass(frozen=True)
class Job:
    """One network to train."""

    family: str
    """Name of the family."""
    depth: int
    """Layers."""
    config: TrainConfig
    """How."""
    out: Path
    """The run folder."""

    @property
    def done(self) -> bool:
        """Whether it was trained and evaluated."""
        return is_run(self.out) and (self.out / RUNG).is_file()

    def record(self) -> dict:
        """Return what was written when it was.

        Raises:
            UserError: It is damaged.
        """
        place = self.out / RUNG
        try:
            return dict(json.loads(place.read_bytes()))
        except (ValueError, TypeError) as error:
            raise _damaged(place, error) from None


@dataclass(frozen=True)
class Rung:
    """One trained network."""

    family: str
    """Name of the family."""
    depth: int
    """Layers."""
    network: str
    """Name in the catalogue."""
    seed: int
    """Of weights, order, gates, and of the validation split where the data has none."""
    epochs: float
    """Passes over the training images; the planned ones where training left the finite numbers."""
    seconds: float
    """Training time, evaluation left out."""
    errors: Errors | None
    """Of the final network, in evaluation mode and fp32; None where training left the finite numbers."""
    failure: str | None = None
    """What happened then."""


def rung_of(job: Job, dataset: Dataset) -> Rung:
    """Train and evaluate a network, or go on with it, or read back what was found.

    Args:
        job: What to train.
        dataset: Its data, with the training images that are used.

    Raises:
        UserError: The run folder is something else, or was made with other options.
        SaveError: Something could not be written.
        Stopped: SIGINT or SIGTERM arrived; training was saved.
    """
    if job.done:
        return _read(job, dataset)
    try:
        train(job.config, job.out, console=Console(quiet=True), dataset=dataset)
        rung = _finished(job, dataset)
    except (NotFiniteError, NotFiniteScoresError) as error:
        seconds = max((record.get("seconds", 0.0) for record in open_run(job.out).metrics()), default=0.0)
        rung = _rung(job, job.config.resolved_recipe().epochs or 0.0, seconds, None, str(error))
    record = {**to_json(rung), "surroundings": surroundings(devices.pick(job.config.device))}
    write_whole(job.out / RUNG, json.dumps(record, indent=1).encode())
    return rung


def _read(job: Job, dataset: Dataset) -> Rung:
    run = open_run(job.out)
    if changed := difference(run.record["config"], job.config, images_known=run.images() is not None):
        raise UserError(f"{job.out} is a run with other options: {changed}; use those, or name another --out")
    require_same_images(job.out, run.images(), dataset)
    try:
        return from_json(Rung, job.record())
    except TypeError as error:
        raise _damaged(job.out / RUNG, error) from None


def _damaged(place: Path, error: Exception) -> UserError:
    return UserError(f"{place} is damaged: {error}; remove it and it is measured again")


def _finished(job: Job, dataset: Dataset) -> Rung:
    run, train_split = open_run(job.out), dataset.split("train")
    result = run.result()
    assert result is not None, "training ended"
    order = torch.randperm(len(train_split), generator=generator(job.config.seed, "training error"))
    seen = train_split.take(order[:TRAINING_IMAGES].sort().values)
    training, validation = _sums(run, [seen, dataset.split("validation")], job.config)
    errors = Errors(training.error_percent, training.images, validation.error_percent, validation.images)
    per_epoch = steps_per_epoch(len(train_split), job.config.resolved_recipe().batch_size)
    return _rung(job, result["steps"] / per_epoch, result["seconds"], errors, None)


def _sums(run: Run, splits: list[Split], config: TrainConfig) -> list[Sums]:
    """Return what the network of a finished run gets wrong on each split."""
    where, normalization = devices.pick(config.device), run.normalization
    assert normalization is not None, "a run that was trained here has one"
    chain = run.chain(lambda line: None).to(where)
    autocast = Arithmetic("fp32", "contiguous").autocast(where)

    def sums(split: Split) -> Sums:
        batches = evaluation_batches(
            split, normalization=normalization, batch_size=EVALUATION_BATCH, device=where, workers=config.workers
        )
        return add_up(chain, batches, autocast=autocast)

    chosen = run.record["choices"]["chosen"].get("threads", torch.get_num_threads())
    with threads_of(chosen):
        return [sums(split) for split in splits]


def _rung(job: Job, epochs: float, seconds: float, errors: Errors | None, failure: str | None) -> Rung:
    return Rung(job.family, job.depth, job.config.network, job.config.seed, epochs, seconds, errors, failure)


SPEEDS = "speeds.json"


@dataclass(frozen=True)
class Speed:
    """How fast a network trains here."""

    network: str
    """Name in the catalogue."""
    seconds_per_step: float
    """Median of a few training steps."""
    precision: str
    """The fastest correct one, which the runs then use."""
    memory_format: str
    """Likewise."""


@dataclass(frozen=True)
class Speeds:
    """What the runs of a ladder were given."""

    share_seconds: float
    """Training time of each run."""
    networks: tuple[Speed, ...]
    """One per network."""


def with_equal_time(jobs: Sequence[Job], seconds: float, dataset: Dataset, out: Path) -> list[Job]:
    """Return the jobs with the epochs that an equal share of the time allows.

    The speeds are measured once and kept in ``out``, so that a ladder that goes on has the epochs it began with.

    Args:
        jobs: All runs.
        seconds: Training time for all of them together.
        dataset: Their data.
        out: Folder of the runs.

    Raises:
        UserError: A share is shorter than one step, or the runs in ``out`` were given another share.
    """
    share, place = seconds / len(jobs), out / SPEEDS
    known = _kept(place, share) if place.is_file() else Speeds(share, ())
    speeds = {speed.network: speed for speed in known.networks}
    for job in jobs:
        name = job.config.network
        speeds[name] = speeds.get(name) or _speed(job.config, dataset)
    longer = [_longer(job, share, speeds[job.config.network], dataset) for job in jobs]
    out.mkdir(parents=True, exist_ok=True)
    write_whole(place, json.dumps(to_json(Speeds(share, tuple(speeds.values()))), indent=1).encode())
    return longer


def _kept(place: Path, share: float) -> Speeds:
    try:
        known = from_json(Speeds, json.loads(place.read_bytes()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{place} is damaged: {error}; remove it and speeds are measured again") from None
    if not math.isclose(known.share_seconds, share, rel_tol=1e-9):
        raise UserError(
            f"{place.parent} holds runs of {known.share_seconds:.3g} s each, and this command gives each {share:.3g} s;"
            " name another --out"
        )
    return known


def _speed(config: TrainConfig, dataset: Dataset) -> Speed:
    recipe = config.resolved_recipe()
    chain = build(spec_of(config.network, classes=len(dataset.classes), channels=dataset.channels), seed=config.seed)
    shape, device = batch_shape(recipe, dataset), devices.pick(config.device)
    best = best_of(trials_of(config, TrainingSteps(chain, shape, recipe, device, config.checkpointing)))
    return Speed(config.network, best.seconds_per_step, best.precision, best.memory_format)


def _longer(job: Job, share: float, speed: Speed, dataset: Dataset) -> Job:
    steps = int(share / speed.seconds_per_step)
    if steps < 1:
        raise UserError(
            f"--train-budget gives each run {share:.2g} s, and one step of {speed.network} takes"
            f" {speed.seconds_per_step:.2g} s; give more, or fewer depths or seeds"
        )
    per_epoch = steps_per_epoch(len(dataset.split("train")), job.config.resolved_recipe().batch_size)
    # Rounded down so that the run, which rounds epochs up to steps, has no step more.
    epochs = math.floor(1e6 * steps / per_epoch) / 1e6
    chosen = {"precision": speed.precision, "memory_format": speed.memory_format}
    return replace(job, config=replace(job.config, epochs=epochs, **chosen))


class LadderProgress:
    """What a ladder says while it is climbed.

    Args:
        console: Where to.
        costs: How long each run takes relative to the others, in their order.
    """

    def __init__(self, console: Console, costs: Sequence[float]) -> None:
        self.console, self.costs = console, costs
        self.done, self.spent, self.worked, self.at = 0, 0.0, 0.0, time.perf_counter()
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=None))
        more = (progress.MofNCompleteColumn(), progress.TimeElapsedColumn(), progress.TextColumn("{task.fields[left]}"))
        self.bar = progress.Progress(
            *columns, *more, console=console, transient=True, disable=not console.is_terminal
        )  # fmt: skip
        self.task = self.bar.add_task("", total=len(costs), left="")

    def __enter__(self) -> "LadderProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, what: str) -> None:
        """Show which run is under way."""
        self.at = time.perf_counter()
        self.bar.update(self.task, description=what)

    def finished(self, line: str, *, now: bool) -> None:
        """Print a finished run.

        Args:
            line: What it found.
            now: Whether it was trained now, and not read back: only then it tells how long the others take.
        """
        if now:
            self.spent += time.perf_counter() - self.at
            self.worked += self.costs[self.done]
        self.done += 1
        left = self._left()
        self.bar.update(self.task, completed=self.done, left=left)
        print_line(self.console, f"{self.done:>{len(str(len(self.costs)))}}/{len(self.costs)}  {line}  {left}".rstrip())

    def _left(self) -> str:
        """Return the time left at the speed so far."""
        ahead = sum(self.costs[self.done :])
        if not ahead or not self.worked:
            return ""
        return f"{seconds_text(self.spent / self.worked * ahead)} left"
