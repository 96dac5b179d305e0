"""One run of a ladder: a run folder, and in it what its final network gets wrong."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from howdeep import device as devices
from howdeep.checkpoints import write_whole
from howdeep.data import Dataset, Split, evaluation_batches, steps_per_epoch
from howdeep.errors import UserError
from howdeep.evaluation import NotFiniteScoresError, Sums, add_up
from howdeep.keys import surroundings
from howdeep.ladders.diagnosis import Errors
from howdeep.records import from_json, to_json
from howdeep.runs import Run, is_run, open_run
from howdeep.seeds import generator
from howdeep.stopwatch import threads_of
from howdeep.training.config import TrainConfig, difference
from howdeep.training.loop import EVALUATION_BATCH, train
from howdeep.training.saving import NotFiniteError
from howdeep.training.session import require_same_images
from howdeep.training.step import Arithmetic

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
    chain = run.chain(warn=lambda line: None).to(where)
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
