"""How costs are measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro.conf

from howdeep.util.errors import UserError
from howdeep.util.options import OptionalInt, require_at_least

if TYPE_CHECKING:
    from howdeep.survival import Survival


@dataclass(frozen=True, kw_only=True)
class CostOptions:
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
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    survival: str = "constant"
    """Expected training cost under constant, linear:0.5, uniform:0.8 or exactly:23."""
    rounds: Annotated[int, tyro.conf.Suppress, tyro.conf.Fixed] = 3
    """Rounds of measuring: a time is the median of the quietest one's runs."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "size", "channels", "batch_size", "threads", "rounds")
        if not 0 <= self.seconds < float("inf"):
            raise UserError(f"seconds {self.seconds} is not allowed: it must be at least 0 and finite")

    @property
    def rule(self) -> "Survival":
        """The rule of the expected costs."""
        from howdeep.survival import Survival  # imports torch, which the options of a command do without

        return Survival.parse(self.survival)
