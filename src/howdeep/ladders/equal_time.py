"""Equal time: a budget shared equally among runs, each with as many epochs as its share allows at its measured speed.

A schedule must know its end beforehand, so steps are timed before training and not while it runs.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from howdeep import device as devices
from howdeep.checkpoints import write_whole
from howdeep.data import Dataset, steps_per_epoch
from howdeep.errors import UserError
from howdeep.ladders.jobs import Job
from howdeep.networks import build, spec_of
from howdeep.records import from_json, to_json
from howdeep.stopwatch import thread_counts
from howdeep.training.config import TrainConfig
from howdeep.training.precision import best_of, candidates, measure

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
    images = max(2, min(recipe.batch_size, len(dataset.split("train"))))
    shape = (images, dataset.channels, dataset.height, dataset.width)
    device = devices.pick(config.device)
    tried = candidates(config.precision, config.memory_format, device)
    threads = thread_counts(config.threads, device)
    best = best_of(measure(chain, shape, recipe, tried, memory=config.memory, device=device, threads=threads))
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
