"""The exact gradient by path length against one ordinary backward pass, and what it keeps."""

import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from common import alternate, ratio, report, rounds_option, row, spread
from howdeep.analysis.gradients import Stream, exact_gradients, forward
from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.networks import build
from howdeep.runtime.device import peak_bytes, reset_peak, used_bytes
from howdeep.util.seeds import generator
from subjects import first_images, public

BATCH, CPU = 100, torch.device("cpu")


def ordinary(chain: Chain, batch: Batch) -> Callable[[], float]:
    """Return what runs a forward and a backward pass as training does, and returns the seconds of the second."""

    def run() -> float:
        chain.zero_grad()
        loss = F.cross_entropy(chain(batch.images), batch.labels, reduction="sum")
        started = time.perf_counter()
        loss.backward()
        return time.perf_counter() - started

    return run


def bound(stream: Stream, units: int) -> int:
    """Return the bytes of the formula: the stream at every module, two rows of gradients, ten maps of one unit."""
    maps = [x.numel() * x.element_size() for x in stream.inputs]
    return sum(maps) + 2 * (units + 1) * max(maps) + 10 * max(maps)


def measure(name: str, chain: Chain, batch: Batch, rounds: int, bar: float) -> tuple[list, dict]:
    """Return the rows of one network and their details."""
    folded = prepared(chain, batch.images, precision="fp32", device=CPU).chain
    run = ordinary(chain.to(memory_format=torch.channels_last), batch)  # type: ignore[call-overload]
    seconds: dict[str, list[float]] = {"ordinary": [], "exact": []}
    stream = forward(folded, batch)
    for round_ in range(rounds + 1):
        backward = run()
        exact = alternate({"exact": lambda: exact_gradients(stream)}, rounds=1, warmup=0)["exact"][0]
        if round_:
            seconds["ordinary"].append(backward)
            seconds["exact"].append(exact)
    before = used_bytes(CPU) or 0
    reset_peak(CPU)
    exact_gradients(stream)
    own = sum(x.numel() * x.element_size() for x in stream.inputs)
    kept, allowed = (peak_bytes(CPU) or 0) - before + own, bound(stream, len(chain))
    times = ratio(seconds, "exact", "ordinary")
    size, memory = f"{len(chain)} units, n = {BATCH}", f"{kept / 1e6:.0f} of {allowed / 1e6:.0f} MB"
    rows = [
        row(f"{name}: exact / ordinary backward pass", times, f"≤ {bar}", times <= bar, note=size),
        row(f"{name}: memory / formula", kept / allowed, "≤ 1", kept <= allowed, note=memory),
    ]
    return rows, {key: spread(values) for key, values in seconds.items()}


def main() -> None:
    rounds, target = rounds_option(5), public("cifar_resnet56")
    batch = first_images(target, batch_size=BATCH)[0]
    stream = generator(0, "benchmark")
    deeper = build("cifar_preresnet110").train()
    with torch.no_grad():
        deeper(torch.randn(64, 3, 32, 32, generator=stream))  # running statistics of a fresh network
    networks = {"cifar_resnet56": (target.chain, 12), "cifar_preresnet110": (deeper.eval(), 25)}
    rows, details = [], {}
    for name, (chain, bar) in networks.items():
        more, details[name] = measure(name, chain.eval(), batch, rounds, bar)
        rows += more
    report("paths", rows, seconds=details)


if __name__ == "__main__":
    main()
