"""What a fit is asked, and what it answers."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from howdeep.data.augmentation import Flip
from howdeep.fitting.answer import Contender, Verdict
from howdeep.fitting.candidates import Budgets, Dropped
from howdeep.ladders.families import LARGE_SIDE, network_name, usual_depths
from howdeep.stopwatch import Timing
from howdeep.threads import Threads, check_threads
from howdeep.training.config import TrainConfig

STEPS_OF_AN_EPOCH, LARGEST_BATCH, SMALLEST_BATCH = 30, 128, 16
LR = 0.1
"""Highest learning rate of the largest mini-batch."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What is searched for, where and how."""

    data: str
    """What DATA is on the command line."""
    out: Path
    """Folder for the runs, the clock and the answer; the same options again go on with what is there."""
    budgets: Budgets
    """What training and the network may cost."""
    families: tuple[str, ...] = ("resnet",)
    """Families of networks (see ``ladder.FAMILIES``)."""
    depths: tuple[int, ...] | None = None
    """Depths to try; None is the usual ones of each family."""
    storage: str | None = None
    """URL of an optuna storage that other processes may share; None is SQLite in ``out``."""
    study: str = "howdeep"
    """Name of the study there."""
    batch_size: int | None = None
    """Images per mini-batch; None is 128, or less where an epoch would have fewer than 30."""
    lr: float | None = None
    """Highest learning rate; None is 0.1 for mini-batches of 128 and in proportion for others."""
    size: int | None = None
    """Side of the images in pixels."""
    resize: Literal["crop", "pad", "squash"] = "crop"
    """What happens to images that are not square."""
    flip: Flip = "auto"
    """Whether half of the training images are mirrored."""
    limit: int | None = None
    """Only so many training images, a stratified sample by the seed."""
    skip_broken: bool = False
    """Leave broken images out."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    device: str = "auto"
    """Where."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training."""
    threads: Threads = "auto"
    """Threads of the host: a number, or what is fastest here."""
    workers: int = 2
    """Processes that decode large images."""

    def __post_init__(self) -> None:
        check_threads(self.threads)

    def asked(self) -> dict:
        """Return the options that the answer depends on, as JSON holds them."""
        other = ("out", "storage", "study", "device", "threads", "workers")
        found = {name: value for name, value in asdict(self).items() if name not in other}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    def ladders(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Return the depths to try of every family, shallow first.

        Raises:
            UserError: A family is unknown, or has no such depth for images of this size.
        """
        large = min(height, width) > LARGE_SIDE
        found = {family: tuple(sorted(self.depths or usual_depths(family, large=large))) for family in self.families}
        for family, depths in found.items():
            for depth in depths:
                network_name(family, depth, large=large)
        return found

    def training(self, images: int) -> TrainConfig:
        """Return how networks are trained on so many images; the network stands for any.

        Mini-batches are halved where fewer than 30 of them make an epoch, as few images need as many updates.
        """
        batch = LARGEST_BATCH
        while batch > SMALLEST_BATCH and images < STEPS_OF_AN_EPOCH * batch:
            batch //= 2
        batch = batch if self.batch_size is None else self.batch_size
        rate = LR * batch / LARGEST_BATCH if self.lr is None else self.lr
        return TrainConfig(
            network="cifar_resnet8", data=self.data, recipe="extendable", batch_size=batch,
            lr=rate, size=self.size, resize=self.resize, flip=self.flip, limit=self.limit,
            skip_broken=self.skip_broken, seed=self.seed, device=self.device, precision=self.precision,
            threads=self.threads, workers=self.workers,
        )  # fmt: skip


@dataclass(frozen=True)
class FinalError:
    """The test split, read once."""

    error_percent: float
    """Share of wrong answers."""
    standard_error: float
    """Of the error, in percent."""
    n: int
    """Images."""


@dataclass(frozen=True)
class Fit:
    """The answer to how deep, with its evidence."""

    network: str
    """The network that is recommended."""
    family: str
    """Its family."""
    depth: int
    """Its layers."""
    run: str
    """Its run folder."""
    validation_error_percent: float
    """By which it was chosen: a little too good, as the best of several."""
    validation_standard_error: float
    """Of that error, in percent."""
    validation_images: int
    """Images behind it."""
    test: FinalError | None
    """The test error; None where the data has no test split."""
    latency: Timing
    """One image, norms folded, fp32, one thread; measured on the trained network."""
    epochs: float
    """Passes over the training images."""
    spent_seconds: float
    """Time that all of this took here."""
    budgets: Budgets
    """What was allowed."""
    verdict: Verdict
    """Why not deeper, why not shallower."""
    contenders: tuple[Contender, ...]
    """Everyone who took part."""
    dropped: tuple[Dropped, ...]
    """Who did not, and why."""
    precision: str
    """Arithmetic of training."""
    notes: tuple[str, ...]
    """Decisions on the data."""
