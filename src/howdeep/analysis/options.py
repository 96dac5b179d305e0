"""Which images a trained network is measured on, and how."""

from dataclasses import dataclass
from typing import Literal

from howdeep.runtime.threads import Threads, check_threads
from howdeep.util.options import Data, OptionalInt, refuse_without_use, require_at_least


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Images of one split."""

    data: Data
    """digits, an image folder, a Parquet file or folder, or hf:owner/name."""
    split: str = "test"
    """train, val or test."""
    limit: OptionalInt = None
    """Only N images, a stratified sample."""
    seed: int = 0
    """Seed of that sample."""
    batch_size: int = 100
    """Images at a time."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "limit", "batch_size")


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SplitOptions):
    """Images and threads of a dissection; what is measured on them is not here."""

    seed: int = 0
    """Seed of whatever is drawn: the sample, units, paths, initial weights."""
    threads: Threads = "auto"
    """Threads of the host; auto takes the number in which passes are fastest here."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threads(self.threads)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(SplitOptions):
    """How a trained network is evaluated."""

    batch_size: int = 500
    """Images at a time."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the activations."""
    threads: Threads = "auto"
    """Threads of the host; auto takes the number in which passes are fastest here."""
    workers: int = 2
    """Processes that decode large images."""
    skip_broken: bool = False
    """Leave broken images out instead of stopping."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threads(self.threads)
        if self.limit is None:
            refuse_without_use(self, ("seed",), "without --limit: nothing is drawn")
