"""A ladder of depths."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.commands.options import Data, File, Flat, Whole, check_files
from howdeep.commands.output import Output
from howdeep.runtime.threads import Threads
from howdeep.search.ladder import LadderConfig
from howdeep.util import units as budgets


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Train families of networks at several depths, and say what keeps the deeper ones from being better."""

    config: Flat[LadderConfig]
    out: Path
    """Folder of the runs; the same command again goes on where it stopped."""
    figure: File = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Train, print a table and the diagnoses, draw a chart."""
        from howdeep.search.degradation import degradation
        from howdeep.show import figures
        from howdeep.show.ladder_tables import degradation_table

        check_files(self.output, self.figure)
        found = degradation(self.config, self.out)
        self.output.finish(
            found.to_json(self.config), degradation_table(found), figure=self.figure,
            draw=lambda place: figures.save(figures.degradation(found), place),
        )  # fmt: skip
        return 0


Text = Annotated[str | None, tyro.conf.arg(metavar="BUDGET", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Say how deep a network should be for some data and budgets, and train it; the same command again goes on."""

    data: Data
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    train_budget: Annotated[str, tyro.conf.arg(metavar="TIME")]
    """Time of everything on this machine, such as 30m: measuring, search, final training."""
    latency_budget: Text = None
    """Longest forward pass of one image, such as 2ms (median on this device, one thread)."""
    memory_budget: Text = None
    """Peak memory of training, such as 2GB."""
    parameters_budget: Text = None
    """Most trainable numbers, such as 1M."""
    families: Annotated[str, tyro.conf.arg(metavar="NAME[,NAME…]")] = "resnet"
    """plain, resnet, preresnet, wideresnet, densenet, densenet_bc."""
    depths: Annotated[str | None, tyro.conf.arg(metavar="INT[,INT…]", help_behavior_hint="")] = None
    """Depths to try; without it the usual ones of each family."""
    out: Path = Path("howdeep-fit")
    """Folder for the runs and the answer."""
    storage: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="(default: SQLite in --out)")] = None
    """optuna storage that several processes or machines share, each with an --out of its own."""
    study: str = "howdeep"
    """Name of the study in the storage."""
    batch_size: Whole = None
    """Images per mini-batch; without it 128, or less for few images."""
    lr: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Highest learning rate; without it 0.1 for mini-batches of 128, in proportion for others."""
    size: Whole = None
    """Side of the images in pixels."""
    resize: Literal["crop", "pad", "squash"] = "crop"
    """What happens to images that are not square."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror half of the training images; auto does unless all classes are single letters or digits."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    limit: Whole = None
    """Only N training images, a stratified sample."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto times a few steps and takes the fastest correct one."""
    threads: Threads = "auto"
    """Threads of the host; auto times a few steps and times again where the machine gets busy."""
    workers: int = 2
    """Processes that decode large images."""
    figure: File = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Search, train and print the answer."""
        from howdeep.search.fit import fit
        from howdeep.show import figures
        from howdeep.show.fit_tables import fit_table

        check_files(self.output, self.figure)
        answer = fit(self.options())
        if answer is None:
            return 0
        found, record = answer
        self.output.finish(
            record, fit_table(found), figure=self.figure,
            draw=lambda place: figures.save(figures.fit(found), place),
        )  # fmt: skip
        return 0

    def options(self):
        """Return what is asked."""
        from howdeep.search.fit import FitOptions

        depths = None if self.depths is None else budgets.whole_numbers("depths", self.depths)
        return FitOptions(
            data=self.data, out=self.out, budgets=self._budgets(), families=budgets.names("families", self.families),
            depths=depths, storage=self.storage, study=self.study, batch_size=self.batch_size, lr=self.lr,
            size=self.size, resize=self.resize, flip=self.flip, limit=self.limit, skip_broken=self.skip_broken,
            seed=self.seed, device=self.device, precision=self.precision, threads=self.threads, workers=self.workers,
        )  # fmt: skip

    def _budgets(self):
        from howdeep.search.candidates import Budgets

        def read(name, parse):
            text = getattr(self, name.replace("-", "_"))
            return None if text is None else parse(name, text)

        return Budgets(
            train_seconds=budgets.seconds("train-budget", self.train_budget),
            latency_seconds=read("latency-budget", budgets.seconds),
            parameters=read("parameters-budget", budgets.count),
            memory_bytes=read("memory-budget", budgets.memory_bytes),
        )
