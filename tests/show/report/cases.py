"""Run folders and records made by hand: no network is trained, and every number is known."""

import json
import random
from pathlib import Path
from typing import Any

from howdeep.analysis.effects import Baseline, Effect
from howdeep.analysis.evaluation import Bin, ClassResult, Evaluation, standard_error_percent
from howdeep.analysis.lesion import Lesion, Summary, Trial, UnitEffect
from howdeep.analysis.paths import Effective, Paths, Sampled
from howdeep.analysis.signals import Flow, UnitFlow
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut, Point, Removal, Size, Test
from howdeep.networks import spec_of, spec_to_json
from howdeep.runtime.timing import Timing
from howdeep.util.records import tagged, to_json

BINS = (Bin(low=0.0, high=1.0, n=9, confidence_percent=90.0, accuracy_percent=80.0),)
VERSIONS = {"howdeep": "0.1.0", "torch": "2.10"}


def written(place: Path, kind: str, record: Any, **origin: Any) -> Path:
    """Write a record as a command would."""
    told = {"command": f"howdeep {kind} run --data digits", "versions": VERSIONS, "target": "run", **origin}
    place.write_text(json.dumps(tagged(kind, {**to_json(record), **told})))
    return place


def run_folder(
    place: Path,
    network: str = "cifar_resnet20",
    *,
    wrong: int | None = 5,
    n: int = 100,
    seconds: float = 12.0,
    errors: tuple[tuple[float, float | None], ...] = ((50.0, 40.0), (1.0, 6.0)),
    survival: str = "constant",
    classes: tuple[str, ...] = ("0", "1"),
    data: str = "digits",
    removed: tuple[int, ...] = (),
) -> Path:
    """Write a run folder: errors are (training, validation) in percent by epoch; wrong None was not tested yet."""
    place.mkdir(parents=True)
    spec = spec_of(network, classes=len(classes), channels=1)
    where = {"name": data, "source": data, "classes": classes, "channels": 1, "height": 8, "width": 8, "notes": []}
    record = {
        "command": f"howdeep train {network} --data {data} --out {place.name}",
        "versions": VERSIONS,
        "device": {"type": "cpu", "name": "a machine", "threads": 1},
        "network": spec_to_json(spec),
        "survival": {"schedule": survival, "last": 1.0, "mode": "batch"},
        "data": where,
        "normalization": None,
    }
    record |= {"removed": removed} if removed else {}
    (place / "run.json").write_text(json.dumps(record))
    lines = [epoch(number, train, validation) for number, (train, validation) in enumerate(errors, 1)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if wrong is not None:
        result = {"test": to_json(evaluation(wrong, n, classes)), "seconds": seconds, "steps": 9}
        (place / "result.json").write_text(json.dumps(result))
    return place


def epoch(number: int, train: float, validation: float | None, units: int = 9) -> dict:
    """Return one line of the metrics."""
    return {
        "event": "epoch",
        "step": number,
        "epoch": float(number),
        "train_loss": 1.0,
        "train_error_percent": train,
        "validation_loss": 1.0,
        "validation_error_percent": validation,
        "lr": 0.1,
        "images_per_second": 9.0,
        "waiting_percent": 0.0,
        "open_units": float(units),
        "units": units,
        "seconds": float(number),
    }


def evaluation(wrong: int, n: int, classes: tuple[str, ...] = ("0", "1")) -> Evaluation:
    """Return an evaluation in which all wrong answers are images of the first class, taken for the second."""
    confusion = [[0] * len(classes) for _ in classes]
    each = n // len(classes)
    for place in range(len(classes)):
        confusion[place][place] = each
    confusion[0][0], confusion[0][1] = n - each * (len(classes) - 1) - wrong, wrong
    totals = [sum(row) for row in confusion]
    results = tuple(
        ClassResult(name, total, 100 * wrong / total if place == 0 else 0.0)
        for place, (name, total) in enumerate(zip(classes, totals, strict=True))
    )
    return Evaluation(
        n=n,
        error_percent=100 * wrong / n,
        standard_error=standard_error_percent(wrong / n, n),
        loss=0.5,
        calibration_error_percent=2.0,
        classes=results,
        confusion=tuple(map(tuple, confusion)),
        images_per_second=10.0,
        bins=(Bin(low=0.0, high=1.0, n=n, confidence_percent=90.0, accuracy_percent=100 - 100 * wrong / n),),
    )


def baseline(error: float = 5.0, n: int = 100) -> Baseline:
    """Return an intact network."""
    return Baseline(
        n=n, error_percent=error, standard_error=1.0, wrong=(round(error * n / 100), 0), totals=(n // 2, n // 2)
    )


def effect(change: float, error: float = 5.0) -> Effect:
    """Return what a change of so many points does."""
    return Effect(
        error_percent=error + change,
        standard_error=1.0,
        change=change,
        change_low=change - 1,
        change_high=change + 1,
        wrong=(1, 1),
        score_change=0.1,
        not_finite=0,
    )


def lesion(changes: tuple[float, ...], kind: str = "delete", error: float = 5.0) -> Lesion:
    """Return a lesion study of every unit."""
    units = tuple(
        UnitEffect(index=index, name=f"unit {index}", removable=True, **to_json(effect(change, error)))
        for index, change in enumerate(changes, 1)
    )
    return Lesion(kind=kind, baseline=baseline(error), units=units)


def trials(kind: str, units: int, count: int) -> Lesion:
    """Return a lesion study of random sets, orders or pairs."""
    draw = random.Random(0)
    found = []
    for number in range(count):
        k = 2 if kind == "pairs" else min(units, 1 + number % 10)
        chosen = sorted(draw.sample(range(1, units + 1), units if kind == "permute" else k))
        tau = draw.uniform(0.5, 1) if kind == "permute" else None
        found.append(
            Trial(k=k, draw=number // 10, units=tuple(chosen), kendall_tau=tau, effect=effect(draw.uniform(0, 30)))
        )
    by_k = (
        ()
        if kind == "pairs"
        else tuple(Summary(k=k, draws=count // 10, error_percent=5.0 + k, standard_error=0.5) for k in range(1, 11))
    )
    return Lesion(kind=kind, baseline=baseline(), trials=tuple(found), by_k=by_k)


def paths(units: int) -> Paths:
    """Return the paths of a chain of so many units, with counts of any size."""
    lengths, count, counts = tuple(range(units + 1)), 1, []
    for length in lengths:
        counts.append(count)
        count = count * (units - length) // (length + 1)
    few = Effective(lengths=(0, 1, 2), share=0.96, path_fraction=1e-9)
    sampled = tuple(
        Sampled(length=k, mean=10.0 ** (-k / 4), standard_error=None, draws=1, log10_product=float(-k)) for k in lengths
    )
    return Paths(
        units=units,
        lengths=lengths,
        path_count=tuple(map(str, counts)),
        n=10,
        gradient_norm=tuple(2.0**-k for k in lengths),
        ordinary_norm=1.0,
        sampled=sampled,
        effective=few,
        effective_by_sample=few,
        sum_check_relative_error=1e-6,
        seed=0,
    )


def flow(units: int) -> Flow:
    """Return signal and gradient of so many units."""
    each = (
        UnitFlow(index, f"unit {index}", 1.0 + index, 1.0, 0.1, 0.1, 1.0 / index, 0.01) for index in range(1, units + 1)
    )
    return Flow(tuple(each), 10, "running", 0.5)


def size(units: int, ms: float) -> Size:
    """Return what a network of so many units costs."""
    timing = Timing(ms, (ms, ms), 5)
    return Size(units=units, parameters=1000 * units, macs=10_000 * units, latency=timing)


def cut(units: int, out: int, change: float = 0.5, error: float = 5.0, n: int = 100) -> Cut:
    """Return a cut of so many units that halves the latency."""
    effects = {"cut": effect(change + 2), "recalibrated": effect(change), "refitted": effect(change + 1)}
    point = Point(out=out, size=size(units - out, 1.0), kept="recalibrated", **effects)
    order = tuple(Removal(index=index, name=f"unit {index}", distance=0.1) for index in range(1, out + 1))
    return Cut(
        budget=CutBudget(units=units - out),
        original=size(units, 2.0),
        baseline=baseline(error, n),
        order=order,
        points=(point,),
        chosen=out,
        calibration_images=10,
        statistics_images=10,
        refitting_images=10,
        threads=1,
        test=Test(original=baseline(error, n), cut=effect(change, error)),
    )


def large_run(place: Path, units: int = 600, classes: int = 100) -> Path:
    """Write a run of many units and classes with every kind of record that grows with them."""
    names = tuple(f"class number {number}" for number in range(classes))
    run = run_folder(
        place,
        f"cifar_resnet{2 * units + 2}",
        wrong=30,
        n=10_000,
        classes=names,
        survival="linear",
        errors=tuple((90 * 0.98**number, 90 * 0.99**number) for number in range(200)),
    )
    draw = random.Random(1)
    counts = tuple(tuple(draw.randrange(60) for _ in names) for _ in names)
    total, right = sum(map(sum, counts)), sum(counts[place][place] for place in range(classes))
    every = tuple(ClassResult(name, sum(row), 90.0) for name, row in zip(names, counts, strict=True))
    full = Evaluation(total, 100 * (1 - right / total), 0.1, 4.0, 3.0, every, counts, 10.0, BINS)
    written(run / "evaluation.json", "evaluation", full, data="digits", split="test")
    written(run / "lesion.json", "lesion", lesion(tuple(draw.gauss(0.5, 1) for _ in range(units))))
    for kind, count in (("random", 100), ("permute", 100), ("pairs", 3_000)):
        written(run / f"{kind}.json", "lesion", trials(kind, units, count))
    written(run / "paths.json", "paths", paths(units))
    written(run / "flow.json", "flow", flow(units))
    written(run / "cut.json", "cut", cut(units, units // 3))
    return run
