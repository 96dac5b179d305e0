"""Hand-made records of every kind, and the charts that are drawn of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from howdeep.analysis.effects import Baseline, Effect
from howdeep.analysis.evaluation import Answers, Bin, ClassResult, Evaluation
from howdeep.analysis.lesion import Lesion, Summary, Trial, UnitEffect
from howdeep.analysis.paths import Effective, Paths, Sampled
from howdeep.analysis.probe import Depth, Fitted, Probe, ProbeTest, changes, chosen_of, compared, lowest_of
from howdeep.analysis.signals import Flow, UnitFlow
from howdeep.costs.cost import Cost, DepthCost, Ladder
from howdeep.costs.counting import Counts
from howdeep.costs.predicting import Costs
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut, Removal, Size
from howdeep.cutting.records import Point as CutPoint
from howdeep.runtime.timing import Timing
from howdeep.search.answer import Candidate, Verdict
from howdeep.search.candidates import CandidateCosts
from howdeep.search.degradation import Degradation, FamilyResult
from howdeep.search.diagnosis import Diagnosis, Estimate, Point
from howdeep.search.fit import FinalError, Fit
from howdeep.search.options import Budgets
from howdeep.search.study import RoundResult
from howdeep.show import figures
from howdeep.show.figures.depth import DepthPoint
from howdeep.show.figures.drawing import Chart
from howdeep.training.log import Curves, Epoch

BASELINE = Baseline(n=200, error_percent=6.0, standard_error=1.7, wrong=(5, 7), totals=(100, 100))


def effect(change: float) -> Effect:
    return Effect(
        error_percent=6.0 + change,
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


def fit() -> Fit:
    candidates = tuple(
        Candidate(
            CandidateCosts("resnet", depth, f"cifar_resnet{depth}", 1, 1, timing(0.1 * depth), 0.1, 9.0, False),
            tuple(RoundResult(at, int(at), 10 * at, error + 1, error, 0.5, Answers("i", "")) for at, error in rounds),
            False,
        )
        for depth, rounds in ((8, ((1.0, 30.0),)), (20, ((1.0, 25.0), (4.0, 12.0))))
    )
    return Fit(
        network="cifar_resnet20",
        family="resnet",
        depth=20,
        run="run",
        validation_error_percent=12.0,
        validation_standard_error=2.0,
        validation_images=200,
        test=FinalError(13.0, 2.0, 200),
        latency=timing(2.0),
        epochs=4.0,
        spent_seconds=60.0,
        budgets=Budgets(60.0),
        verdict=Verdict((8, 20), "train", "", ""),
        candidates=candidates,
        dropped=(),
        precision="fp32",
        notes=(),
    )


def size(units: int) -> Size:
    return Size(units=units, parameters=units, macs=units, latency=timing(float(units)))


def cut() -> Cut:
    points = [
        CutPoint(
            out=out,
            size=size(9 - out),
            cut=effect(9.0 * out),
            recalibrated=effect(3.0 * out),
            refitted=effect(4.0 * out),
            kept="recalibrated",
        )
        for out in (1, 2, 4)
    ]
    return Cut(
        budget=CutBudget(latency_ms=7.5, error_increase=10.0),
        original=size(9),
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
        test=ProbeTest(n=400, error_percent=10.0, end_error_percent=9.0, change=changes([(12, 8)], 400)[0]),
    )


def evaluation() -> Evaluation:
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
    return Curves(network="cifar_resnet20", data="digits", units=9, epochs=tuple(lines), test=evaluation())


def binomial(units: int) -> dict[int, int]:
    return {length: math.comb(units, length) for length in range(units + 1)}


DEPTHS = [DepthPoint("plain", 20, 8.8, 8.2, 9.4), DepthPoint("plain", 56, 14.0, 13.3, 14.7)]

CHARTS: dict[str, Callable[[], Chart]] = {
    "by_depth": lambda: figures.by_depth(DEPTHS, "plain networks fail", "95 % intervals"),
    "confusion": lambda: figures.confusion(evaluation()),
    "confusion_matrix_many": lambda: figures.confusion_matrix(*confusions(40), "forty classes"),
    "costs": lambda: figures.costs(Cost(ladders=(costs(),))),
    "curves": lambda: figures.curves(curves()),
    "curves_stochastic": lambda: figures.curves(curves(opened=6.0)),
    "degradation": lambda: figures.degradation(degradation()),
    "evaluation": lambda: figures.evaluation(evaluation()),
    "fit": lambda: figures.fit(fit()),
    "flow": lambda: figures.flow(flow()),
    "frontier": lambda: figures.frontier(cut()),
    "lesion_delete": lambda: figures.lesion(NINE),
    "lesion_duplicate": lambda: figures.lesion(by_unit([0.0, 3.0, None], "duplicate")),
    "lesion_pairs": lambda: figures.lesion(by_trial("pairs")),
    "lesion_permute": lambda: figures.lesion(by_trial("permute")),
    "lesion_random": lambda: figures.lesion(by_trial("random")),
    "path_lengths": lambda: figures.path_lengths(binomial(2), binomial(3)),
    "paths": lambda: figures.paths(paths_of(4)),
    "paths_sampled": lambda: figures.paths(paths_of(4, exact=False)),
    "probe": lambda: figures.probe(probe()),
    "reliability": lambda: figures.reliability(evaluation()),
    "strip": lambda: figures.strip(NINE),
    "study_of_paths": lambda: figures.study_of_paths(paths_of(3)),
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
