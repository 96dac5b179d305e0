"""What is measured of a trained network, on which images, and how."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import tyro.conf

from howdeep.runtime.options import DeploymentOptions
from howdeep.util.errors import UserError, unknown
from howdeep.util.options import (
    Amount,
    BatchSize,
    Device,
    InferencePrecision,
    InferenceThreads,
    Limit,
    OptionalInt,
    OwnData,
    SkipBroken,
    Split,
    Workers,
    check_split,
    check_threads,
    read_seconds,
    refuse_without_use,
    require_at_least,
)

Kind = Literal["delete", "random", "pairs", "permute", "duplicate"]
Lengths = Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]", help_behavior_hint="(default: all)")]


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Images of one split."""

    data: OwnData = None
    split: Split = "test"
    limit: Limit = None
    seed: int = 0
    """Seed of that sample."""
    batch_size: BatchSize = 100

    def __post_init__(self) -> None:
        check_split(self.split)
        require_at_least(1, self, "limit", "batch_size")


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SplitOptions):
    """Images and threads of a dissection; what is measured on them is not here."""

    seed: int = 0
    """Seed of whatever is drawn: the sample, units, paths, initial weights."""
    threads: InferenceThreads = "auto"
    skip_broken: SkipBroken = False
    device: Device = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threads(self.threads)


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """What of every image is averaged over."""

    views: int = 1
    """Average over N views of every image, 10 at most: mirrored, and shifted to the corners."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror images are among the views; auto: unless all classes are single letters or digits."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "views")
        if self.views == 1:
            refuse_without_use(self, ("flip",), "without --views: images are seen as they are")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ViewOptions, SplitOptions):
    """How a trained network is evaluated."""

    batch_size: BatchSize = 500
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the activations."""
    threads: InferenceThreads = "auto"
    workers: Workers = 2
    skip_broken: SkipBroken = False
    device: Device = "auto"

    def __post_init__(self) -> None:
        SplitOptions.__post_init__(self)
        ViewOptions.__post_init__(self)
        check_threads(self.threads)
        if self.limit is None:
            refuse_without_use(self, ("seed",), "without --limit: nothing is drawn")


@dataclass(frozen=True, kw_only=True)
class LesionOptions:
    """What a lesion study changes."""

    kind: Kind = "delete"
    """Each unit alone; k at random; pairs; k swaps of units of equal shape; each unit twice."""
    max_k: int = 10
    """random, permute: the most units out, or swaps."""
    draws: int = 10
    """random, permute: draws of every k."""
    sample: OptionalInt = None
    """pairs: only so many, drawn at random."""
    seed: int = 0
    """Seed of whatever is drawn: the sample, units, paths, initial weights."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("kind", self.kind, get_args(Kind))
        require_at_least(1, self, "max_k", "draws", "sample")
        unused = {"pairs": ("max_k", "draws"), "random": ("sample",), "permute": ("sample",)}
        why = f"with --kind {self.kind}: nothing there depends on it"
        refuse_without_use(self, unused.get(self.kind, ("max_k", "draws", "sample")), why)


@dataclass(frozen=True, kw_only=True)
class PathsOptions:
    """Which paths of the gradient are measured."""

    draws: int = 10
    """Single paths to draw of every length; 0 draws none."""
    lengths: Lengths = None
    """Lengths to draw."""
    exact: bool = True
    """The sum over all paths of each length; costs about a quarter of a backward pass per unit."""
    seed: int = 0
    """Seed of whatever is drawn: the sample, units, paths, initial weights."""

    def __post_init__(self) -> None:
        require_at_least(0 if self.exact else 1, self, "draws")
        if self.draws == 0:
            refuse_without_use(self, ("lengths",), "with --draws 0: no path is drawn")


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(ViewOptions, StudyOptions, DeploymentOptions):
    """At which depths of a network the classes of data are told apart, and how that is measured."""

    split: str = "val"
    """val or test: errors are measured and the depth is chosen on it."""
    limit: OptionalInt = None
    """Only N images of each split, a stratified sample."""
    seed: int = 0
    """Seed of these samples."""
    latency_budget: Amount = None
    """Time for one image, such as 2ms: the depth of the lowest error within it is chosen."""
    precision: InferencePrecision = "fp32"

    def __post_init__(self) -> None:
        StudyOptions.__post_init__(self)
        DeploymentOptions.__post_init__(self)
        ViewOptions.__post_init__(self)
        if self.split == "train":
            raise UserError("split 'train' is not allowed: classifiers are fitted on it; allowed: val, test")
        self.budget_ms  # noqa: B018  (an amount that cannot be read is refused now)

    @property
    def budget_ms(self) -> float | None:
        """The budget in milliseconds."""
        if self.latency_budget is None:
            return None
        return 1000 * read_seconds("latency-budget", self.latency_budget)
