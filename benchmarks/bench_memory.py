"""``--checkpointing``: peak memory above weights and optimizer, and the time of a step, each in its own process."""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch

from common import Row, report, row
from howdeep.data import Batch
from howdeep.networks import build
from howdeep.runtime.device import peak_bytes, reset_peak, used_bytes
from howdeep.runtime.precision import Arithmetic, place
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import recipe_of
from howdeep.training.step import engine_of, train_step

CASES = {"cifar_resnet1202": (32, 0.20, 1.4), "cifar_densenet_bc100_k12": (64, 0.50, 1.3)}
"""Network → batch, bar for memory, bar for time."""
ARITHMETIC, DEVICE = Arithmetic("bf16", "channels_last"), torch.device("cpu")


def child(network: str, batch_size: int, checkpointing: str, steps: int) -> dict:
    """Return the peak above weights, gradients and momentum, and the seconds of every step."""
    chain = place(build(network).train(), ARITHMETIC, DEVICE)
    engine = engine_of(chain, checkpointing == "on")
    optimizer = make_optimizer(chain, recipe_of("fast"))
    optimizer.step()
    images = torch.randn(batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, torch.randint(10, (batch_size,)), batch_size)
    before, seconds = used_bytes(DEVICE), []
    reset_peak(DEVICE)
    for _ in range(steps):
        started = time.perf_counter()
        train_step(engine, optimizer, batch, None, lr=1e-3, smoothing=0.0, arithmetic=ARITHMETIC)
        seconds.append(time.perf_counter() - started)
    return {"bytes": (peak_bytes(DEVICE) or 0) - (before or 0), "seconds": seconds[1:]}


def measured(network: str, batch_size: int, checkpointing: str, steps: int) -> dict:
    command = [sys.executable, __file__, "--child", network, str(batch_size), checkpointing, str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(network: str, found: list[dict], memory_bar: float, time_bar: float) -> list[Row]:
    """Return the two lines of a network."""
    space = statistics.median(pair["on"]["bytes"] / pair["off"]["bytes"] for pair in found)
    peaks = [statistics.median(pair[checkpointing]["bytes"] for pair in found) / 1e9 for checkpointing in ("on", "off")]
    times = [[statistics.median(pair[checkpointing]["seconds"]) for pair in found] for checkpointing in ("on", "off")]
    pace = statistics.median(on / off for on, off in zip(*times, strict=True))
    what = f"{network}: {{}}, checkpointing on / off"
    note = f"{peaks[0]:.2f} against {peaks[1]:.2f} GB, batch {CASES[network][0]}, bf16"
    return [
        row(what.format("peak memory"), space, f"≤ {memory_bar}", space <= memory_bar, note=note),
        row(what.format("step time"), pace, f"≤ {time_bar}", pace <= time_bar),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", nargs=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.child:
        network, batch_size, checkpointing, steps = options.child
        print(json.dumps(child(network, int(batch_size), checkpointing, int(steps))))
        return
    rows, details = [], {}
    for network, (batch_size, memory_bar, time_bar) in CASES.items():
        found = [
            {checkpointing: measured(network, batch_size, checkpointing, 4) for checkpointing in ("off", "on")}
            for _ in range(options.rounds)
        ]
        rows += compare(network, found, memory_bar, time_bar)
        details[network] = found
    report("memory", rows, measured=details)


if __name__ == "__main__":
    main()
