"""The full tables behind the folds: every unit, every length, every class."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from howdeep.analysis.effects import Effect
from howdeep.analysis.evaluation import Evaluation
from howdeep.analysis.lesion import Lesion, UnitEffect
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow
from howdeep.costs.cost import Ladder
from howdeep.costs.scaling import Paper
from howdeep.cutting.records import Cut, Point
from howdeep.exporting.export import Export
from howdeep.search.degradation import Degradation
from howdeep.search.fit import Fit
from howdeep.show.analysis_tables import count_text
from howdeep.show.figures.evaluation import confusions
from howdeep.show.report.words import NONE, milliseconds, number, percent, rough, signed, whole
from howdeep.show.tables import taken_for
from howdeep.training.log import Curves

MOST = 1_000
"""Rows of a table at most: where there are more, they are the worst ones."""
Cells = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table behind a fold."""

    summary: str
    """What the fold says."""
    heads: tuple[str, ...]
    """Of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells as they are written."""
    text: int = 0
    """The first so many columns hold text and are aligned left; numbers are aligned right."""


def table(summary: str, heads: str, rows: Sequence[Cells], *, text: int = 0) -> Table:
    """Return a table.

    Args:
        summary: What the fold says.
        heads: Of the columns, with | between.
        rows: As many cells each.
        text: The first so many columns hold text.
    """
    return Table(summary=summary, heads=tuple(heads.split("|")), rows=tuple(map(tuple, rows)), text=text)


def curves_table(found: Curves) -> Table:
    """Return one row per epoch."""
    rows = [
        (number(one.epoch, 4), percent(one.train_error_percent, 2), percent(one.validation_error_percent, 2),
         number(one.lr), number(one.open_units))
        for one in found.epochs
    ]  # fmt: skip
    return table(f"All {len(rows):,} epochs", "epoch|training error|validation error|learning rate|open units", rows)


def class_table(found: Evaluation) -> Table:
    """Return one row per class, the worst first."""
    order = sorted(range(len(found.classes)), key=lambda place: -(found.classes[place].error_percent or 0.0))
    rows = [
        (one.name, whole(one.n), percent(one.error_percent), taken_for(found, place))
        for place, one in ((place, found.classes[place]) for place in order)
    ]
    return table(f"All {len(rows):,} classes, the worst first", "class|images|error|most often taken for", rows, text=1)


def pairs_table(found: Evaluation) -> Table:
    """Return which classes are taken for which, the most frequent first."""
    names = [one.name for one in found.classes]
    pairs = confusions(found.confusion)
    rows = [(names[true], names[given], whole(count)) for count, true, given in pairs[:MOST]]
    return table(_all(len(pairs), len(rows), "confusions"), "class|taken for|images", rows, text=2)


def lesion_table(found: Lesion) -> Table:
    """Return one row per unit, or per set of units or order."""
    if found.units:
        rows = [(str(unit.index), unit.name, *_unit(unit)) for unit in found.units]
        return table(f"All {len(rows):,} units", "unit|name|error|change|95 % interval|not finite", rows, text=2)
    trials = found.trials
    if found.kind == "pairs":
        trials = sorted(trials, key=lambda trial: -trial.effect.error_percent)
    told = "Kendall's τ" if found.kind == "permute" else "units out"
    rows = [(str(trial.k), str(trial.draw), _what(found, trial), *_effect(trial.effect)) for trial in trials[:MOST]]
    summary = _all(len(trials), len(rows), "pairs" if found.kind == "pairs" else "draws")
    return table(summary, f"k|draw|{told}|error|change|95 % interval", rows)


def paths_table(found: Paths) -> Table:
    """Return one row per length: paths, and the gradient that they carry."""
    exact = dict(zip(found.lengths, found.gradient_norm or (), strict=False))
    total = sum(exact.values()) or 1.0
    sampled = {one.length: one for one in found.sampled}
    rows = []
    for length, count in zip(found.lengths, found.path_count, strict=True):
        one, norm = sampled.get(length), exact.get(length)
        mean = NONE if one is None else number(one.mean)
        spread = NONE if one is None or one.standard_error is None else number(one.standard_error)
        share = NONE if norm is None else f"{number(100 * norm / total)} %"
        rows.append((str(length), count_text(count), NONE if norm is None else number(norm), share, mean, spread))
    heads = "branches passed|paths|gradient|share of it|gradient of one path|± over draws"
    return table(f"All {len(rows):,} lengths", heads, rows)


def flow_table(found: Flow) -> Table:
    """Return one row per unit: what goes in, what its branch adds, what gradient arrives."""
    rows = [
        (str(one.index), one.name, *map(number, (one.stream_std, one.branch_std, one.ratio, one.input_gradient,
                                                 one.weight_gradient)))
        for one in found.units
    ]  # fmt: skip
    heads = "unit|name|stream σ|branch σ|branch : shortcut|gradient|gradient of weights"
    return table(f"All {len(rows):,} units", heads, rows, text=2)


def cost_table(found: Ladder) -> Table:
    """Return one row per depth and kind of number."""
    rows = []
    for rung in found.rungs:
        counts = (f"{rung.depth:,}", whole(rung.counts.units), rough(rung.counts.parameters), rough(rung.counts.macs))
        for word, costs in (("measured", rung.measured), ("predicted", rung.predicted)):
            if costs is not None:
                times = (number(value) for value in (costs.latency_ms, costs.inference_ms, costs.training_ms))
                peaks = (_megabytes(value) for value in (costs.memory_bytes, costs.memory_checkpointing_bytes))
                rows.append((word, *counts, *times, *peaks))
        if rung.error_percent is not None:
            errors = (NONE if value is None else f"{value:+.1f} %" for value in astuple(rung.error_percent))
            rows.append(("error", *counts, *errors))
    heads = "number|layers|units|parameters|MACs|latency, ms|inference, ms/image|training, ms/image"
    return table(f"{found.title}: all depths", f"{heads}|peak, MB|peak checkpointed, MB", rows, text=1)


def scaling_table(found: Paper) -> Table:
    """Return one row per number of nodes."""
    rows = [
        (whole(row.nodes), whole(row.devices), whole(row.batch_size), number(1000 * row.step_seconds[0]),
         f"{100 * row.efficiency[1]:.0f}–{100 * row.efficiency[0]:.0f} %",
         "–".join(number(seconds / 3600) for seconds in row.seconds))
        for row in found.rows
    ]  # fmt: skip
    heads = "nodes|devices|images of a step|step, ms|efficiency|hours"
    return table(f"{found.network} on up to {found.cluster.devices:,} devices", heads, rows)


def degradation_table(found: Degradation) -> Table:
    """Return one row per run."""
    rows = []
    for rung in found.rungs:
        errors = rung.errors
        training = percent(errors and errors.training_percent, 2)
        validation = percent(errors and errors.validation_percent, 2)
        rows.append((rung.family, rung.network, f"{rung.depth:,}", str(rung.seed), training, validation,
                     number(rung.epochs), f"{rung.seconds:,.1f}"))  # fmt: skip
    heads = "family|network|layers|seed|training error|validation error|epochs|seconds"
    return table(f"All {len(rows):,} runs", heads, rows, text=2)


def fit_table(found: Fit) -> Table:
    """Return one row per network and round."""
    rows = []
    for one in found.candidates:
        costs = (one.costs.network, f"{one.costs.depth:,}", rough(one.costs.parameters),
                 milliseconds(one.costs.latency.median_ms))  # fmt: skip
        for result in one.rounds:
            errors = percent(result.train_error_percent, 2), percent(result.validation_error_percent, 2)
            rows.append((*costs, f"{result.seconds:,.1f}", number(result.epochs), *errors))
        if not one.rounds:
            rows.append((*costs, NONE, NONE, NONE, NONE))
    heads = "network|layers|parameters|latency|seconds|epochs|training error|validation error"
    total = len(found.candidates)
    return table(f"{_all(total, total, 'networks')}, round by round", heads, rows, text=1)


def dropped_table(found: Fit) -> Table:
    """Return who was left out, and why."""
    rows = [(one.network, one.budget, one.reason) for one in found.dropped]
    return table(f"What was left out ({len(rows):,})", "network|budget|reason", rows, text=3)


def cut_table(found: Cut) -> Table:
    """Return one row per cut network."""
    size, base = found.original, found.baseline
    rows = [("0", whole(size.units), rough(size.macs), milliseconds(size.latency.median_ms),
             percent(base.error_percent, 2), percent(base.error_percent, 2), NONE, NONE)]  # fmt: skip
    rows += [_cut_row(point) for point in found.points]
    heads = "units out|units|MACs|latency|error as cut|error, norms re-estimated|change|95 % interval"
    return table(f"The network, and {_all(len(found.points), len(found.points), 'cuts').lower()}", heads, rows)


def order_table(found: Cut) -> Table:
    """Return the units in the order in which they go."""
    rows = [(one.name, str(place), str(one.index), number(one.loss)) for place, one in enumerate(found.order, 1)]
    return table(f"The order of {len(rows):,} units", "name|place|unit|loss without it, nats", rows, text=1)


def export_table(found: Export) -> Table:
    """Return one row per size of a batch."""
    rows = [(str(row.batch), *map(number, (row.original_ms, row.exported_ms)), str(row.runs)) for row in found.latency]
    return table("Time of the network and of the file", "images|network, ms|file, ms|runs", rows)


def _unit(unit: UnitEffect) -> Cells:
    if unit.error_percent is None:
        return NONE, "not removable", NONE, NONE
    broken = str(unit.not_finite) if unit.not_finite else NONE
    return percent(unit.error_percent, 2), signed(unit.change), _interval(unit.change_low, unit.change_high), broken


def _effect(effect: Effect) -> Cells:
    interval = _interval(effect.change_low, effect.change_high)
    return percent(effect.error_percent, 2), signed(effect.change), interval


def _what(found: Lesion, trial) -> str:
    if found.kind == "permute":
        return NONE if trial.kendall_tau is None else f"{trial.kendall_tau:.3f}"
    return ", ".join(str(unit) for unit in trial.units)


def _cut_row(point: Point) -> Cells:
    size, after = point.size, point.best
    errors = (
        f"{percent(effect.error_percent, 2)}{' (kept)' if effect is after else ''}"
        for effect in (point.cut, point.repaired)
    )
    change = signed(after.change), _interval(after.change_low, after.change_high)
    latency = milliseconds(size.latency.median_ms)
    return (str(point.out), whole(size.units), rough(size.macs), latency, *errors, *change)


def _interval(low: float | None, high: float | None) -> str:
    return f"{signed(low)} … {signed(high)}"


def _megabytes(value: int | float | None) -> str:
    return NONE if value is None else f"{value / 1e6:,.0f}"


def _all(there: int, shown: int, what: str) -> str:
    if there == 1:
        return f"The one of the {what}"
    return f"All {there:,} {what}" if there == shown else f"The {shown:,} worst of {there:,} {what}"
