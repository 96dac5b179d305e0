"""How a trained network is cut, and the images that this is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor

from howdeep.analysis.inference import required_normalization
from howdeep.analysis.study import SplitBatches
from howdeep.cutting.cut import refuse_both
from howdeep.cutting.frontier import Images
from howdeep.cutting.records import CutBudget
from howdeep.data import Dataset, Split, held
from howdeep.data.augmentation import Flip
from howdeep.data.sampling import Sampled, sample, sampled
from howdeep.runs.target import Target
from howdeep.runtime.threads import Threads, check_threads
from howdeep.runtime.timing import THREADS
from howdeep.util.errors import UserError

STATISTICS_BATCH = 500
"""Images whose statistics are taken at a time."""


@dataclass(frozen=True, kw_only=True)
class CutOptions:
    """How a trained network is cut."""

    data: str
    """What DATA is on the command line."""
    budget: CutBudget = field(default_factory=CutBudget)
    """What the cut network may cost."""
    remove: tuple[int, ...] = ()
    """Numbers, from 1, of the units to take out, whatever that costs; not with a budget."""
    out: Path | None = None
    """Run folder of the cut network."""
    epochs: float = 0.0
    """Passes of fine-tuning."""
    lr: float = 0.02
    """Its highest learning rate."""
    flip: Flip = "auto"
    """Whether half of its training images are mirrored."""
    split: str = "val"
    """On which errors are measured and units are chosen."""
    limit: int | None = None
    """Errors are measured on so many images of the split."""
    calibration_images: int = 1000
    """Units are chosen on so many images of the split."""
    statistics_images: int = 2000
    """Norm statistics are estimated on so many training images."""
    seed: int = 0
    """By which those images are drawn, stratified by class."""
    threads: Threads = "auto"
    """Threads of the host; ``auto`` computes in the number that is fastest and times passes in one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """In which units are chosen and weights fine-tuned: ``fp32``, ``bf16`` or ``auto``, the fastest correct one."""
    batch_size: int = 100
    """Images at a time."""
    device: str = "auto"
    """Where."""
    skip_broken: bool = False
    """Leave broken images out."""
    place: Path | None = None
    """File beside which finished steps are kept where there is no run folder."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name in ("limit", "calibration_images", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} {value} is not allowed: it must be at least 1")
        if self.statistics_images < 2:
            raise UserError(f"statistics-images {self.statistics_images} is not allowed: it must be at least 2")
        if not self.epochs >= 0:
            raise UserError(f"epochs {self.epochs} is not allowed: it must be at least 0")
        if self.epochs and self.out is None:
            raise UserError(f"--epochs {self.epochs:g} needs --out RUN, a folder for the fine-tuned network")
        refuse_both(self.budget, self.remove)
        if self.out is not None and not (self.budget.given or self.remove):
            raise UserError(f"--out {self.out} needs a budget or --remove: it says which of the cut networks is meant")

    @property
    def timed_threads(self) -> int:
        """Threads of the timed passes."""
        return THREADS if self.threads == "auto" else self.threads


def cut_images(target: Target, options: CutOptions, dataset: Dataset, where: torch.device) -> Images:
    """Return what a cut is measured on, on the device.

    Raises:
        UserError: The data has no such split, or it is not known how pixels are normalised.
    """
    found = {purpose: sampled(dataset, *which, options.seed)[0] for purpose, which in _wanted(options, dataset).items()}
    calibration = split_batches(target, options, found["calibration"], where)
    # The same images are one object, so that they are held, and answered, once.
    same = len(found["calibration"]) == len(found["evaluation"])
    size = min(STATISTICS_BATCH, count := len(found["statistics"]))
    equal = held(sample(found["statistics"], count - count % size, options.seed))
    return Images(
        calibration=calibration,
        evaluation=calibration if same else split_batches(target, options, found["evaluation"], where),
        statistics=_Pixels(SplitBatches(equal, required_normalization(target), size, where)),
    )


def cut_samples(options: CutOptions, dataset: Dataset) -> dict[str, Sampled]:
    """Return which images a cut is measured on, by purpose, where they are not all of a split."""
    found = {purpose: sampled(dataset, *which, options.seed)[1] for purpose, which in _wanted(options, dataset).items()}
    return {purpose: which for purpose, which in found.items() if which is not None}


def _wanted(options: CutOptions, dataset: Dataset) -> dict[str, tuple[str, int | None]]:
    """Return split and number of images for each purpose."""
    return {
        "calibration": (options.split, options.calibration_images),
        "evaluation": (options.split, options.limit),
        "statistics": (options.split if dataset.train is None else "train", options.statistics_images),
    }


def split_batches(target: Target, options: CutOptions, split: Split, where: torch.device) -> SplitBatches:
    """Return the images of a split."""
    return SplitBatches(held(split), required_normalization(target), options.batch_size, where)


@dataclass(frozen=True)
class _Pixels(Sequence[Tensor]):
    """Batches without their labels, read when they are asked for."""

    batches: SplitBatches

    def __len__(self) -> int:
        return len(self.batches)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        found = self.batches[index]
        return [batch.images for batch in found] if isinstance(found, list) else found.images


def test_images(target: Target, options: CutOptions, dataset: Dataset, where: torch.device) -> SplitBatches | None:
    """Return the images of the test split, or None where there is none, or it was chosen on already."""
    if dataset.test is None or options.split == "test":
        return None
    return split_batches(target, options, dataset.test, where)
