"""cifar_resnet20 on CIFAR-10, end to end: this package's defaults, a plain script, and the machine's own limit."""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from common import SHARED, product_rate, report, rounds_option, row
from howdeep.networks import spec_of
from howdeep.networks.counting import describe
from howdeep.runtime.process import StopRequest
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import threads_of
from howdeep.training.beginning import prepare
from howdeep.training.config import TrainConfig
from howdeep.training.log import Log
from howdeep.training.loop import _one_step, _timed
from howdeep.training.session import Place
from peers import PlainScript

STEPS = 60
"""Mini-batches a round and side."""


class Defaults:
    """``howdeep train cifar_resnet20 --data cifar10``: its own session, data and step, some steps at a time."""

    def __init__(self, folder: Path) -> None:
        config = TrainConfig(network="cifar_resnet20", data=str(SHARED / "data" / "cifar10"))
        self.session = prepare(config, folder / "run", Place(Ranks(), torch.device("cpu"), print))
        self.journal = Log(self.session.run, Console(quiet=True), total=1, logger="none", on=True)
        self.batches = _timed(self.session.feed.training(0, self.session.total))

    def images_per_second(self, steps: int) -> float:
        """Train for some steps and return the rate."""
        images, started = 0, time.perf_counter()
        with threads_of(self.session.pace.threads):
            for _ in range(steps):
                batch, waited = next(self.batches)
                _one_step(self.session, batch, waited, self.journal, StopRequest())
                images += batch.total
        return images / (time.perf_counter() - started)


def main() -> None:
    rounds = rounds_option(5)
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Defaults(Path(folder)), PlainScript(SHARED / "data" / "cifar10" / "train.parquet", 128)
        for side in (ours, plain):
            side.images_per_second(5)
        pairs, rates = [], []
        for _ in range(rounds):
            pairs.append((ours.images_per_second(STEPS), plain.images_per_second(STEPS)))
            rates.append(product_rate())
        tally, arithmetic = ours.session.position.tally, ours.session.arithmetic
    speedup = statistics.median(fast / slow for fast, slow in pairs)
    flops = 3 * 2 * describe(spec_of("cifar_resnet20")).macs
    share = statistics.median(100 * flops * fast / rate for (fast, _), rate in zip(pairs, rates, strict=True))
    waiting = 100 * tally.waiting / tally.seconds
    rate, peer = (statistics.median(values) for values in zip(*pairs, strict=True))
    rows = [
        row(
            "howdeep / plain script, images per second",
            speedup,
            "≥ 2.0",
            speedup >= 2.0,
            note=f"{rate:.0f} against {peer:.0f}; {arithmetic.precision}, {arithmetic.memory_format}",
        ),
        row(
            "share of the bf16 matrix-product rate",
            share,
            "≥ 40 %",
            share >= 40,
            unit="%",
            note=f"{flops / 1e6:.0f} MFLOP an image and step; product {statistics.median(rates) / 1e9:.0f} GFLOP/s",
        ),
        row("waiting for data", waiting, "≤ 3 %", waiting <= 3, unit="%"),
    ]
    report("training", rows, images_per_second=pairs, product_rate=rates)


if __name__ == "__main__":
    main()
