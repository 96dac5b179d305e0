"""What a dissection works on: a trained network on a device, and the images of a split, batch by batch."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from howdeep.analysis.options import StudyOptions
from howdeep.chain import Chain
from howdeep.data import Batch, Normalization, Split, evaluation_batches
from howdeep.data.loaders import Batches
from howdeep.data.sampling import sampled, shuffled
from howdeep.runs.folder import provenance
from howdeep.runs.resume import Journal, options_key, work_key
from howdeep.runs.target import Target, data_of, open_data_for, required_normalization
from howdeep.runtime import device as devices
from howdeep.runtime.precision import (
    FP32,
    Arithmetic,
    arithmetics,
    best_of,
    measure,
    place,
    require_precision,
    true_fp32,
)
from howdeep.runtime.ranks import joined
from howdeep.runtime.timing import fastest_threads, threads_of
from howdeep.survival import Survival
from howdeep.transform.folding import fold_norms
from howdeep.util.errors import UserError
from howdeep.util.files import file_locked
from howdeep.util.options import SPLIT_NAMES, Threads
from howdeep.util.records import tagged, to_json
from howdeep.util.text import Report

FOLD_TOLERANCE = 1e-4
"""Largest ‖folded logits − logits‖ / ‖logits‖ that counts as rounding."""
CHECKED = 8
"""Images by which that is measured."""
NOT_FOLDED = "norms are not folded"
"""How a note begins that says so."""


@dataclass(frozen=True)
class SplitBatches(Batches):
    """The images of a split in its order; every batch can be had alone, and again.

    The last one is held: who needs a batch several times in a row decodes it once.
    """

    split: Split
    normalization: Normalization
    batch_size: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    """Type of the images."""
    _held: dict[int, Batch] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.split)

    def shuffled(self, seed: int) -> "SplitBatches":
        """Return the same images in an order by seed, for statistics of batches (see `data.sampling.shuffled`)."""
        return replace(self, split=shuffled(self.split, seed))

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def at(self, index: int) -> Batch:
        """Return one of them, counted from 0."""
        if index in self._held:
            return self._held[index]
        self._held.clear()  # before the next one is made, so that there are never two
        first = index * self.batch_size
        positions = torch.arange(first, min(first + self.batch_size, self.images))
        batches = evaluation_batches(
            self.split.take(positions),
            normalization=self.normalization,
            batch_size=len(positions),
            device=self.device,
            channels_last=True,
        )
        (batch,) = batches
        self._held[index] = Batch(batch.images.to(self.dtype), batch.labels, batch.total)
        return self._held[index]


@dataclass(frozen=True)
class Prepared:
    """A network for many passes in evaluation mode, and how it is run."""

    chain: Chain
    """The network on its device, norms folded where that changes nothing but roundings."""
    precision: str
    """``fp32``, ``fp64`` or ``bf16``."""
    threads: int
    """Threads of the host."""
    notes: tuple[str, ...]
    """What a reader should know: that norms were not folded."""


def prepared(
    chain: Chain,
    images: Tensor,
    *,
    precision: str,
    device: torch.device,
    fold: bool = True,
    threads: Threads | None = None,
) -> Prepared:
    """Return a copy of a network for many passes, and how it is run.

    Args:
        chain: The network.
        images: A few, on the device.
        precision: ``fp32``, ``fp64``, ``bf16``, or ``auto``: the fastest of fp32 and bf16 whose logits are correct.
        device: Where.
        fold: Fold norms into the convolutions before them where the logits stay the same to rounding.
        threads: A number, ``auto`` for the one in which passes are fastest, None for torch's present one.
    """
    whole = place(copy.deepcopy(chain).eval(), Arithmetic("fp32", "channels_last"), device)
    if precision == "fp64":
        whole = whole.double()
    count = torch.get_num_threads() if threads is None else fastest_threads(whole, lambda: images, threads, device)
    with torch.no_grad(), true_fp32(), threads_of(count):
        folded, notes = whole, ()
        if fold:
            few = images[:CHECKED]
            expected = whole(few)
            if not bool(expected.isfinite().all()):
                raise UserError("the network returns logits that are not finite: weights or data are broken")
            folded = fold_norms(whole)
            difference = float((folded(few) - expected).norm() / expected.norm().clamp_min(1e-30))
            if not difference <= FOLD_TOLERANCE:
                folded, notes = whole, (f"{NOT_FOLDED}: logits would change by {difference:.1e} of their size",)
    if precision == "auto":
        with torch.no_grad():
            candidates = arithmetics("auto", "channels_last", device)
            trials = measure(_Passes(folded, images), candidates, threads=[count], all_of_them=True)
        precision = best_of(trials).precision
    return Prepared(folded, precision, count, notes)


@dataclass(frozen=True)
class _Passes:
    """Passes of a network in evaluation mode, to be timed in every precision."""

    chain: Chain
    images: Tensor

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def share(self) -> float:
        return 1.0

    def logits(self, arithmetic: Arithmetic) -> Tensor:
        with arithmetic.autocast(self.device):
            return self.chain(self.images).float()

    def step(self, arithmetic: Arithmetic) -> Callable[[], object]:
        return partial(self.logits, arithmetic)

    def short_step(self) -> Callable[[], object]:
        return self.step(FP32)


@dataclass(frozen=True)
class Study:
    """Everything that an analysis needs."""

    chain: Chain
    """The network on its device, norms folded."""
    rule: Survival | None
    """The rule for its gates in training, where that is known."""
    batches: SplitBatches
    """The images of the split."""
    further: Mapping[str, SplitBatches]
    """Those of further splits, as far as the data has them."""
    classes: tuple[str, ...]
    """Names of the classes of the data."""
    autocast: torch.autocast
    """The precision."""
    journal: Journal
    """Where progress is shown and kept."""
    report: Report
    """Receives lines for the user: on the first process, they are printed."""
    origin: dict
    """What the record carries beside its numbers."""

    def record(self, result: Any) -> dict:
        """Return what was measured, with where it comes from, as plain data."""
        return tagged(type(result).__name__.lower(), {**to_json(result), **self.origin})


@contextmanager
def open_study(
    target: Target,
    options: StudyOptions,
    *,
    asked: dict,
    precision: str = "fp32",
    fold: bool = True,
    further: Sequence[str] = (),
    same_classes: bool = True,
    place: Path | None = None,
    report: Report,
) -> Iterator[Study]:
    """Yield a study, alone or as one of several processes.

    Args:
        target: The network.
        options: On which images.
        asked: What is measured, which the numbers depend on as well.
        precision: ``fp32``, ``fp64``, ``bf16`` or ``auto``.
        fold: Fold norms into the convolutions before them where the logits stay the same to rounding.
        further: Splits whose images are used as well, where the data has them.
        same_classes: The classes of the data must be those of the network (see `runs.target.open_data_for`).
        place: File beside which finished batches are kept.
        report: Receives lines for the user, on the first process.

    Raises:
        UserError: The data does not fit the network, it is not known how pixels are normalised, or another process
            measures into the same file.
    """
    device, data = devices.pick(options.device), data_of(target, options.data)
    with joined(device) as ranks, ranks.held_by_first(lambda: file_locked(place)):
        report = report if ranks.first else lambda line: None
        dataset = open_data_for(
            target,
            data,
            skip_broken=options.skip_broken,
            splits=[options.split, *further],
            same_classes=same_classes,
            report=report,
        )
        there = [options.split, *(name for name in further if getattr(dataset, SPLIT_NAMES[name]) is not None)]
        drawn = {name: sampled(dataset, name, options.limit, options.seed) for name in there}
        dtype = torch.float64 if precision == "fp64" else torch.float32
        every = {
            name: SplitBatches(split, required_normalization(target), options.batch_size, device, dtype)
            for name, (split, _) in drawn.items()
        }
        batches = every.pop(options.split)
        require_precision(precision, device)
        how = {"--precision": precision, "--fold": fold}
        splits = [split for split, _ in drawn.values()]
        key = work_key({**options_key(options, StudyOptions), **how, **asked}, device, target=target, splits=splits)
        journal = Journal.open(place, key, ranks)
        threads = journal.steps.get("threads", options.threads)
        images = batches[0].images
        ready = prepared(target.chain, images, precision=precision, fold=fold, device=device, threads=threads)
        chosen = journal.result("precision", lambda: ready.precision)
        threads = journal.result("threads", lambda: ready.threads)
        for _, sample in drawn.values():
            if sample is not None:
                report(str(sample))
        if precision == "auto":
            report(f"precision: {chosen}, the fastest that is correct here")
        if options.threads == "auto" and threads != torch.get_num_threads():
            report(f"threads: {threads}, the fastest here; bits repeat per number of threads")
        for note in ready.notes:
            report(note)
        autocast = Arithmetic(chosen, "channels_last").autocast(device)
        _, sample = drawn[options.split]
        origin = {
            "target": target.name,
            "data": data,
            "split": options.split,
            "precision": chosen,
            "notes": (*dataset.notes, *ready.notes),
            "sample": sample and to_json(sample),
        }
        with threads_of(threads), true_fp32():
            yield Study(
                chain=ready.chain,
                rule=target.rule,
                batches=batches,
                further=every,
                classes=dataset.classes,
                autocast=autocast,
                journal=journal,
                report=report,
                origin={**origin, **provenance(device)},
            )
