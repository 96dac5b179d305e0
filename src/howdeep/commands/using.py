"""A trained network at work."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.commands.options import Data, File, Flat, TargetOptions, Whole, check_files, refuse_without_use
from howdeep.output import Output, remark
from howdeep.threads import Threads


@dataclass(frozen=True, kw_only=True)
class Evaluate(TargetOptions):
    """Measure error, error per class and calibration."""

    data: Data
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    split: str = "test"
    """train, val or test."""
    limit: Whole = None
    """Only N images, a stratified sample."""
    seed: int = 0
    """Seed of that sample."""
    batch_size: int = 500
    """Images at a time."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the maps."""
    threads: Threads = "auto"
    """Threads of the host; auto takes the number in which passes are fastest here."""
    workers: int = 2
    """Processes that decode large images."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    figure: File = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Measure and print."""
        from howdeep import figures
        from howdeep.inference import evaluate_target
        from howdeep.reporting import evaluation_table

        check_files(self.output, self.figure)
        if self.limit is None:
            refuse_without_use(self, ("seed",), "without --limit: nothing is drawn")
        found, record = evaluate_target(
            self.open(),
            self.data,
            split=self.split,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            workers=self.workers,
            threads=self.threads,
            skip_broken=self.skip_broken,
            say=remark,
        )
        table = evaluation_table(found, self.target, self.data, self.split)
        self.output.finish(
            record, table, figure=self.figure, draw=lambda place: figures.save(figures.evaluation(found), place)
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Predict(TargetOptions):
    """Print the likeliest classes of images."""

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
        from howdeep.inference import predict
        from howdeep.reporting import predictions_table

        self.output.check()
        found = predict(self.open(), self.images, top=self.top, device=self.device)
        self.output.finish([asdict(prediction) for prediction in found], predictions_table(found))
        unusable = sum(prediction.unusable is not None for prediction in found)
        if unusable:
            remark(f"howdeep: {unusable} of {len(found)} files cannot be used")
        return 1 if unusable else 0
