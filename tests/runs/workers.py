"""Blocks of work in processes of their own, alone or as ranks, some of which are killed."""

import json
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from tests.oracles import images, small_network
from tests.processes import SECONDS, fork, ranks

from howdeep.analysis.lesion import lesion
from howdeep.analysis.options import LesionOptions, PathsOptions
from howdeep.analysis.paths import paths
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.runs.resume import Journal
from howdeep.runtime.ranks import joined
from howdeep.util.errors import UserError
from howdeep.util.records import to_json

RANDOM = LesionOptions(kind="random", max_k=3, draws=2)
PERMUTE = LesionOptions(kind="permute", max_k=2, draws=2)
KEY = {"network": "a", "data": "b"}
STUDIES: dict[str, Callable[[Journal], object]] = {
    "delete": lambda journal: lesion(*_subject(), journal=journal),
    "random": lambda journal: lesion(*_subject(), RANDOM, journal=journal),
    "permute": lambda journal: lesion(*_subject("resnet A"), PERMUTE, journal=journal),
    "paths": lambda journal: paths(*_subject(), PathsOptions(draws=2), journal=journal),
}


def _subject(family: str = "preresnet") -> tuple[Chain, list[Batch]]:
    batches = [Batch(images(3 + n, seed=n), torch.arange(3 + n), 3 + n) for n in range(5)]
    return small_network(family), batches


def squares(block: int) -> dict:
    """Return a result that no JSON may change."""
    return {"square": block**2, "third": block / 3, "list": [block, 1e-300]}


def killed(place: Path, at: int) -> None:
    """Work on six blocks, and be killed in the middle of one."""

    def compute(block: int) -> dict:
        if block == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return squares(block)

    Journal.open(place, KEY).blocks("squares", 6, compute)


def studied(out: Path) -> None:
    """Write the records of all studies, as one process or one of several."""
    with joined(torch.device("cpu")) as ranks:
        records = {name: to_json(study(Journal(ranks=ranks))) for name, study in STUDIES.items()}
        (out / f"{ranks.world}-{ranks.rank}.json").write_text(json.dumps(records))


def shared(place: Path, log: Path, die: bool) -> None:
    """Work on nine blocks as one of several processes, and be killed in the third of the own ones."""
    with joined(torch.device("cpu")) as ranks:
        own = 0

        def compute(block: int) -> dict:
            nonlocal own
            own += 1
            if die and own == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return squares(block) | {"rank": ranks.rank}

        found = Journal.open(place, KEY, ranks).blocks("squares", 9, compute)
        log.with_suffix(f".{ranks.rank}").write_text(json.dumps(found))


def refused(place: Path, log: Path) -> None:
    """Find the blocks of other work, as one of several processes; write down what was said."""
    with joined(torch.device("cpu")) as ranks:
        try:
            Journal.open(place, {**KEY, "data": "c"}, ranks).blocks("squares", 9, squares)
        except UserError as error:
            log.with_suffix(f".{ranks.rank}").write_text(str(error))


def broken(place: Path, log: Path) -> None:
    """Find a broken image in one block of nine, as one of several processes; write down what was said."""
    with joined(torch.device("cpu")) as ranks:
        try:
            Journal.open(place, KEY, ranks).blocks("squares", 9, broken_at_four)
        except UserError as error:
            log.with_suffix(f".{ranks.rank}").write_text(str(error))


def broken_at_four(block: int) -> dict:
    if block == 4:
        raise UserError("image 4 is broken")
    return squares(block)


def start_ranks(target: Callable, *arguments: object) -> list[BaseProcess]:
    """Start a function in two processes of one group."""
    return [fork(target, *arguments, rank=rank) for rank in ranks(2)]


def finish(*processes: BaseProcess) -> list[int | None]:
    """Return the exit codes; what hangs is killed."""
    for process in processes:
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
    return [process.exitcode for process in processes]
