"""What a record says, in one sentence that is computed from it: for titles of charts, terminals and reports."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

from howdeep.util.intervals import of_share
from howdeep.util.text import counted, listed, minus, number, share_text

if TYPE_CHECKING:
    from howdeep.analysis.depths import Depth, Probe, ProbeTest
    from howdeep.analysis.evaluation import Evaluation
    from howdeep.analysis.lesion import Lesion, UnitEffect
    from howdeep.analysis.paths import Paths
    from howdeep.analysis.signals import Flow
    from howdeep.costs.cost import Cost, Ladder
    from howdeep.costs.scaling import Paper
    from howdeep.cutting.records import Cut, Point
    from howdeep.exporting.export import Export
    from howdeep.runtime.timing import Timing
    from howdeep.search.degradation import Degradation
    from howdeep.search.fit import Fit
    from howdeep.search.transfer import Transfer
    from howdeep.training.log import Curves


def lesion_finding(lesion: Lesion) -> str:
    """Return the sentence of a lesion study."""
    if lesion.units:
        done = "deleting" if lesion.kind == "delete" else "running twice"
        changes = {unit.index: unit.change or 0.0 for unit in measured(lesion)}
        worst = sorted(changes, key=changes.__getitem__)[-1]
        return (
            f"{done} one of {len(lesion.units)} units costs {_points(statistics.median(changes.values()))} points of"
            f" error in the median, {_points(changes[worst])} at worst (unit {worst})"
        )
    if lesion.by_k:
        last = lesion.by_k[-1]
        done = f"{counted(last.k, 'unit')} out" if lesion.kind == "random" else counted(last.k, "swap")
        before, after = f"{lesion.baseline.error_percent:.1f}", f"{last.error_percent:.1f}"
        if before == after:
            return f"error stays at {after} % with {done}"
        verb = "grows" if last.error_percent > lesion.baseline.error_percent else "falls"
        return f"error {verb} from {before} to {after} % with {done}"
    errors = [trial.effect.error_percent for trial in lesion.trials]
    middle = statistics.median(errors)
    pairs = counted(len(errors), "pair")
    return f"two units out: {middle:.1f} % error in the median of {pairs}, {max(errors):.1f} % at worst"


def measured(lesion: Lesion) -> list[UnitEffect]:
    """Return the units for which there is a number."""
    return [unit for unit in lesion.units if unit.error_percent is not None]


def _points(change: float) -> str:
    """Return a change in points, with no minus before zero."""
    return minus(f"{change:z.1f}")


def paths_finding(paths: Paths) -> str:
    """Return the sentence of a path study."""
    by = paths.effective or paths.effective_by_sample
    if by is None:
        return f"{len(paths.sampled)} lengths of paths were sampled, too few for shares of the gradient"
    sampled = paths.effective is None and len(paths.sampled) < len(paths.lengths)
    between = f" (between {len(paths.sampled)} sampled lengths interpolated)" if sampled else ""
    lengths = f"{min(by.lengths)} to {max(by.lengths)}" if len(by.lengths) > 1 else str(min(by.lengths))
    return (
        f"95 % of the gradient takes paths through {lengths} of {paths.units} branches:"
        f" {share_text(by.path_fraction)} of all paths{between}"
    )


def flow_finding(flow: Flow) -> str:
    """Return the sentence of signal and gradient."""
    first, last = flow.units[0].input_gradient, flow.units[-1].input_gradient
    ratios = [unit.ratio for unit in flow.units if unit.ratio is not None]
    middle = f"; a branch adds {100 * statistics.median(ratios):.0f} % of its shortcut in the median" if ratios else ""
    if not last or not first:
        return f"no gradient arrives at unit {len(flow.units) if not last else 1}{middle}"
    factor = first / last
    change = f"grows {factor:.3g}-fold" if factor >= 1 else f"shrinks to {share_text(factor)}"
    return f"from the last unit to the first the gradient {change}{middle}"


def error_text(percent: float, n: int | None, split: str = "") -> str:
    """Return an error with its interval and the images behind it: 2.8 % error (95 % interval 1.2–6.4, n = 179).

    Args:
        percent: The error.
        n: Images; without them there is no interval.
        split: ``test`` or ``validation``; empty where another word says it.
    """
    error = " ".join(word for word in (f"{percent:.1f} %", split, "error") if word)
    if n is None:
        return error
    low, high = of_share(percent, n)
    return f"{error} (95 % interval {low:.1f}–{high:.1f}, n = {n:,})"


def evaluation_finding(evaluation: Evaluation) -> str:
    """Return the sentence of an evaluation: the error, and the class that has most of it."""
    classes = [(one.error_percent, one.name) for one in evaluation.classes if one.error_percent]
    worst = f"; the worst class is {max(classes)[1]} with {max(classes)[0]:.1f} %" if classes else ""
    views = f", the mean of {evaluation.views} views" if evaluation.views > 1 else ""
    return error_text(evaluation.error_percent, evaluation.n) + views + worst


def confusion_finding(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return the sentence of a confusion matrix; row = true class, column = given class."""
    pairs = confusions(counts)
    if not pairs:
        return "no image is taken for another class"
    count, true, given = pairs[0]
    of = f"{count:,} of {sum(counts[true]):,} images"
    return f"the most frequent mistake: {classes[true]} taken for {classes[given]}, {of}"


def confusions(counts: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Return count, true and given class of all confusions, the most frequent first."""
    pairs = [(count, true, given) for true, row in enumerate(counts) for given, count in enumerate(row)]
    wrong = [(count, true, given) for count, true, given in pairs if true != given and count]
    return sorted(wrong, key=lambda pair: (-pair[0], pair[1:]))


def reliability_finding(evaluation: Evaluation) -> str:
    """Return the sentence of a reliability diagram."""
    confidence = math.fsum(one.n * (one.confidence_percent or 0.0) for one in evaluation.bins) / evaluation.n
    low, high = of_share(evaluation.error_percent, evaluation.n)
    doubt = 100 - confidence
    word = "over-confident" if doubt < low else "under-confident" if doubt > high else "calibrated within chance"
    return (
        f"{word}: {confidence:.1f} % sure and {100 - evaluation.error_percent:.1f} % right on average;"
        f" calibration error {evaluation.calibration_error_percent:.1f} %"
    )


def curves_finding(curves: Curves) -> str:
    """Return the sentence of a training run: where it ends, the gap, when it was best."""
    if not curves.epochs:
        return f"no epoch of {curves.network} is measured"
    last = curves.epochs[-1]
    validation, training = last.validation_error_percent, last.train_error_percent
    after = f"after {counted(last.epoch, 'epoch')} {curves.network} is at {training:.1f} % training"
    if validation is None:
        return f"{after} error"
    ends = f"{after} and {validation:.1f} % validation error (gap {minus(f'{validation - training:+.1f}')} points)"
    errors = [(one.validation_error_percent, one.epoch) for one in curves.epochs]
    best, epoch = min(((error, epoch) for error, epoch in errors if error is not None), key=lambda pair: pair[0])
    if len(errors) == 1:
        return ends
    return f"{ends}, its best" if best == validation else f"{ends}; its best was {best:.1f} % after epoch {epoch:.4g}"


def ladder_finding(ladder: Ladder) -> str:
    """Return the sentence of a ladder: how far its predictions are right, or what its deepest network costs."""
    checked = [one for one in ladder.depths if one.error_percent and not one.fitted]
    if checked:
        errors, medians = [astuple(one.error_percent) for one in checked if one.error_percent], []
        for what, part in (("time", slice(0, 3)), ("memory", slice(3, 5))):
            sizes = [abs(error) for row in errors for error in row[part] if error is not None]
            if sizes and (median := statistics.median(sizes)):
                medians.append(f"{what} within {median:.1f} %")
        depths = listed([str(one.depth) for one in checked])
        return f"{ladder.title}: predicted {' and '.join(medians)} of what {depths} layers took (median)"
    deepest = ladder.depths[-1]
    costs = deepest.measured or deepest.predicted
    word = "costs" if deepest.measured else "is predicted to cost"
    return f"{deepest.network} {word} {number(costs and costs.training_ms, zeros=True)} ms of training per image"


def scaling_finding(paper: Paper) -> str:
    """Return how long training takes on the most devices, on paper."""
    last = paper.rows[-1]
    return f"{paper.network} on {last.devices:,} devices: {number(last.seconds[0] / 3600)} hours at best, on paper"


def cost_finding(record: Cost) -> str:
    """Return the sentences of all ladders, and of training on many devices."""
    return "; ".join([*map(ladder_finding, record.ladders), *map(scaling_finding, record.scaled)])


def degradation_finding(ladder: Degradation) -> str:
    """Return the diagnoses of all families."""
    diagnoses = "; ".join(f"{family.label}: {family.diagnosis.headline}" for family in ladder.families)
    return diagnoses if ladder.equal == "epochs" else f"in equal time, {diagnoses}"


def fit_finding(fit: Fit) -> str:
    """Return the sentence of a fit."""
    error = fit.validation_error_percent if fit.test is None else fit.test.error_percent
    alike = f" ({listed(fit.verdict.alike)} cannot be told apart)" if fit.verdict.alike else ""
    return f"{fit.size}{alike}: {error:.1f} % error, {fit.latency.median_ms:.2g} ms per image{fit.latency.aside}"


def transfer_finding(transfer: Transfer) -> str:
    """Return which published network is taken, how much of it, and what that gives."""
    start, last = transfer.chosen, transfer.trainings[-1]
    how = f"{last.epochs:.3g} epochs of training" if last.kept_epoch else "only a new classifier"
    return (
        f"take {start.text}, with {how}: {transfer.test.error_percent:.1f} % error,"
        f" {transfer.latency.median_ms:.2g} ms per image{transfer.latency.aside}"
    )


def cut_finding(cut: Cut) -> str:
    """Return what a cut cost and what it saved, or how far the frontier goes."""
    if cut.choice is not None:
        return f"{_out(cut, cut.choice)}: {cut_text(cut)}; {cut_saving(cut)}"
    free = [point for point in cut.points if point.best.change_low <= 0]
    point = free[-1] if free else cut.points[0]
    saved = f"{_out(cut, point)}: {_faster(cut, point)}, {minus(f'{point.best.change:+.1f}')} points of error"
    if not free:
        return f"every cut costs error: {saved}"
    return f"{saved}, no more than noise" if point.best.change_high >= 0 else saved


def cut_text(cut: Cut) -> str:
    """Return a cut against the network that it was cut from: error and latency before and after, on one split.

    It is the test split where that was read, as the units were chosen on others: test 2.8 → 5.6 %, +2.8 points (95 %:
    −0.4 to +6.0); 0.99 → 0.66 ms.
    """
    assert cut.choice is not None
    before, after, name = cut.baseline, cut.best, "error"
    if cut.test is not None:
        before, after, name = cut.test.original, cut.test.cut, "test"
    assert after is not None
    points = f"{after.change:+.1f} points (95 %: {after.change_low:+.1f} to {after.change_high:+.1f})"
    errors = f"{name} {before.error_percent:.1f} → {after.error_percent:.1f} %, {minus(points)}"
    times = (number(one.latency.median_ms) for one in (cut.original, cut.choice.size))
    return f"{errors}; {' → '.join(times)} ms"


def cut_saving(cut: Cut) -> str:
    """Return what the chosen cut saves."""
    assert cut.choice is not None
    return f"{_faster(cut, cut.choice)}, {100 * (1 - cut.choice.size.macs / cut.original.macs):.0f} % fewer MACs"


def probe_finding(probe: Probe) -> str:
    """Return how deep is deep enough for the data, what that saves, and whether the rest of the network hurts."""
    choice, lowest, end = probe.choice, probe.lowest, probe.end
    error, limited = f"{choice.fitted.error_percent:.1f} % error", probe.budget_ms is not None
    if choice.whole and not limited:
        unclear = [one for one in probe.depths if one.to_best is not None and one.to_best.low <= 0]
        if not unclear:
            return f"the whole network is needed: {error}, and every shallower depth is worse"
        points = max(one.to_best.high for one in unclear if one.to_best is not None)
        return (
            f"the whole network: {error}, the lowest; whether less of it is as good cannot be said:"
            f" {counted(probe.n, 'image')} leave up to {points:.0f} points open"
        )
    found = f"{depth_text(probe, choice)}: {error}"
    found += "" if choice.whole else f", {_less_time(choice.latency, end.latency)} than the whole network"
    if limited:
        found = f"within {probe.budget_ms:.3g} ms {found}"
    best = f"the lowest is {lowest.fitted.error_percent:.1f} % with {depth_text(probe, lowest, short=True)}"
    if choice == lowest:
        found += ", the lowest of all depths"
    elif limited or choice.to_best is None:
        found += f"; {best}"
    else:
        points = minus(f"{choice.to_best.low:+.1f} to {choice.to_best.high:+.1f}")
        found += f"; {best}, within chance ({points} points)"
    if end.to_best is not None and end.to_best.worse and choice != end:
        found += f"; the whole network is worse: {end.fitted.error_percent:.1f} %"
    return found


def depth_text(probe: Probe, depth: Depth, *, short: bool = False) -> str:
    """Return how deep a part of a network is: ``6 of 9 units`` or, short, ``6 units``; and whether its head follows."""
    if depth.whole:
        return "the whole network"
    of = counted(depth.units, "unit") if short else f"{depth.units} of {probe.units} units"
    units = of if depth.units else "the stem alone"
    head = " without the head" if depth.units == probe.units else " and the head" if depth.head == "kept" else ""
    return units + head


def probe_test_finding(test: ProbeTest) -> str:
    """Return how the chosen depth does on images that chose nothing of it."""
    error, change = error_text(test.error_percent, test.n, "test"), test.change
    points = minus(f"{change.points:+.1f} points ({change.low:+.1f} to {change.high:+.1f})")
    return f"{error}; of the whole network {test.end_error_percent:.1f} %: {points}"


def _out(cut: Cut, point: Point) -> str:
    if point.head is not None:
        return f"the first {point.size.units} of {cut.original.units} units"
    return f"{point.out} of {cut.original.units} units out"


def _faster(cut: Cut, point: Point) -> str:
    """Return how much less time a network takes."""
    return _less_time(point.size.latency, cut.original.latency)


def _less_time(latency: Timing, whole: Timing) -> str:
    share = 100 * (1 - latency.median_ms / whole.median_ms)
    return f"{abs(share):.0f} % {'less' if share >= 0 else 'more'} time{latency.aside}"


def export_agreed(export: Export) -> str:
    """Return whether a file gives the same classes; of a quantised one how many, and what it gets wrong."""
    found, int8 = export.agreement, export.int8
    if int8 is None:
        return f"the file gives the same class on all {found.images:,} images"
    points = minus(f"{int8.change:+.1f} points ({int8.change_low:+.1f} to {int8.change_high:+.1f})")
    return (
        f"the int8 file gives the same class on {found.same_class_percent:.1f} % of {found.images:,} images:"
        f" {int8.original_error_percent:.1f} % error before, {int8.error_percent:.1f} % after, {points}"
    )


def export_finding(export: Export) -> str:
    """Return the sentence of an export: that it agrees, and how much faster it is for one image."""
    agreed = export_agreed(export)
    alone = next((row for row in export.latency if row.batch == 1), None)
    if alone is None:
        return agreed
    return f"{agreed}; one image takes {number(alone.exported_ms)} ms instead of {number(alone.original_ms)}"
