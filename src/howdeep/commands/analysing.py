"""What a trained network does: its errors, its answers to single images, lesions, paths, signal and gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro.conf

from howdeep.analysis.options import EvaluationOptions, LesionOptions, PathsOptions, ProbeOptions, StudyOptions
from howdeep.commands.output import Output, ResultOptions, remark
from howdeep.runs.options import TargetOptions
from howdeep.runtime.ranks import this_process
from howdeep.util.errors import UserError
from howdeep.util.options import (
    Flat,
    InferencePrecision,
    refuse_without_use,
)
from howdeep.util.text import Report

if TYPE_CHECKING:
    from howdeep.analysis.study import Study
    from howdeep.runs.target import Target
    from howdeep.util.records import Shown


@dataclass(frozen=True, kw_only=True)
class Evaluate(ResultOptions, EvaluationOptions, TargetOptions):
    """Measure error, error per class and calibration.

    Example: howdeep evaluate run --json run/evaluation.json
    """

    def run(self) -> int:
        """Measure and print."""
        from howdeep.analysis.inference import evaluate_target
        from howdeep.show.analysis_tables import evaluation_table

        self.check_files()
        evaluation, record = evaluate_target(self.open(remark), self, report=remark)
        table = evaluation_table(evaluation, of=f"{self.target} on {record['data']}, {self.split}")
        self.finish(record, evaluation, table=table)
        return 0


@dataclass(frozen=True, kw_only=True)
class Predict(TargetOptions):
    """Print the likeliest classes of images.

    Example: howdeep predict run photo.jpg
    """

    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)"),
    ]
    """Image files."""
    top: int = 3
    """How many classes per image."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Predict and print; the status is 1 where a file could not be used."""
        from howdeep.analysis.inference import predict
        from howdeep.show.analysis_tables import predictions_table
        from howdeep.util.records import tagged

        self.output.check()
        predictions = predict(self.open(remark), self.images, top=self.top, device=self.device)
        record = tagged("predictions", {"predictions": [asdict(one) for one in predictions]})
        self.output.finish(record, predictions_table(predictions))
        unusable = sum(one.unusable is not None for one in predictions)
        if unusable:
            remark(f"howdeep: {unusable} of {len(predictions)} files cannot be used")
        return 1 if unusable else 0


@dataclass(frozen=True, kw_only=True)
class Dissection(ResultOptions, StudyOptions, TargetOptions):
    """Options of every dissection."""

    def asked(self) -> dict[str, Any]:
        """Return what is measured: the analysis, and every option that not all dissections have."""
        from howdeep.runs.resume import options_key

        common = [one.name for one in fields(Dissection)]
        return {"analysis": type(self).__name__.lower(), **options_key(self, without=common)}

    @contextmanager
    def study(self, precision: str, *, fold: bool = True) -> Iterator["Study"]:
        """Yield the network and its data."""
        from howdeep.analysis.study import open_study

        place = self.output.place
        with open_study(
            self.open(remark), self, asked=self.asked(), precision=precision, fold=fold, place=place, report=remark
        ) as study:
            yield study

    def report(self, study: "Study", record: "Shown") -> None:
        """Write, draw and print, on the first process."""
        if this_process().first:
            self.finish(study.record(record), record, written=study.journal.remove)


@dataclass(frozen=True, kw_only=True)
class Lesion(LesionOptions, Dissection):
    """Take units out, swap them, run them twice: what does it cost?

    Example: howdeep lesion run --json run/lesion.json
    """

    split: Annotated[str, tyro.conf.arg(help="val, test or train.")] = "val"
    precision: InferencePrecision = "fp32"

    def __post_init__(self) -> None:
        LesionOptions.__post_init__(self)
        Dissection.__post_init__(self)

    def open(self, report: Report) -> "Target":
        """Return the trained network, and say where it may have been trained on the images that count."""
        from howdeep.runs.target import note_doubt

        target = super().open(report)
        note_doubt(target, self.split, report)
        return target

    def run(self) -> int:
        """Measure and print."""
        from howdeep.analysis.lesion import lesion

        self.check_files()
        with self.study(self.precision) as study:
            chain, batches, autocast = study.chain, study.batches, study.autocast
            record = lesion(chain, batches, self, autocast=autocast, journal=study.journal, report=study.report)
            self.report(study, record)
        return 0


@dataclass(frozen=True, kw_only=True)
class Paths(PathsOptions, Dissection):
    """Split the gradient by the number of branches that it passed.

    Example: howdeep paths run --json run/paths.json
    """

    precision: Literal["fp32", "fp64"] = "fp32"
    """Arithmetic of the activations."""

    def __post_init__(self) -> None:
        PathsOptions.__post_init__(self)
        Dissection.__post_init__(self)

    def run(self) -> int:
        """Measure and print."""
        from howdeep.analysis.paths import paths

        self.check_files()
        with self.study(self.precision) as study:
            self.report(study, paths(study.chain, study.batches, self, journal=study.journal))
        return 0


@dataclass(frozen=True, kw_only=True)
class Flow(Dissection):
    """Measure signal and gradient through the depth.

    Example: howdeep flow cifar_plain56 --fresh --data digits
    """

    fresh: bool = False
    """Initial weights, for a name; norms then use the statistics of each mini-batch."""
    statistics: Literal["running", "batch"] | None = None
    """What norms divide by; without it running, or batch for initial weights."""
    precision: Literal["fp32", "fp64"] = "fp32"
    """Arithmetic of the activations."""

    def run(self) -> int:
        """Measure and print."""
        from howdeep.analysis.signals import draws_of, flow

        self.check_files()
        statistics = self.statistics or ("batch" if self.fresh else "running")
        with self.study(self.precision, fold=False) as study:
            study.journal.remove()  # its numbers are sums over all images: part of them is nothing
            drawn = draws_of(study.rule, len(study.chain), seed=self.seed, batch=self.batch_size)
            draws = drawn if statistics == "batch" else [None]
            # In file order a mini-batch would show few classes, and its statistics with it.
            batches = study.batches.shuffled(self.seed) if statistics == "batch" else study.batches
            record = flow(study.chain, batches, statistics=statistics, draws=draws, autocast=study.autocast)
            self.report(study, record)
        return 0

    def open(self, report: Report) -> "Target":
        """Return the trained network, or one with initial weights."""
        from howdeep.runs.target import fresh_target

        if not self.fresh:
            return super().open(report)
        refuse_without_use(self, ("weights", "key", "pretrained"), "with --fresh: initial weights need none")
        if self.data is None:
            raise UserError("--fresh needs --data: it says the classes and how pixels are normalised")
        return fresh_target(self, self.data, seed=self.seed, skip_broken=self.skip_broken)


@dataclass(frozen=True, kw_only=True)
class Probe(ProbeOptions, Dissection):
    """Say how much of a trained network your data needs.

    Example: howdeep probe torchvision:resnet18 --pretrained --data photos
    """

    def run(self) -> int:
        """Measure and print."""
        from howdeep.analysis.evaluation import fingerprint
        from howdeep.analysis.probe import probe
        from howdeep.analysis.study import open_study
        from howdeep.analysis.views import require_views
        from howdeep.data.augmentation import may_flip

        self.check_files()
        require_views(self.views, flip=self.flip != "no")
        target, further = self.open(remark), ("train", "test") if self.split != "test" else ("train",)
        with open_study(
            target,
            self,
            asked=self.asked(),
            precision=self.precision,
            further=further,
            same_classes=False,
            place=self.output.place,
            report=remark,
        ) as study:
            if "train" not in study.further:
                data = study.origin["data"]
                raise UserError(f"{data} has no training images: a classifier is fitted on them at every depth")
            record = probe(
                target.chain,
                study.further["train"],
                study.batches,
                study.further.get("test"),
                classes=len(study.classes),
                budget_ms=self.budget_ms,
                where=self.where,
                views=self.views,
                flip=may_flip(study.classes, self.flip),
                autocast=study.autocast,
                images=fingerprint(study.batches.split),
                seed=self.seed,
                journal=study.journal,
                report=study.report,
            )
            self.report(study, record)
        return 0
