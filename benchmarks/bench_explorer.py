"""The interactive page: how long one changed unit takes, from the request to the error and to the charts.

Of photos, a network of ImageNet's size takes seconds: there it counts when the numbers of the first ones are told, and
whether all of them take longer than what must be computed, which is the network behind the unit.
"""

import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from common import SHARED, Row, alternate, ratio, report, rounds_option, row, spread
from howdeep.data import open_data
from howdeep.explorer.engine import ActivationCache, Engine
from howdeep.explorer.options import ExploreOptions
from howdeep.explorer.serve import open_engine
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import fresh_target, open_data_for
from howdeep.runtime.timing import threads_of
from subjects import CIFAR10, MEAN, STD, public, weights

NETWORK, IMAGES, BAR_MS = "cifar_resnet56", 256, 300
LARGE, PHOTOS, FIRST_MS = "torchvision:resnet50", 64, 1000


@contextmanager
def served(images: int = IMAGES) -> Iterator[str]:
    """Yield the address of the page of the public network."""
    constants = ["--mean", *map(str, MEAN), "--std", *map(str, STD)]
    network = [NETWORK, "--weights", str(weights(NETWORK)), *constants]
    with serving([*network, "--data", str(CIFAR10), "--images", str(images)]) as address:
        yield address


@contextmanager
def serving(options: list[str]) -> Iterator[str]:
    """Yield the address of a page that is served as a user does."""
    command = [sys.executable, "-m", "howdeep", "explore", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
    finally:
        process.terminate()
        process.wait()


def asked(address: str, gates: list[float | None]) -> tuple[float, float]:
    """Return the milliseconds until the numbers of a state were there, and until its charts were."""
    body = {"tab": "benchmark", "gates": gates, "order": list(range(len(gates)))}
    headers = {"Content-Type": "application/json"}
    started, numbers = time.perf_counter(), 0.0
    with urllib.request.urlopen(
        urllib.request.Request(f"{address}api/answer", json.dumps(body).encode(), headers)
    ) as lines:
        for line in lines:
            if not numbers and "answer" in json.loads(line):
                numbers = time.perf_counter() - started
    return 1000 * numbers, 1000 * (time.perf_counter() - started)


def one_unit_changed(address: str, rounds: int) -> list[list[tuple[float, float]]]:
    """Return the times of every unit, closed in the whole network; in between all are open again."""
    with urllib.request.urlopen(f"{address}api/network") as answer:
        own = [unit["own"] for unit in json.load(answer)["units"]]
    asked(address, own)
    times: list[list[tuple[float, float]]] = [[] for _ in own]
    for _ in range(rounds):
        for unit in range(len(own)):
            times[unit].append(asked(address, [None if index == unit else gate for index, gate in enumerate(own)]))
            asked(address, own)
    return times


def every_unit(engine: Engine) -> None:
    """Close every unit in turn."""
    for unit in range(len(engine.own.gates)):
        gates = tuple(None if index == unit else gate for index, gate in enumerate(engine.own.gates))
        engine.answer(replace(engine.own, gates=gates), (), None, lambda done, of, more=None: None)


def anew(engine: Engine) -> Engine:
    """Return the same that keeps no maps."""
    kept = engine.cache
    found = replace(engine, cache=ActivationCache(kept.chain, kept.chunks, autocast=kept.autocast, limit=0))
    assert torch.isfinite(found.before[0].logits).all()
    return found


def photos() -> Engine:
    """Return a large network with initial weights, on photos of 224 pixels: what it takes is that of trained ones."""
    data = str(SHARED / "data" / "trash")
    target = fresh_target(TargetOptions(target=LARGE), data, seed=0, skip_broken=False)
    dataset = open_data_for(target, data, skip_broken=False, splits=["val"])
    return open_engine(target, dataset, ExploreOptions(images=PHOTOS))


def one_photo_unit(engine: Engine, unit: int) -> dict[str, float]:
    """Return when the first numbers and all of them are there, and what must be computed for them, by its MACs.

    The unit is out; before and afterwards the network is as it is.
    """
    gates = tuple(None if index == unit else gate for index, gate in enumerate(engine.own.gates))
    started, told = time.perf_counter(), []

    def advance(done: int, of: int, more: dict | None = None) -> None:
        told.extend([(time.perf_counter() - started, more["answer"]["n"])] if more else [])

    engine.answer(replace(engine.own, gates=gates), (), None, advance)
    whole = time.perf_counter() - started
    told.append((whole, PHOTOS))
    behind = sum(cost.macs for cost in engine.costs.units[unit + 1 :]) / engine.costs.macs
    return {"first_ms": 1000 * told[0][0], "first_images": told[0][1], "all_ms": 1000 * whole, "behind": behind}


def photo_rows(rounds: int) -> tuple[list[Row], list[dict[str, float]]]:
    """Return the rows of a large network, and the median times of its units."""
    engine = photos()
    with threads_of(engine.threads):
        started = time.perf_counter()
        assert len(engine.before)
        whole = time.perf_counter() - started
        turns = [[one_photo_unit(engine, unit) for unit in range(len(engine.chain))] for _ in range(rounds)]
    names = turns[0][0]
    units = [
        {name: statistics.median(one[name] for one in unit) for name in names} for unit in zip(*turns, strict=True)
    ]
    slowest = max(units, key=lambda unit: unit["first_ms"])
    deepest = max(units, key=lambda unit: unit["all_ms"])
    must = 1000 * whole * deepest["behind"]
    return [
        row(
            f"{LARGE}: the first numbers after one unit changed, the slowest unit",
            slowest["first_ms"],
            f"≤ {FIRST_MS}",
            slowest["first_ms"] <= FIRST_MS,
            unit="ms",
            note=f"{slowest['first_images']:.0f} of {PHOTOS} images; {engine.precision}, {engine.threads} threads",
        ),
        row(
            f"the same on all {PHOTOS} images / the units behind it, at the whole network's speed",
            deepest["all_ms"] / must,
            "≤ 1.25",
            deepest["all_ms"] <= 1.25 * must,
            note=f"{deepest['all_ms']:.0f} ms; the whole network takes {1000 * whole:.0f} ms",
        ),
    ], units


def main() -> None:
    rounds = rounds_option(5)
    with served() as address:
        times = one_unit_changed(address, rounds)
    numbers = [statistics.median(one for one, _ in unit) for unit in times]
    charts = [statistics.median(other for _, other in unit) for unit in times]
    slowest = max(range(len(numbers)), key=numbers.__getitem__)
    engine = open_engine(public(NETWORK), open_data(str(CIFAR10)), ExploreOptions(images=IMAGES))
    sides = {"maps kept": engine, "all anew": anew(engine)}
    seconds = alternate({name: lambda side=side: every_unit(side) for name, side in sides.items()}, rounds=rounds)
    rows = [
        row(
            "error shown after one unit changed, the slowest unit",
            numbers[slowest],
            f"≤ {BAR_MS}",
            numbers[slowest] <= BAR_MS,
            unit="ms",
            note=f"unit {slowest + 1} of {len(numbers)}, median of {rounds}; {IMAGES} images, through the socket",
        ),
        row(
            "the same, the median unit",
            statistics.median(numbers),
            f"≤ {BAR_MS}",
            statistics.median(numbers) <= BAR_MS,
            unit="ms",
        ),
        row("charts drawn as well, the slowest unit", max(charts), f"≤ {BAR_MS}", max(charts) <= BAR_MS, unit="ms"),
        row(
            "all units in turn, maps kept / all computed anew",
            ratio(seconds, "maps kept", "all anew"),
            "< 1",
            ratio(seconds, "maps kept", "all anew") < 1,
            note=engine.precision,
        ),
    ]
    pairs = enumerate(zip(numbers, charts, strict=True), 1)
    every = [{"unit": unit, "numbers_ms": one, "charts_ms": other} for unit, (one, other) in pairs]
    more, large = photo_rows(rounds)
    rows += more
    report("explorer", rows, units=every, large=large, seconds={name: spread(found) for name, found in seconds.items()})


if __name__ == "__main__":
    main()
