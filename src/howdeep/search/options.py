"""What a fit is asked."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro.conf

from howdeep.search.ladder import LARGE_SIDE, network_name, usual_depths
from howdeep.training.config import TrainConfig
from howdeep.util.options import (
    Data,
    OptionalFloat,
    OptionalInt,
    Threads,
    check_threads,
    convert,
    read_bytes,
    read_count,
    read_names,
    read_seconds,
    read_whole_numbers,
)

Budget = Annotated[str | None, tyro.conf.arg(metavar="BUDGET", help_behavior_hint="")]
STEPS_OF_AN_EPOCH, LARGEST_BATCH, SMALLEST_BATCH = 30, 128, 16
LR = 0.1
"""Highest learning rate of the largest mini-batch."""
SHARED_WITH_TRAINING = (
    *("data", "size", "resize", "flip", "limit", "skip_broken"),
    *("seed", "device", "precision", "threads", "workers"),
)
"""Options that training has too."""


@dataclass(frozen=True)
class Budgets:
    """What a network may cost; None where there is no limit."""

    train_seconds: float
    """Time of the whole search on this machine, measuring and the final training included."""
    latency_seconds: float | None = None
    """Median of one forward pass of one image."""
    parameters: float | None = None
    """Trainable numbers."""
    memory_bytes: float | None = None
    """Peak memory of training, as ``howdeep cost`` measures it."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What is searched for, where and how."""

    data: Data
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    train_budget: Annotated[str, tyro.conf.arg(metavar="TIME")]
    """Time of everything on this machine, such as 30m: measuring, search, final training."""
    latency_budget: Budget = None
    """Longest forward pass of one image, such as 2ms (median on this device, one thread)."""
    memory_budget: Budget = None
    """Peak memory of training, such as 2GB."""
    parameters_budget: Budget = None
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
    batch_size: OptionalInt = None
    """Images per mini-batch; without it 128, or less for few images."""
    lr: OptionalFloat = None
    """Highest learning rate; without it 0.1 for mini-batches of 128, in proportion for others."""
    size: OptionalInt = None
    """Side of the images in pixels."""
    resize: Literal["crop", "pad", "squash"] = "crop"
    """What happens to images that are not square."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror half of the training images; auto does unless all classes are single letters or digits."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    limit: OptionalInt = None
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

    def __post_init__(self) -> None:
        convert(self, str, "data")
        convert(self, Path, "out")
        check_threads(self.threads)
        _ = self.budgets, self.family_names, self.given_depths

    @property
    def budgets(self) -> Budgets:
        """The budgets as numbers."""

        def number(name: str, parse: Any) -> float | None:
            text = getattr(self, name.replace("-", "_"))
            return None if text is None else parse(name, text)

        return Budgets(
            train_seconds=read_seconds("train-budget", self.train_budget),
            latency_seconds=number("latency-budget", read_seconds),
            parameters=number("parameters-budget", read_count),
            memory_bytes=number("memory-budget", read_bytes),
        )

    @property
    def family_names(self) -> tuple[str, ...]:
        """The families, each once."""
        return read_names("families", self.families)

    @property
    def given_depths(self) -> tuple[int, ...] | None:
        """The depths that were given, shallow first."""
        return None if self.depths is None else read_whole_numbers("depths", self.depths)

    def asked(self) -> dict[str, Any]:
        """Return the options that the answer depends on, beside the images, as JSON holds them."""
        parsed = {
            "budgets": asdict(self.budgets),
            "families": list(self.family_names),
            "depths": self.given_depths and list(self.given_depths),
        }
        other = ("data", "out", "storage", "study", "device", "threads", "workers")
        names = [field.name for field in fields(FitOptions) if not field.name.endswith("_budget")]
        return {name: getattr(self, name) for name in names if name not in other} | parsed

    def ladders(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Return the depths to try of every family, shallow first.

        Raises:
            UserError: A family is unknown, or has no such depth for images of this size.
        """
        large = min(height, width) > LARGE_SIDE
        ladders = {family: self.given_depths or usual_depths(family, large=large) for family in self.family_names}
        for family, depths in ladders.items():
            for depth in depths:
                network_name(family, depth, large=large)
        return ladders

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
            network="cifar_resnet8",
            recipe="extendable",
            batch_size=batch,
            lr=rate,
            **{name: getattr(self, name) for name in SHARED_WITH_TRAINING},
        )
