"""How a trained network is cut: to budgets, or by units that are named."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro.conf

from howdeep.runtime.options import DeploymentOptions
from howdeep.training.config import RecipeFloat
from howdeep.util.errors import SHOWN, UserError
from howdeep.util.options import (
    Amount,
    BatchSize,
    Device,
    OptionalInt,
    OptionalInts,
    OwnData,
    SkipBroken,
    Threads,
    check_split,
    check_threads,
    read_seconds,
    read_share_or_count,
    refuse_without_use,
    require_at_least,
)

if TYPE_CHECKING:
    from howdeep.cutting.records import Size

ErrorPoints = Annotated[float | None, tyro.conf.arg(metavar="POINTS", help_behavior_hint="")]
First = Annotated[Literal["auto"] | int | None, tyro.conf.arg(metavar="auto|K", help_behavior_hint="")]
RunFolder = Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class CutBudget:
    """What a cut network may cost; all that is given must hold, and nothing given asks for the whole frontier."""

    units: int | None = None
    """At most so many units stay."""
    macs: float | None = None
    """Multiply-adds per image."""
    macs_share: float | None = None
    """The same as a share of the network's, in (0, 1]."""
    latency_ms: float | None = None
    """Median of the time for one image, in milliseconds."""
    error_increase: float | None = None
    """Points of error above the network's, repaired where that helps. Alone: as many units out as it allows."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name.replace('_', '-')} {value:g} is not allowed: it must be above 0 and finite")
        if self.macs is not None and self.macs_share is not None:
            raise UserError(f"macs {self.macs:g} and a share of {self.macs_share:g} contradict each other: give one")

    @classmethod
    def of(
        cls,
        latency: str | None = None,
        units: int | None = None,
        macs: str | None = None,
        error_increase: float | None = None,
    ) -> "CutBudget":
        """Return the budget of amounts as people write them: ``2ms``, ``50%`` of the network's, ``20M``.

        Raises:
            UserError: An amount cannot be read, or is not allowed.
        """
        share, count = (None, None) if macs is None else read_share_or_count("macs", macs)
        seconds = None if latency is None else read_seconds("latency-budget", latency)
        milliseconds = None if seconds is None else 1000 * seconds
        return cls(units=units, macs=count, macs_share=share, latency_ms=milliseconds, error_increase=error_increase)

    @property
    def given(self) -> dict[str, float]:
        """What is limited, and to what."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def sized(self) -> bool:
        """Whether it limits what a network costs, not only what it gets wrong."""
        return bool(self.given.keys() - {"error_increase"})

    def excess(self, size: "Size", original: "Size") -> str | None:
        """Return the first limit that a network does not hold, and what it has instead; None where all hold."""
        macs = None if self.macs_share is None else self.macs_share * original.macs
        limits = (
            ("units", self.units, size.units, "{:.0f} units"),
            ("macs", self.macs or macs, size.macs, "{:,.0f} MACs"),
            ("latency", self.latency_ms, size.latency.median_ms, "{:.3g} ms"),
        )
        for name, limit, value, text in limits:
            if limit is not None and value > limit:
                return f"{name} of {text.format(limit)}: {text.format(value)}"
        return None


@dataclass(frozen=True, kw_only=True)
class CutOptions(DeploymentOptions):
    """How a trained network is cut."""

    data: OwnData = None
    latency_budget: Amount = None
    """Time for one image, such as 2ms: it is measured on the cut network."""
    units: OptionalInt = None
    """So many units stay."""
    macs: Amount = None
    """Multiply-adds per image, such as 50% of the network's or 20M."""
    error_increase: ErrorPoints = None
    """Points of error above the network's; alone, as many units go as that allows."""
    remove: OptionalInts = None
    """Exactly these units go, numbered from 1; not with a budget."""
    first: First = None
    """Only the first K units stay, under a new classifier for the classes of the data, which need not be the network's;
    auto finds K by a probe: the shallowest that may be as good as the best. Within a budget of time or MACs it takes
    the best depth, or units in between where that has fewer errors."""
    out: RunFolder = None
    """Run folder of the cut network."""
    epochs: float = 0.0
    """Fine-tune for so many passes over the training images, and keep the best epoch where it helps; needs --out."""
    lr: RecipeFloat = None
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
    """Norm statistics are estimated on N training images, a stratified sample, and units refitted on 500 of them; kept
    where that helps."""
    seed: int = 0
    """Seed of these samples."""
    threads: Threads = "auto"
    """Threads of the host; auto computes in the number that is fastest here and times passes in one."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """Arithmetic in which units are chosen and weights fine-tuned; auto takes the fastest correct one."""
    batch_size: BatchSize = 100
    skip_broken: SkipBroken = False
    device: Device = "auto"

    def __post_init__(self) -> None:
        check_threads(self.threads)
        check_split(self.split)
        super().__post_init__()
        require_at_least(1, self, "limit", "calibration_images", "batch_size")
        require_at_least(2, self, "statistics_images")
        require_at_least(0, self, "epochs", *(["first"] if self.first != "auto" else []))
        if self.remove == ():
            raise UserError("--remove is empty: name at least one unit, numbered from 1")
        if self.epochs and self.out is None:
            raise UserError(f"--epochs {self.epochs:g} needs --out RUN, a folder for the fine-tuned network")
        if not self.epochs:
            refuse_without_use(self, ("lr", "flip"), "without --epochs: nothing is fine-tuned")
        refuse_both(self.budget, self.remove or (), self.first)
        if self.first is not None:
            if self.first != "auto" or not self.budget.sized:
                refuse_without_use(self, ("statistics_images",), "with --first: norms read what they did")
                if not self.epochs:
                    refuse_without_use(self, ("precision",), "with --first and without --epochs: no unit is chosen")
            if self.split == "train":
                raise UserError("--split train is not allowed with --first: the new classifier is fitted to its images")
        elif self.out is not None and not (self.budget.given or self.remove):
            which = "it says which of the cut networks is meant"
            raise UserError(f"--out {self.out} needs a budget, --remove or --first: {which}")

    @property
    def budget(self) -> CutBudget:
        """The budgets as numbers."""
        return CutBudget.of(self.latency_budget, self.units, self.macs, self.error_increase)


def refuse_both(budget: CutBudget, remove: Sequence[int], first: Literal["auto"] | int | None) -> None:
    """Refuse more than one of units that go, first units that stay, and a budget, which chooses them.

    Raises:
        UserError: Two are given; a budget of anything but units may choose how many are the first.
    """
    named = [name for name in budget.given if first != "auto" or name == "units"]
    limits = ", ".join(name.removesuffix("_ms").removesuffix("_share").replace("_", "-") for name in named)
    given = [f"first {first}"] * (first is not None) + [f"remove {listed(remove)}"] * bool(remove)
    given += [f"a budget ({limits})"] * bool(limits)
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} contradict each other: give one")


def listed(numbers: Sequence[int]) -> str:
    """Return numbers as a text, the first few of many."""
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return " ".join(map(str, numbers[:SHOWN])) + more
