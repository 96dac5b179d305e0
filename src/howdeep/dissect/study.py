"""A trained network and a split, made ready for a dissection; and the record of one, with where it comes from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from howdeep import device as devices
from howdeep.chain import Chain
from howdeep.data.sampling import sampled
from howdeep.device import true_fp32
from howdeep.dissect.subject import SplitBatches, prepared
from howdeep.dissect.work import Work
from howdeep.errors import UserError
from howdeep.inference import required_normalization
from howdeep.keys import work_key
from howdeep.locks import file_locked
from howdeep.records import tagged, to_json
from howdeep.runs import provenance
from howdeep.stopwatch import threads_of
from howdeep.survival import Survival
from howdeep.targets import Target, open_data_for
from howdeep.threads import Threads, check_threads
from howdeep.training.distributed import joined
from howdeep.training.step import Arithmetic

TYPES = {"fp64": torch.float64}


@dataclass(frozen=True)
class Study:
    """Everything that an analysis needs."""

    chain: Chain
    """The network on its device, norms folded."""
    rule: Survival | None
    """The rule for its gates in training, where that is known."""
    batches: SplitBatches
    """The images of the split."""
    autocast: torch.autocast
    """The precision."""
    work: Work
    """Where progress is shown and kept."""
    say: Callable[[str], None]
    """Receives remarks: on the first process, they are printed."""
    origin: dict
    """What the record carries beside its numbers."""

    def record(self, found: Any) -> dict:
        """Return what was found, with where it comes from, as plain data."""
        return tagged(type(found).__name__.lower(), {**to_json(found), **self.origin})


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """How a study is made."""

    data: str
    """What DATA is on the command line."""
    split: str = "test"
    """``train``, ``val`` or ``test``."""
    limit: int | None = None
    """Only so many images, a stratified sample."""
    seed: int = 0
    """By which it is drawn."""
    device: str = "auto"
    """Where."""
    precision: str = "fp32"
    """``fp32``, ``fp64``, ``bf16`` or ``auto``."""
    batch_size: int = 100
    """Images at a time."""
    skip_broken: bool = False
    """Leave broken images out."""
    fold: bool = True
    """Fold norms into the convolutions before them where the scores stay the same to rounding."""
    threads: Threads = "auto"
    """Threads of the host; ``auto`` takes the number in which passes are fastest."""
    place: Path | None = None
    """File beside which finished batches are kept."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name in ("limit", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} {value} is not allowed: it must be at least 1")


@contextmanager
def open_study(target: Target, options: StudyOptions, *, asked: dict, say: Callable[[str], None]) -> Iterator[Study]:
    """Yield a study, alone or as one of several processes.

    Args:
        target: The network.
        options: How.
        asked: What is measured, which the numbers depend on as well.
        say: Receives remarks, on the first process.

    Raises:
        UserError: The data does not fit the network, it is not known how pixels are normalised, or another process
            measures into the same file.
    """
    where = devices.pick(options.device)
    with joined(where) as ranks, ranks.held_by_first(lambda: file_locked(options.place)):
        say = say if ranks.first else lambda line: None
        dataset = open_data_for(target, options.data, skip_broken=options.skip_broken, splits=[options.split], say=say)
        split, which = sampled(dataset, options.split, options.limit, options.seed)
        batches = SplitBatches(
            split, required_normalization(target), options.batch_size, where,
            TYPES.get(options.precision, torch.float32),
        )  # fmt: skip
        devices.require_precision(options.precision, where)
        key = work_key(options, where, target=target, splits=[split], asked=asked)
        work = Work(ranks, options.place, key)
        kept = {name: work.kept(name) for name in ("precision", "threads")}
        found = prepared(
            target.chain, batches[0].images, precision=options.precision, fold=options.fold, device=where,
            threads=kept["threads"] or options.threads,  # type: ignore[arg-type]
        )  # fmt: skip
        chosen = {"precision": kept["precision"] or found.precision, "threads": found.threads}
        chosen = ranks.from_first(chosen)
        assert isinstance(chosen, dict)
        precision, threads = chosen["precision"], chosen["threads"]
        if which is not None:
            say(str(which))
        if options.precision == "auto":
            say(f"precision: {precision}, the fastest that is correct here")
        if options.threads == "auto" and threads != torch.get_num_threads():
            say(f"threads: {threads}, the fastest here; bits repeat per number of threads")
        for note in found.notes:
            say(note)
        work = Work(ranks, options.place, {**key, **chosen})
        autocast = Arithmetic(precision, "channels_last").autocast(where)
        origin = {
            "target": target.name, "data": options.data, "split": options.split, "precision": precision,
            "notes": (*dataset.notes, *found.notes), "sample": which and to_json(which),
        }  # fmt: skip
        with threads_of(threads), true_fp32():
            yield Study(found.chain, target.rule, batches, autocast, work, say, {**origin, **provenance(where)})
