"""Records of every kind and run folders made by hand, and the charts of the records: every number is known."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from howdeep.analysis.choice import changes, chosen_of, compared, lowest_of
from howdeep.analysis.depths import Depth, Fitted, Probe, ProbeTest
from howdeep.analysis.effects import Baseline, Effect
from howdeep.analysis.evaluation import Answers, Bin, ClassResult, Evaluation, standard_error_percent
from howdeep.analysis.lesion import Lesion, Summary, Trial, UnitEffect
from howdeep.analysis.paths import Effective, Paths, Sampled
from howdeep.analysis.signals import Flow, UnitFlow
from howdeep.costs.cost import Cost, DepthCost, Ladder
from howdeep.costs.counting import Counts
from howdeep.costs.predicting import Costs
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut, Removal, Size, Test
from howdeep.cutting.records import Point as CutPoint
from howdeep.networks import spec_of, spec_to_json
from howdeep.runtime.precision import FP32
from howdeep.runtime.timing import Timing
from howdeep.search.answer import Candidate, FinalError, Verdict
from howdeep.search.candidates import CandidateCosts, Dropped
from howdeep.search.degradation import Degradation, FamilyResult
from howdeep.search.diagnosis import Diagnosis, Estimate, Point
from howdeep.search.fit import Fit
from howdeep.search.options import Budgets
from howdeep.search.study import RoundResult
from howdeep.search.transfer import Missed, Other, Probed, Training, Transfer
from howdeep.search.transfer import Verdict as TransferVerdict
from howdeep.show import figures
from howdeep.show.figures.depth import DepthPoint
from howdeep.show.figures.drawing import Chart
from howdeep.training.log import Curves, Epoch
from howdeep.util.records import tagged, to_json

BASELINE = Baseline(n=200, error_percent=6.0, standard_error=1.7, wrong=(5, 7), totals=(100, 100))


def effect(change: float, error: float = 6.0) -> Effect:
    """Return what a change of so many points does."""
    return Effect(
        error_percent=error + change,
        standard_error=1.5,
        change=change,
        change_low=change - 1,
        change_high=change + 1,
        wrong=(6, 6),
        score_change=0.1,
        not_finite=0,
    )


def by_unit(changes: list[float | None], kind: str = "delete") -> Lesion:
    """Return a study of one unit at a time; None is a unit that cannot be taken out."""
    units = [
        UnitEffect(
            index=index,
            name=f"stages.0.{index}",
            removable=change is not None,
            **({} if change is None else vars(effect(change))),
        )
        for index, change in enumerate(changes, 1)
    ]
    return Lesion(kind=kind, baseline=BASELINE, units=tuple(units))


NINE = by_unit([None, 40.0, -0.5, 0.0, 1.5, 8.0, 0.2, -2.0, 0.0])


def by_trial(kind: str) -> Lesion:
    """Return a study of two draws of one and two units, or of two pairs."""
    if kind == "pairs":
        pairs = [((1, 2), 4.0), ((1, 3), -1.0), ((2, 3), 30.0)]
        trials = [Trial(k=2, draw=0, units=units, kendall_tau=None, effect=effect(change)) for units, change in pairs]
        return Lesion(kind=kind, baseline=BASELINE, trials=tuple(trials))
    taus = {1: (0.8, 0.9), 2: (0.6, 0.4)} if kind == "permute" else {1: (None, None), 2: (None, None)}
    trials = [
        Trial(k=k, draw=draw, units=(1, 2), kendall_tau=tau, effect=effect(10.0 * k + draw))
        for k, pair in taus.items()
        for draw, tau in enumerate(pair)
    ]
    by_k = [Summary(k=k, draws=2, error_percent=6.5 + 10.0 * k, standard_error=0.5) for k in taus]
    return Lesion(kind=kind, baseline=BASELINE, trials=tuple(trials), by_k=tuple(by_k))


def paths_of(units: int, *, exact: bool = True) -> Paths:
    """Return paths whose gradient shrinks to 30 % with every branch."""
    counts = [math.comb(units, length) for length in range(units + 1)]
    sampled = [
        Sampled(
            length=length,
            mean=0.3**length,
            standard_error=None,
            draws=1,
            log10_product=math.log10(count) + length * math.log10(0.3),
        )
        for length, count in enumerate(counts)
    ]
    inside = Effective(lengths=(0, 1), share=0.96, path_fraction=(1 + units) / 2**units)
    norms = tuple(count * 0.3**length for length, count in enumerate(counts))
    return Paths(
        units=units,
        lengths=tuple(range(units + 1)),
        path_count=tuple(map(str, counts)),
        n=10,
        gradient_norm=norms if exact else None,
        ordinary_norm=1.0,
        sampled=tuple(sampled),
        effective=inside if exact else None,
        effective_by_sample=None if exact else inside,
        sum_check_relative_error=None,
        seed=0,
    )


def flow(gradient: float = 1.0) -> Flow:
    units = [
        UnitFlow(
            index=index,
            name=f"unit {index}",
            stream_std=1.0 + 0.1 * index,
            shortcut_std=1.0,
            branch_std=0.2,
            ratio=0.2,
            input_gradient=gradient / index,
            weight_gradient=None,
        )
        for index in (1, 2, 3)
    ]
    return Flow(units=tuple(units), n=10, statistics="running", loss=1.0)


def estimate(mean: float) -> Estimate:
    return Estimate((mean,), mean, 1.0, mean - 2, mean + 2)


def degradation() -> Degradation:
    says = Diagnosis(kind="saturates", at=8, best=8, enough=8, evidence="")
    families = [
        FamilyResult(
            family=name,
            width=1,
            label=label,
            diagnosis=says,
            points=tuple(
                Point(depth, estimate(error - 1), estimate(error), estimate(1.0), 0) for depth, error in errors.items()
            ),
        )
        for name, label, errors in (("plain", "plain", {8: 10.0, 56: 60.0}), ("resnet", "residual", {8: 9.0, 56: 7.0}))
    ]
    return Degradation(data="digits", equal="epochs", seeds=(0,), families=tuple(families), runs=())


COUNTS = Counts(units=3, parameters=1, macs=1, flops=2, training_macs=3, expected_training_macs=3.0, parts=())


def costs() -> Ladder:
    depths = []
    for depth, fitted in ((8, True), (20, True), (56, False)):
        measured, predicted = (Costs(depth * by, depth, depth * by, 1e6 * depth, None) for by in (0.1, 0.11))
        depths.append(
            DepthCost(
                f"cifar_resnet{depth}",
                depth,
                COUNTS,
                fitted,
                None,
                measured,
                predicted,
                Costs(10.0, 0.0, 10.0, 0.0, None),
                None,
            )
        )
    return Ladder(
        title="resnet",
        size=32,
        batch_size=128,
        threads=1,
        precision="fp32",
        memory_format="contiguous",
        survival="constant",
        rounds=3,
        depths=tuple(depths),
        fitted_on=("cifar_resnet8", "cifar_resnet20"),
        fit_error_percent=None,
        one_more=COUNTS,
        one_more_costs=None,
    )


def timing(median: float) -> Timing:
    return Timing(median, (0.9 * median, 1.1 * median), 20)


def candidate_costs(depth: int, width: int = 1, family: str = "resnet") -> CandidateCosts:
    """Costs in proportion to the layers and the square of the width."""
    name = f"cifar_{family}{depth}" + (f"_w{width}" if width > 1 else "")
    size = depth * width**2
    return CandidateCosts(
        *(family, depth, width, name, 1_000 * size, 10**6 * size, timing(0.1 * size), 0.01 * size, False, 10.0, False),
        FP32,
    )


def fit() -> Fit:
    places = {(8, 1): ((1.0, 30.0),), (20, 1): ((1.0, 27.0),), (8, 2): ((1.0, 25.0), (2.0, 14.0))}
    candidates = tuple(
        Candidate(
            candidate_costs(*place),
            tuple(RoundResult(at, int(at), 10 * at, error + 1, error, 0.5, Answers("i", "")) for at, error in rounds),
            False,
        )
        for place, rounds in places.items()
    )
    return Fit(
        network="cifar_resnet8_w2",
        family="resnet",
        depth=8,
        width=2,
        run="run",
        validation_error_percent=12.0,
        validation_standard_error=2.0,
        validation_images=200,
        test=FinalError(13.0, 2.0, 200),
        latency=timing(2.0),
        final=RoundResult(4.0, 4, 40.0, 13.0, 12.0, 0.5, Answers("i", "")),
        spent_seconds=60.0,
        budgets=Budgets(60.0, latency_seconds=0.004),
        verdict=Verdict(("cifar_resnet20",), "train", "", "", "with 3 min: wider (cifar_resnet8_w4)"),
        candidates=candidates,
        dropped=(Dropped("resnet", 56, 1, "cifar_resnet56", "latency", "5.60 ms", 0.0056),),
        precision="fp32",
        notes=(),
    )


def depth(units: int, error: float, ms: float, *, whole: bool = False, wrong: str = "") -> Depth:
    fitted = Fitted(
        features=4,
        error_percent=error,
        low=error - 1,
        high=error + 1,
        loss=1.0,
        strength=1.0,
        answers=Answers("i", wrong),
    )
    return Depth(
        units=units,
        name=f"unit {units}",
        whole=whole,
        fitted=fitted,
        head="kept" if whole else "pooled",
        neighbour_error_percent=error + 2,
        to_best=None,
        to_end=None,
        latency=timing(ms),
        macs=1000 * (units + 1),
        parameters=100 * (units + 1),
    )


def probed(network: str, size: int, depths: tuple[Depth, ...], n: int = 200) -> Probed:
    """Return a network at some depths, the last of which is the whole."""
    errors = [one.fitted.error_percent for one in depths]
    best = errors.index(min(errors))
    found = Probe(
        n=n,
        train_images=400,
        classes=4,
        units=depths[-1].units,
        depths=depths,
        best=best,
        chosen=best,
        budget_ms=None,
        threads=1,
    )
    return Probed(network=network, size=size, probe=found, seconds=9.0)


def transfer() -> Transfer:
    networks = tuple(
        probed(
            "timm:tf_efficientnet_lite0",
            size,
            (depth(0, 40.0, 0.01 * size), depth(1, 20.0, 0.03 * size), depth(2, 22.0, 0.04 * size, whole=True)),
        )
        for size in (96, 128)
    )
    chosen = networks[1].start(networks[1].probe.depths[1])
    whole = networks[1].start(networks[1].probe.end)
    training = Training(
        start=chosen,
        run="run",
        seed=1,
        steps=150,
        epochs=4.0,
        seconds=30.0,
        before_percent=20.0,
        kept_epoch=3.0,
        train_error_percent=5.0,
        validation_error_percent=12.0,
        validation_images=200,
    )
    return Transfer(
        chosen=chosen,
        run="run",
        validation_error_percent=12.0,
        validation_images=200,
        test=FinalError(13.0, 2.4, 200),
        latency=timing(3.8),
        parameters=200,
        macs=2000,
        spent_seconds=60.0,
        budgets=Budgets(60.0, latency_seconds=0.004),
        verdict=TransferVerdict("train", "4 epochs brought much", "training time limits you"),
        guessing_percent=75.0,
        probed=networks,
        dropped=(Missed(network="timm:a", size=224, budget="latency", reason="its stem alone takes 9 ms", needed=9.0),),
        finalists=(chosen, whole),
        trainings=(
            *(
                replace(training, start=start, seed=seed, run=f"short{seed}", validation_error_percent=error)
                for start, seed, error in ((whole, 0, 13.0), (whole, 1, 15.0), (chosen, 0, 14.0), (chosen, 1, 12.5))
            ),
            training,
        ),
        others=(Other(what=f"{whole.text}, a classifier alone", latency=timing(5.1), test=FinalError(23.0, 3.0, 200)),),
        notes=(),
    )


def frontier() -> Cut:
    points = [
        CutPoint(
            out=out,
            size=size(9 - out, 9.0 - out),
            cut=effect(9.0 * out),
            recalibrated=effect(3.0 * out),
            refitted=effect(4.0 * out),
            kept="recalibrated",
        )
        for out in (1, 2, 4)
    ]
    return Cut(
        budget=CutBudget(latency_ms=7.5, error_increase=10.0),
        original=size(9, 9.0),
        baseline=BASELINE,
        order=tuple(Removal(index=index, name=f"unit {index}", distance=None) for index in (3, 5, 7, 8)),
        points=tuple(points),
        chosen=2,
        calibration_images=100,
        statistics_images=100,
        refitting_images=100,
        threads=1,
        tuned=effect(1.0),
    )


def fitted(error: float, n: int = 200) -> Fitted:
    """Return a classifier that gets the first images wrong."""
    wrong = torch.arange(n) < round(error * n / 100)
    return Fitted(
        features=64,
        error_percent=error,
        low=max(0.0, error - 3),
        high=error + 4,
        loss=0.5,
        strength=10.0,
        answers=Answers.of("these", wrong),
    )


def probe(errors: Sequence[float] = (40.0, 20.0, 9.0, 8.0, 9.5), *, budget: float | None = None) -> Probe:
    """Return errors of the stem, of all units and of the whole network; behind two units the head may follow."""
    last, n = len(errors) - 1, 200
    depths = compared(
        [
            Depth(
                units=min(at, last - 1),
                name="stem" if at == 0 else "end" if at == last else f"stages.0.{at - 1}",
                whole=at == last,
                head="kept" if at == last else "pooled",
                fitted=fitted(error),
                neighbour_error_percent=min(100.0, error + 10),
                to_best=None,
                to_end=None,
                latency=Timing(1.0 + at, (0.9 + at, 1.2 + at), 20),
                macs=1_000_000 * (1 + at),
                parameters=1_000 * (1 + at),
            )
            for at, error in enumerate(errors)
        ],
        n,
    )
    by_head = replace(depths[2], head="kept", fitted=fitted(errors[2] + 2), latency=Timing(3.5, (3.4, 3.6), 20))
    depths = compared([*depths[:3], by_head, *depths[3:]], n)
    return Probe(
        n=n,
        train_images=1_000,
        classes=6,
        units=last - 1,
        depths=depths,
        best=lowest_of(depths),
        chosen=chosen_of(depths, budget),
        budget_ms=budget,
        threads=1,
        test=ProbeTest(
            n=400,
            error_percent=10.0,
            end_error_percent=9.0,
            end_neighbour_error_percent=14.0,
            change=changes([(12, 8)], 400)[0],
        ),
    )


def ten_answers() -> Evaluation:
    """Return 10 images of two classes, of which 2 of 6 and 1 of 4 are wrong; two bins, one too sure of itself."""
    calibration = (
        Bin(low=0.0, high=0.5, n=0, confidence_percent=None, accuracy_percent=None),
        Bin(low=0.5, high=0.8, n=4, confidence_percent=70.0, accuracy_percent=75.0),
        Bin(low=0.8, high=1.0, n=6, confidence_percent=90.0, accuracy_percent=100 * 4 / 6),
    )
    return Evaluation(
        n=10,
        error_percent=30.0,
        standard_error=14.5,
        loss=0.7,
        calibration_error_percent=16.0,
        classes=(ClassResult("cat", 6, 100 * 2 / 6), ClassResult("dog", 4, 25.0)),
        confusion=((4, 2), (1, 3)),
        images_per_second=100.0,
        bins=calibration,
    )


def confusions(classes: int) -> tuple[list[str], list[list[int]]]:
    """Return names and counts of classes of which each is taken for the next one as often as its number says."""
    counts = [[0] * classes for _ in range(classes)]
    for true in range(classes):
        counts[true][true] = 50
        counts[true][(true + 1) % classes] += true
    return [f"class {number}" for number in range(classes)], counts


def curves(*, opened: float = 9.0, epochs: int = 3, validated: bool = True) -> Curves:
    lines = [
        Epoch(
            epoch=float(epoch),
            train_loss=1.5 / epoch,
            train_error_percent=60.0 / epoch,
            validation_loss=None,
            validation_error_percent=50.0 / epoch + 20.0 * (epoch == 3) if validated else None,
            lr=0.1 / epoch,
            open_units=opened,
        )
        for epoch in range(1, epochs + 1)
    ]
    return Curves(network="cifar_resnet20", data="digits", units=9, epochs=tuple(lines), test=ten_answers())


def binomial(units: int) -> dict[int, int]:
    return {length: math.comb(units, length) for length in range(units + 1)}


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
    where = {"name": data, "source": data, "classes": classes, "channels": 1, "height": 8, "width": 8}
    where |= {"resize": "crop", "notes": []}
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
            Trial(k=k, draw=number // 10, units=tuple(chosen), kendall_tau=tau, effect=effect(draw.uniform(0, 30), 5.0))
        )
    by_k = (
        ()
        if kind == "pairs"
        else tuple(Summary(k=k, draws=count // 10, error_percent=5.0 + k, standard_error=0.5) for k in range(1, 11))
    )
    return Lesion(kind=kind, baseline=baseline(), trials=tuple(found), by_k=by_k)


def many_paths(units: int) -> Paths:
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


def flow_of(units: int) -> Flow:
    """Return signal and gradient of so many units."""
    each = (
        UnitFlow(index, f"unit {index}", 1.0 + index, 1.0, 0.1, 0.1, 1.0 / index, 0.01) for index in range(1, units + 1)
    )
    return Flow(tuple(each), 10, "running", 0.5)


def size(units: int, ms: float) -> Size:
    """Return what a network of so many units costs."""
    return Size(units=units, parameters=1000 * units, macs=10_000 * units, latency=timing(ms))


def cut(units: int, out: int, change: float = 0.5, error: float = 5.0, n: int = 100) -> Cut:
    """Return a cut of so many units that halves the latency."""
    point = CutPoint(
        out=out,
        size=size(units - out, 1.0),
        cut=effect(change + 2, 5.0),
        recalibrated=effect(change, 5.0),
        refitted=effect(change + 1, 5.0),
        kept="recalibrated",
    )
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
    written(run / "paths.json", "paths", many_paths(units))
    written(run / "flow.json", "flow", flow_of(units))
    written(run / "cut.json", "cut", cut(units, units // 3))
    return run


DEPTHS = [DepthPoint("plain", 20, 8.8, 8.2, 9.4), DepthPoint("plain", 56, 14.0, 13.3, 14.7)]

CHARTS: dict[str, Callable[[], Chart]] = {
    "by_depth": lambda: figures.by_depth(DEPTHS, "plain networks fail", "95 % intervals"),
    "confusion": lambda: figures.confusion(ten_answers()),
    "confusion_matrix_many": lambda: figures.confusion_matrix(*confusions(40), "forty classes"),
    "costs": lambda: figures.costs(Cost(ladders=(costs(),))),
    "curves": lambda: figures.curves(curves()),
    "curves_stochastic": lambda: figures.curves(curves(opened=6.0)),
    "degradation": lambda: figures.degradation(degradation()),
    "evaluation": lambda: figures.evaluation(ten_answers()),
    "fit": lambda: figures.fit(fit()),
    "flow": lambda: figures.flow(flow()),
    "frontier": lambda: figures.frontier(frontier()),
    "lesion_delete": lambda: figures.lesion(NINE),
    "lesion_duplicate": lambda: figures.lesion(by_unit([0.0, 3.0, None], "duplicate")),
    "lesion_pairs": lambda: figures.lesion(by_trial("pairs")),
    "lesion_permute": lambda: figures.lesion(by_trial("permute")),
    "lesion_random": lambda: figures.lesion(by_trial("random")),
    "overlaid": lambda: figures.overlaid([("one", curves()), ("two", curves(epochs=2, validated=False))]),
    "path_lengths": lambda: figures.path_lengths(binomial(2), binomial(3)),
    "paths": lambda: figures.paths(paths_of(4)),
    "paths_sampled": lambda: figures.paths(paths_of(4, exact=False)),
    "probe": lambda: figures.probe(probe()),
    "reliability": lambda: figures.reliability(ten_answers()),
    "strip": lambda: figures.strip(NINE),
    "study_of_paths": lambda: figures.study_of_paths(paths_of(3)),
    "transfer": lambda: figures.transfer(transfer()),
    "unravelled": lambda: figures.unravelled(paths_of(3)),
}
"""Every figure, old and new, by the name of its golden specification."""


@cache
def chart(name: str) -> Chart:
    """Return a figure, drawn up once for all tests."""
    return CHARTS[name]()


@cache
def spec(name: str) -> dict[str, Any]:
    """Return its specification, which Altair has checked against the schema."""
    return chart(name).to_dict()
