"""From one trained network to a shallower one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro.conf

from howdeep.commands.options import TargetOptions, check_files
from howdeep.commands.output import Output, remark
from howdeep.runtime.threads import Threads
from howdeep.util.errors import UserError
from howdeep.util.options import Data, Flat, OptionalFile, OptionalInt, refuse_without_use

if TYPE_CHECKING:
    from howdeep.cutting.records import CutBudget
    from howdeep.cutting.run import CutOptions

Amount = Annotated[str | None, tyro.conf.arg(metavar="AMOUNT", help_behavior_hint="")]
Points = Annotated[float | None, tyro.conf.arg(metavar="POINTS", help_behavior_hint="")]
Units = Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Cut(TargetOptions):
    """Cut a trained network to budgets or by units, or measure every cut; the same command again resumes."""

    data: Data
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    latency_budget: Amount = None
    """Time for one image, such as 2ms: it is measured on the cut network."""
    units: OptionalInt = None
    """So many units stay."""
    macs: Amount = None
    """Multiply-adds per image, such as 50% of the network's or 20M."""
    error_increase: Points = None
    """Points of error above the network's; alone, as many units go as that allows."""
    remove: Units = None
    """Exactly these units go, numbered from 1; not with a budget."""
    out: Folder = None
    """Run folder of the cut network."""
    epochs: float = 0.0
    """Fine-tune for so many passes over the training images, and keep the best epoch where it helps; needs --out."""
    lr: float = 0.02
    """Highest learning rate of the fine-tuning."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Fine-tuning mirrors half of its images; auto does unless all classes are single letters or digits."""
    split: str = "val"
    """train, val or test: errors are measured and units are chosen on it."""
    limit: OptionalInt = None
    """Errors on N images alone, a stratified sample."""
    calibration_images: int = 1000
    """Units are chosen, and what is kept, on N images of the split, a stratified sample."""
    statistics_images: int = 2000
    """Norm statistics are estimated on N training images, a stratified sample; kept where that helps."""
    seed: int = 0
    """Seed of these samples."""
    threads: Threads = "auto"
    """Threads of the host; auto computes in the number that is fastest here and times passes in one."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """Arithmetic in which units are chosen and weights fine-tuned; auto takes the fastest correct one."""
    batch_size: int = 100
    """Images at a time."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Cut, print, write and draw."""
        from rich.console import Console

        from howdeep.cutting.run import cut_target
        from howdeep.show import figures
        from howdeep.show.cut_tables import cut_table
        from howdeep.util.files import file_locked, folder_locked

        options = self.options()
        self.check()
        with file_locked(options.place) if self.out is None else folder_locked(self.out):
            found, record, journal = cut_target(self.open(), options, say=remark, console=Console(stderr=True))
            self.output.finish(
                record, cut_table(found), figure=self.figure, written=journal.remove,
                draw=lambda place: figures.save(figures.frontier(found), place),
            )  # fmt: skip
            if self.out is not None:
                remark(f"{self.out}: the cut network")
        return 0

    def check(self) -> None:
        """Refuse before anything is measured what could not be written afterwards."""
        check_files(self.output, self.figure)

    def options(self) -> "CutOptions":
        """Return what is asked for, with the budgets as numbers."""
        from howdeep.cutting.run import CutOptions

        if self.remove == ():
            raise UserError("--remove is empty: name at least one unit, numbered from 1")
        if not self.epochs:
            refuse_without_use(self, ("lr", "flip"), "without --epochs: nothing is fine-tuned")
        return CutOptions(
            data=self.data, budget=self.budget(), remove=self.remove or (), out=self.out, epochs=self.epochs,
            lr=self.lr, flip=self.flip, split=self.split, limit=self.limit,
            calibration_images=self.calibration_images, statistics_images=self.statistics_images, seed=self.seed,
            threads=self.threads, precision=self.precision, batch_size=self.batch_size, device=self.device,
            skip_broken=self.skip_broken, place=self.output.place,
        )  # fmt: skip

    def budget(self) -> "CutBudget":
        """Return the budgets as numbers."""
        from howdeep.cutting.records import CutBudget
        from howdeep.util import units as budgets

        share, macs = budgets.share_or_count("macs", self.macs) if self.macs is not None else (None, None)
        seconds = budgets.seconds("latency-budget", self.latency_budget) if self.latency_budget is not None else None
        return CutBudget(
            units=self.units, macs=macs, macs_share=share, error_increase=self.error_increase,
            latency_ms=None if seconds is None else 1000 * seconds,
        )  # fmt: skip
