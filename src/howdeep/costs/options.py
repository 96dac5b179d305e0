"""How costs are measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro.conf

from howdeep.runtime.options import DeploymentOptions
from howdeep.util.errors import UserError
from howdeep.util.options import (
    Device,
    OptionalInt,
    refuse_without_use,
    require_at_least,
)

if TYPE_CHECKING:
    from howdeep.costs.scaling import Cluster, TrainingJob
    from howdeep.survival import Survival

Nodes = Annotated[str | None, tyro.conf.arg(metavar="NODESxDEVICES", help_behavior_hint="")]
Rate = Annotated[str | None, tyro.conf.arg(metavar="RATE", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class CostOptions(DeploymentOptions):
    """How costs are measured."""

    seconds: float = 60.0
    """Further depths are measured as a check as long as that takes no longer."""
    size: OptionalInt = None
    """Side of the images in pixels; without it 32, or 224 for the ImageNet names."""
    channels: int = 3
    """Channels of the images."""
    batch_size: int = 128
    """Images of a training step, and of a batch."""
    threads: int = 1
    """Threads of the latency on the CPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto times a few steps and takes the fastest correct one."""
    device: Device = "auto"
    survival: str = "constant"
    """Expected training cost under constant, linear:0.5, uniform:0.8 or exactly:23."""
    rounds: Annotated[int, tyro.conf.Suppress, tyro.conf.Fixed] = 3
    """Rounds of measuring: a time is the median of the quietest one's runs."""

    def __post_init__(self) -> None:
        DeploymentOptions.__post_init__(self)
        require_at_least(1, self, "size", "channels", "batch_size", "threads", "rounds")
        if not 0 <= self.seconds < float("inf"):
            raise UserError(f"seconds {self.seconds} is not allowed: it must be at least 0 and finite")

    @property
    def rule(self) -> "Survival":
        """The rule of the expected costs."""
        from howdeep.survival import Survival  # imports torch, which the options of a command do without

        return Survival.parse(self.survival)


@dataclass(frozen=True, kw_only=True)
class ScalingOptions:
    """Training on many devices, on paper."""

    scale: Nodes = None
    """On paper: training on so many nodes, such as 64x8."""
    rate: Rate = None
    """scale: what one device sustains, such as 60TFLOP/s; without it, as measured here."""
    inside: str = "300GB/s"
    """scale: link between the devices of a node."""
    between: str = "25GB/s"
    """scale: link between nodes."""
    images: int = 1_281_167
    """scale: images of the training set."""
    epochs: float = 90.0
    """scale: passes over it."""

    def __post_init__(self) -> None:
        if self.scale is not None:
            self.cluster()
            self.job(parameters=1, batch_size=1)
            return
        if self.rate is not None:
            raise UserError(f"--rate {self.rate} is not allowed without --scale: it describes one of many devices")
        refuse_without_use(self, ("inside", "between", "images", "epochs"), "without --scale NODESxDEVICES")

    def cluster(self) -> "Cluster":
        """Return the devices."""
        from howdeep.costs.scaling import cluster_of

        return cluster_of(str(self.scale), self.inside, self.between)

    def job(self, parameters: int, batch_size: int) -> "TrainingJob":
        """Return what is trained on them: a network of this many parameters, ``batch_size`` images a step on each."""
        from howdeep.costs.scaling import TrainingJob

        return TrainingJob(parameters, batch_size, self.images, self.epochs)
