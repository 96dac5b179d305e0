"""Degradation: families of networks trained at several depths, and what keeps the deeper ones from being better.

    for every seed, and every network:  one run folder, trained with equal epochs or in equal time
    for every family, and its widths:   errors against depth with intervals over the seeds → a diagnosis

The rules of the diagnosis are those of :mod:`howdeep.search.diagnosis`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from rich.console import Console

from howdeep.data import Dataset, augmentation_line
from howdeep.networks import spec_of
from howdeep.networks.counting import refuse_too_small
from howdeep.runs import folder as runs
from howdeep.runs.resume import Journal, surroundings
from howdeep.runtime import device as devices
from howdeep.runtime.process import stopped
from howdeep.search.diagnosis import Diagnosis, Point, diagnose, point_of
from howdeep.search.families import FAMILIES, LARGE_SIDE
from howdeep.search.ladder_runs import LadderProgress, LadderRun, PlannedRun, trained, with_equal_time
from howdeep.search.options import LadderConfig
from howdeep.training.images import open_training_data
from howdeep.training.log import print_line
from howdeep.util.files import folder_locked, write_whole
from howdeep.util.records import Shown, tagged

Equal = Literal["epochs", "time"]
RECORD = "degradation.json"
"""What was found, in the folder of the runs."""
OVERHEAD = 20
"""What a run costs apart from its steps, as layers: data, trials of the precision, evaluation."""


@dataclass(frozen=True)
class FamilyResult:
    """What was found for one family, of one width."""

    family: str
    """Its name."""
    width: int
    """Factor on the channels that the family's paper has."""
    label: str
    """What people call it."""
    points: tuple[Point, ...]
    """Errors with intervals, by depth, shallow first."""
    diagnosis: Diagnosis
    """What they say."""

    @property
    def name(self) -> str:
        """The family, and its width where that is not the usual one: resnet, resnet_w4."""
        return self.family if self.width == FAMILIES[self.family].width else f"{self.family}_w{self.width}"


@dataclass(frozen=True)
class Degradation(Shown):
    """Error against depth, by family and width."""

    data: str
    """What the data is called."""
    equal: Equal
    """What all runs had the same of."""
    seeds: tuple[int, ...]
    """Seeds of the runs of every network."""
    families: tuple[FamilyResult, ...]
    """What was found, in the order asked for."""
    runs: tuple[LadderRun, ...]
    """Every run."""

    def to_json(self, config: LadderConfig) -> dict:
        """Return the record as plain data, with what it takes to repeat it."""
        origin = {"options": asdict(config), **runs.provenance(devices.pick(config.device))}
        return tagged("degradation", {**asdict(self), **origin})


def degradation(config: LadderConfig, out: str | Path, *, console: Console | None = None) -> Degradation:
    """Train a ladder into a folder of run folders, or resume the one that is there, and return what it shows.

    Args:
        config: What to do.
        out: Folder of the runs, ``<network>-seed<k>`` each, and of ``degradation.json``.
        console: Where progress goes; None is standard error.

    Raises:
        UserError: Bad options, data or folder, or another process writes there.
        SaveError: Something could not be written.
        Stopped: An interrupt arrived; the same call resumes.
    """
    console, out = console or Console(stderr=True), Path(out)
    equal_time = config.budget_seconds is not None

    @lru_cache(maxsize=1)
    def data(seed: int) -> Dataset:
        """Return the data of the runs of one seed; those that they were begun with, if they were."""
        begun = next(iter(sorted(out.glob(f"*-seed{seed}/{runs.IMAGES}"))), None)
        run = begun and begun.parent
        known = run and runs.read_images_of(run)
        return open_training_data(config.run_config("", "", seed), known, run)

    with folder_locked(out):
        with stopped("the same command resumes"):
            journal = Journal.open(out / "steps", surroundings(devices.pick(config.device)))
            first = data(config.seed)
            jobs = _jobs(config, out, first)
            print_line(console, augmentation_line(first, flip=config.flip))
            if config.budget_seconds is not None:
                jobs = with_equal_time(jobs, config.budget_seconds, first, journal)
            finished = []
            with LadderProgress(console, [1 if equal_time else OVERHEAD + job.depth for job in jobs]) as progress:
                for job in jobs:
                    known = job.done(journal)
                    progress.begin(f"{job.config.network} seed {job.config.seed}")
                    finished.append(trained(job, data(job.config.seed), journal))
                    progress.finished(_line(finished[-1]), now=not known)
        equal: Equal = "time" if equal_time else "epochs"
        labels = first.split("validation").labels
        guessing = 100 * (1 - int(labels.bincount().max()) / len(labels))
        lines = dict.fromkeys((run.family, run.width) for run in finished)
        families = tuple(
            _family(*line, [run for run in finished if (run.family, run.width) == line], equal, guessing)
            for line in lines
        )
        record = Degradation(first.name, equal, config.all_seeds, families, tuple(finished))
        write_whole(out / RECORD, json.dumps(record.to_json(config), indent=1).encode())
        return record


def _jobs(config: LadderConfig, out: Path, dataset: Dataset) -> list[PlannedRun]:
    """Return every run, all depths of one seed before the next seed; refuse before anything is trained."""
    members = config.plane(large=max(dataset.height, dataset.width) > LARGE_SIDE)
    for one in members:
        refuse_too_small(spec_of(one.network), dataset.height, dataset.width)
    return [
        PlannedRun(
            *(one.family, one.depth, one.width),
            config=config.run_config(one.family, one.network, seed),
            out=out / f"{one.network}-seed{seed}",
        )
        for seed in config.all_seeds
        for one in members
    ]


def _line(run: LadderRun) -> str:
    """Return one finished run as a line that fits 80 columns."""
    wide = "" if run.width == FAMILIES[run.family].width else f", width {run.width}"
    name = f"{run.family} {run.depth:,}{wide}".ljust(16) + f" seed {run.seed}"
    if run.errors is None:
        return f"{name}  not finite  {run.seconds:.0f} s"
    errors = f"{run.errors.training_percent:4.1f} % train {run.errors.validation_percent:4.1f} % val"
    return f"{name} {errors} {run.seconds:5.0f} s"


def _family(
    family: str, width: int, trained_runs: Sequence[LadderRun], equal: Equal, guessing_percent: float
) -> FamilyResult:
    points = []
    for depth in sorted({run.depth for run in trained_runs}):
        of_runs = [run.errors for run in trained_runs if run.depth == depth]
        errors = [one for one in of_runs if one is not None]
        points.append(point_of(depth, errors, failed=len(of_runs) - len(errors)))
    diagnosis = diagnose(points, guessing_percent)
    if equal == "time" and diagnosis.kind == "optimisation fails":
        fewer = f"; in equal time the deepest made {trained_runs[-1].epochs:.3g} epochs, the shallowest"
        diagnosis = replace(diagnosis, evidence=f"{diagnosis.evidence}{fewer} {trained_runs[0].epochs:.3g}")
    label = FAMILIES[family].label + ("" if width == FAMILIES[family].width else f", width {width}")
    return FamilyResult(family, width, label, tuple(points), diagnosis)
