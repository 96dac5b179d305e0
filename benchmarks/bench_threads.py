"""cifar_resnet20 on CIFAR-10, beside one busy process and on a quiet machine: do the chosen threads train fast?"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from common import SHARED, Row, report, rounds_option, row
from howdeep.data import Dataset
from howdeep.runtime.process import StopRequest
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import threads_of
from howdeep.training.beginning import prepare
from howdeep.training.config import TrainConfig
from howdeep.training.images import open_training_data
from howdeep.training.log import Log
from howdeep.training.loop import _keep_pace, _one_step, _timed
from howdeep.training.session import Place
from howdeep.util.options import Threads

STEPS = 40
"""Mini-batches a round and side; more than those after which a run notices a busy machine."""
CONFIG = TrainConfig(network="cifar_resnet20", data=str(SHARED / "data" / "cifar10"), device="cpu")
ALONE, BESIDE = "alone", "beside a busy process"


class Side:
    """``howdeep train`` with some threads, some steps at a time: its own choice, watched as a run watches it."""

    def __init__(self, config: TrainConfig, folder: Path, dataset: Dataset) -> None:
        self.session = prepare(config, folder, Place(Ranks(), torch.device("cpu"), print), dataset)
        self.journal = Log(self.session.run, Console(), total=1, logger="none", on=True)
        self.batches = _timed(self.session.feed.training(0, self.session.total))

    def images_per_second(self, steps: int) -> float:
        """Train for some steps and return the rate, with whatever watching takes."""
        images, started = 0, time.perf_counter()
        with threads_of(self.session.pace.threads):
            for _ in range(steps):
                batch, waited = next(self.batches)
                after = _one_step(self.session, batch, waited, self.journal, StopRequest())
                _keep_pace(self.session, self.journal, after.stalls, epoch_ended=False)
                images += batch.total
        return images / (time.perf_counter() - started)


@contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy meanwhile."""
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        spinning.kill()
        spinning.wait()


def rates(given: Threads, rounds: int, folder: Path, dataset: Dataset) -> tuple[list[tuple[float, float]], list[int]]:
    """Return images per second with the chosen and with given threads, round by round, and the threads chosen."""
    chosen = Side(CONFIG, folder / "chosen", dataset)
    arithmetic = chosen.session.arithmetic
    same = replace(CONFIG, precision=arithmetic.precision, memory_format=arithmetic.memory_format, threads=given)
    fixed = Side(same, folder / "given", dataset)
    for side in (chosen, fixed):
        side.images_per_second(5)
    pairs, threads = [], []
    for _ in range(rounds):
        threads.append(chosen.session.pace.threads)
        pairs.append((chosen.images_per_second(STEPS), fixed.images_per_second(STEPS)))
    return pairs, threads


def compared(what: str, pairs: list[tuple[float, float]], threads: list[int], given: int, bar: float) -> Row:
    """Return the ratio of the two rates, median and quartiles over the rounds, beside its bar."""
    first, median, third = statistics.quantiles([chosen / fixed for chosen, fixed in pairs], n=4)
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    note = (
        f"quartiles {first:.3g} to {third:.3g}, {len(pairs)} rounds; {mine:.0f} against {theirs:.0f} images/s;"
        f" chosen: {', '.join(map(str, sorted(set(threads))))}, given: {given}"
    )
    return row(f"{what}: chosen threads / {given}", median, f"≥ {bar:g}", median >= bar, note=note)


def main() -> None:
    rounds, own, dataset = rounds_option(7), torch.get_num_threads(), open_training_data(CONFIG)
    rows, found = [], {}
    for what, given, bar, load in ((ALONE, own, 0.97, nullcontext), (BESIDE, 1, 0.8, busy)):
        with tempfile.TemporaryDirectory() as folder, load():
            found[what], threads = rates(given, rounds, Path(folder), dataset)
        rows.append(compared(what, found[what], threads, given, bar))
    report("threads", rows, images_per_second=found)


if __name__ == "__main__":
    main()
