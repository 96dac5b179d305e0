"""One run of a ladder: a run folder, and what its final network gets wrong."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from howdeep.analysis.evaluation import NotFiniteLogitsError, add_up
from howdeep.data import Dataset, evaluation_batches, steps_per_epoch
from howdeep.networks import build, spec_of
from howdeep.runs.folder import is_run, open_run
from howdeep.runs.resume import Journal
from howdeep.runtime import device as devices
from howdeep.runtime.precision import Arithmetic, Trial, best_of
from howdeep.runtime.timing import threads_of
from howdeep.search.diagnosis import Errors, still_fell
from howdeep.training.config import TrainConfig, difference
from howdeep.training.images import require_same_images
from howdeep.training.log import print_line
from howdeep.training.loop import train
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.training.saving import NotFiniteError
from howdeep.util.errors import UserError
from howdeep.util.progress import ProgressBar
from howdeep.util.records import from_json, to_json
from howdeep.util.seeds import generator
from howdeep.util.text import seconds_text

TRAINING_IMAGES = 2_000
"""Training images at most, drawn by the run's seed, on which training error is measured."""
SHARE, SPEED = "seconds of each run", "speed of "
"""Steps of the journal that keep what every run is given in equal time, and what a network's training takes."""


@dataclass(frozen=True)
class PlannedRun:
    """One network to train."""

    family: str
    """Name of the family."""
    depth: int
    """Layers."""
    width: int
    """Factor on the channels that the family's paper has."""
    config: TrainConfig
    """How."""
    out: Path
    """The run folder."""

    def done(self, journal: Journal) -> bool:
        """Whether it was trained and evaluated."""
        return self.out.name in journal.steps and is_run(self.out)


@dataclass(frozen=True)
class LadderRun:
    """One trained network."""

    family: str
    """Name of the family."""
    depth: int
    """Layers."""
    width: int
    """Factor on the channels that the family's paper has."""
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


def trained(job: PlannedRun, dataset: Dataset, journal: Journal) -> LadderRun:
    """Train and evaluate a network, or resume that, or read back what was measured.

    Args:
        job: What to train.
        dataset: Its data, with the training images that are used.
        journal: Keeps what was measured.

    Raises:
        UserError: The run folder is something else, or was made with other options.
        SaveError: Something could not be written.
        Stopped: SIGINT or SIGTERM arrived; training was saved.
    """
    if job.done(journal):
        run = open_run(job.out)
        if changed := difference(run.record["config"], job.config):
            raise UserError(f"{job.out} is a run with other options: {changed}; use those, or name another --out")
        require_same_images(job.out, run.images(), dataset)
        return from_json(LadderRun, journal.steps[job.out.name])
    errors = failure = None
    try:
        train(job.config, job.out, console=Console(quiet=True), dataset=dataset)
        epochs, seconds, errors = _finished(job, dataset)
    except (NotFiniteError, NotFiniteLogitsError) as error:
        seconds = max((record.get("seconds", 0.0) for record in open_run(job.out).metrics()), default=0.0)
        epochs, failure = job.config.resolved_recipe().epochs or 0.0, str(error)
    which = job.family, job.depth, job.width, job.config.network, job.config.seed
    result = LadderRun(*which, epochs, seconds, errors, failure)
    journal.note(job.out.name, to_json(result))
    return result


def _finished(job: PlannedRun, dataset: Dataset) -> tuple[float, float, Errors]:
    """Return how long a run was trained, in epochs and seconds, and the errors of its network."""
    run, train_split, where = open_run(job.out), dataset.split("train"), devices.pick(job.config.device)
    result, normalization = run.result(), run.normalization
    assert result is not None, "training ended"
    assert normalization is not None, "a run that was trained here has one"
    order = torch.randperm(len(train_split), generator=generator(job.config.seed, "training error"))
    seen = train_split.take(order[:TRAINING_IMAGES].sort().values)
    chain = run.chain(lambda line: None).to(where)
    sums = []
    with threads_of(run.record["choices"]["chosen"]["threads"]):
        for split in (seen, dataset.split("validation")):
            batches = evaluation_batches(
                split,
                normalization=normalization,
                device=where,
                workers=job.config.workers,
            )
            sums.append(add_up(chain, batches, autocast=Arithmetic("fp32", "contiguous").autocast(where)))
    training, validation = sums
    epochs = [line["train_error_percent"] for line in run.metrics() if line["event"] == "epoch"]
    falling = still_fell(epochs, len(train_split))
    errors = Errors(training.error_percent, training.images, validation.error_percent, validation.images, falling)
    per_epoch = steps_per_epoch(len(train_split), job.config.resolved_recipe().batch_size)
    return result["steps"] / per_epoch, result["seconds"], errors


def with_equal_time(jobs: Sequence[PlannedRun], seconds: float, dataset: Dataset, journal: Journal) -> list[PlannedRun]:
    """Return the jobs with the epochs that an equal share of the time allows.

    Args:
        jobs: All runs.
        seconds: Training time for all of them together.
        dataset: Their data.
        journal: Keeps the speeds, so that a ladder that resumes has the epochs that it began with.

    Raises:
        UserError: A share is shorter than one step, or the runs of the journal were given another share.
    """
    share = seconds / len(jobs)
    before = journal.steps.get(SHARE, share)
    if not math.isclose(before, share, rel_tol=1e-9):
        raise UserError(
            f"{jobs[0].out.parent} holds runs of {before:.3g} s each, and this command gives each {share:.3g} s;"
            " name another --out"
        )

    fastest: dict[str, Trial] = {}
    for job in jobs:
        if (network := job.config.network) not in fastest:
            known = journal.steps.get(SPEED + network)
            fastest[network] = from_json(Trial, known) if known else _fastest(job.config, dataset)
    longer = [_longer(job, share, fastest[job.config.network], dataset) for job in jobs]
    speeds = {SPEED + network: to_json(trial) for network, trial in fastest.items()}
    for step, value in {SHARE: share, **speeds}.items():  # written last: what was refused leaves nothing
        journal.result(step, lambda: value)  # noqa: B023
    return longer


def _fastest(config: TrainConfig, dataset: Dataset) -> Trial:
    """Return the fastest correct arithmetic for a network here, which its runs then use."""
    recipe = config.resolved_recipe()
    chain = build(spec_of(config.network, classes=len(dataset.classes), channels=dataset.channels), seed=config.seed)
    shape, device = batch_shape(recipe, dataset), devices.pick(config.device)
    return best_of(trials_of(config, TrainingSteps(chain, shape, recipe, device, config.checkpointing)))


def _longer(job: PlannedRun, share: float, trial: Trial, dataset: Dataset) -> PlannedRun:
    steps = int(share / trial.seconds_per_step)
    if steps < 1:
        raise UserError(
            f"--train-budget gives each run {share:.2g} s, and one step of {job.config.network} takes"
            f" {trial.seconds_per_step:.2g} s; give more, or fewer depths or seeds"
        )
    per_epoch = steps_per_epoch(len(dataset.split("train")), job.config.resolved_recipe().batch_size)
    # Rounded down so that the run, which rounds epochs up to steps, has no step more.
    epochs = math.floor(1e6 * steps / per_epoch) / 1e6
    chosen = {"precision": trial.precision, "memory_format": trial.memory_format}
    return replace(job, config=replace(job.config, epochs=epochs, **chosen))


class LadderProgress:
    """What a ladder says while it is trained.

    Args:
        console: Where to.
        costs: How long each run takes relative to the others, in their order.
    """

    def __init__(self, console: Console, costs: Sequence[float]) -> None:
        self.console, self.costs = console, costs
        self.done, self.spent, self.worked, self.at = 0, 0.0, 0.0, time.perf_counter()
        self.bar = ProgressBar(console, total=len(costs), estimate=False)

    def __enter__(self) -> "LadderProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def begin(self, what: str) -> None:
        """Show which run is under way."""
        self.at = time.perf_counter()
        self.bar.show(what, left=self._left())

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
        self.bar.show(done=self.done, left=left)
        print_line(self.console, f"{self.done:>{len(str(len(self.costs)))}}/{len(self.costs)}  {line}  {left}".rstrip())

    def _left(self) -> str:
        """Return the time left at the speed so far."""
        ahead = sum(self.costs[self.done :])
        if not ahead or not self.worked:
            return ""
        return f"{seconds_text(self.spent / self.worked * ahead)} left"
