"""Tables of what was measured on a trained network: its errors, lesions, paths, signal, training and exported file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from howdeep.show.sentences import confusions, depth_text, export_agreed, measured, probe_test_finding
from howdeep.show.tables import CHOSEN, Table, all_of
from howdeep.util.intervals import student_95
from howdeep.util.text import NONE, change_text, counted, fixed, listed, number, percent_text, share_text, short, whole

if TYPE_CHECKING:
    from howdeep.analysis.depths import Probe
    from howdeep.analysis.effects import Effect
    from howdeep.analysis.evaluation import Evaluation
    from howdeep.analysis.inference import Prediction
    from howdeep.analysis.lesion import Lesion, UnitEffect
    from howdeep.analysis.paths import Paths
    from howdeep.analysis.signals import Flow
    from howdeep.exporting.export import Export
    from howdeep.training.log import Curves

T = TypeVar("T")
SHOWN, MOST = 40, 1_000
"""Rows on a terminal, and on a page, at most."""
SHOWN_CLASSES = 20
BAR = 24
"""Characters of the longest bar."""


def evaluation_table(evaluation: Evaluation, *, wide: bool = False, of: str = "") -> Table:
    """Return the error and one row per class, the worst first; wide, also which classes are taken for which.

    Args:
        evaluation: The record.
        wide: All classes.
        of: Which network on which images, as the user called them.
    """
    classes = evaluation.classes
    order = sorted(range(len(classes)), key=lambda place: -(classes[place].error_percent or 0.0))
    rows = []
    for place in order if wide else order[:SHOWN_CLASSES]:
        one, counts = classes[place], enumerate(evaluation.confusion[place])
        count, other = max(((count, other) for other, count in counts if other != place), default=(0, place))
        taken = f"{classes[other].name} ({count:,})" if count else ""
        rows.append((one.name, whole(one.n), fixed(one.error_percent, 1), taken))
    hidden = len(order) - len(rows)
    fewer = counted(hidden, "class")
    views = f", the mean of {evaluation.views} views" if evaluation.views > 1 else ""
    speed = f"n = {evaluation.n:,}{views}, {evaluation.images_per_second:,.0f} images/s"
    return Table(
        title=f"error {percent_text(evaluation.error_percent, evaluation.n)}   loss {evaluation.loss:.4f}   "
        f"calibration error {evaluation.calibration_error_percent:.2f} %",
        lines=[f"{of} ({speed})" if of else speed],
        heads=["class", "images", "error %", "most often taken for"],
        text=(0, 3),
        rows=rows,
        below=[_confusions(evaluation)] if wide else [f"… and {fewer} with fewer errors"] * (hidden > 0),
        summary=f"{all_of(len(order), len(order), 'class')}, the worst first",
    )


def _confusions(evaluation: Evaluation) -> Table:
    names, pairs = [one.name for one in evaluation.classes], confusions(evaluation.confusion)
    rows = [(names[true], names[given], whole(count)) for count, true, given in pairs[:MOST]]
    summary = all_of(len(pairs), len(rows), "confusion")
    return Table(heads=["class", "taken for", "images"], text=(0, 1), rows=rows, summary=summary)


def predictions_table(predictions: Sequence[Prediction]) -> Table:
    """Return one line per image."""
    rows = []
    for one in predictions:
        pairs = zip(one.classes, one.probabilities, strict=True)
        classes = "  ".join(f"{name} {100 * share:.1f} %" for name, share in pairs)
        rows.append((one.image, f"cannot be used: {one.unusable}" if one.unusable else classes))
    return Table(heads=["image", "class and probability"], text=(0, 1), rows=rows)


def export_table(export: Export, *, wide: bool = False) -> Table:
    """Return how far a file agrees with the network, what it is, and how fast both are."""
    agreement, opset = export.agreement, f", opset {export.opset}" if export.opset else ""
    rows = []
    for row in export.latency:
        before, after = (
            f"{low:.2f}–{high:.2f}" for low, high in (row.original_quartiles_ms, row.exported_quartiles_ms)
        )
        rows.append((str(row.batch), fixed(row.original_ms), before, fixed(row.exported_ms), after, str(row.runs)))
    left = f"; {export.norms_left} norms could not be folded" if export.norms_left else ""
    title = export_agreed(export)
    if agreement.tolerance is not None:
        title = (
            f"the same class on all {agreement.images:,} images, logits within {agreement.difference:.1e} of the"
            f" largest (allowed {agreement.tolerance:.0e})"
        )
    return Table(
        title=title,
        lines=[f"{export.file} ({export.format}{opset}, {export.bytes:,} bytes, run by {export.runtime})"],
        heads=["batch", "original ms", "quartiles", "exported ms", "quartiles", "runs"],
        rows=rows,
        below=[f"medians, by turns, threads: {export.threads}{left}", *export.notes],
        summary="Time of the network and of the file",
    )


def lesion_table(lesion: Lesion, *, wide: bool = False) -> Table:
    """Return one row per unit, per k, or for the worst pairs; wide, one row per draw."""
    if lesion.units:
        table = _units(lesion, wide)
    else:
        table = _by_k(lesion) if lesion.by_k and not wide else _trials(lesion, wide)
    base = lesion.baseline
    baseline = f"baseline: {percent_text(base.error_percent, base.n)}, n = {base.n:,}"
    return replace(table, title=lesion.finding, lines=[baseline])


def _units(lesion: Lesion, wide: bool) -> Table:
    units = list(lesion.units)
    if len(units) > SHOWN and not wide:
        units = sorted(measured(lesion), key=lambda unit: -(unit.change or 0.0))[:SHOWN]
    top = 0.0 if wide else max((unit.change or 0.0 for unit in units), default=0.0)
    rows = []
    for unit in units:
        bar = "▇" * round(BAR * (unit.change or 0.0) / top) if top > 0 else ""
        remark = bar + (f" {unit.not_finite} logits not finite" if unit.not_finite else "")
        cells = (str(unit.index), unit.name, *_effect(unit))
        rows.append((*cells, "not removable" if unit.change is None else remark))
    hidden = len(lesion.units) - len(units)
    return Table(
        heads=["unit", "name", "error %", "change", "95 % interval", ""],
        rows=rows,
        text=(1,),
        below=[f"… and {counted(hidden, 'unit')} of less cost"] * bool(hidden),
        summary=all_of(len(rows), len(rows), "unit"),
        drop=(5, 1, 4),
    )


def _effect(effect: Effect | UnitEffect) -> tuple[str, str, str]:
    if effect.error_percent is None or effect.change is None:
        return NONE, NONE, ""
    low, high = effect.change_low, effect.change_high
    return fixed(effect.error_percent), f"{effect.change:+.2f}", change_text(low or 0.0, high or 0.0)


def _by_k(lesion: Lesion) -> Table:
    top = max(row.error_percent for row in lesion.by_k)
    rows = []
    for row in lesion.by_k:
        bar = "▇" * round(BAR * row.error_percent / top) if top else ""
        spread = "" if row.standard_error is None else fixed(student_95(row.draws) * row.standard_error)
        rows.append((str(row.k), str(row.draws), fixed(row.error_percent), spread, bar))
    return Table(heads=["k", "draws", "error %", "± 95 % over draws", ""], rows=rows)


def _trials(lesion: Lesion, wide: bool) -> Table:
    """Return one row per draw, pairs with the worst first; on a terminal only some pairs."""
    permuted, pairs, first = lesion.kind == "permute", lesion.kind == "pairs", 0 if wide else 2
    trials = sorted(lesion.trials, key=lambda trial: -trial.effect.error_percent) if pairs else lesion.trials
    rows = []
    for trial in trials[: MOST if wide else SHOWN // 2]:
        what = fixed(trial.kendall_tau, 3) if permuted else listed([str(unit) for unit in trial.units])
        rows.append((str(trial.k), str(trial.draw), what, *_effect(trial.effect))[first:])
    heads = ["k", "draw", "Kendall's τ" if permuted else "units", "error %", "change", "95 % interval"]
    return Table(
        heads=heads[first:],
        rows=rows,
        text=() if permuted else (2 - first,),
        summary=all_of(len(trials), len(rows), "pair" if pairs else "draw"),
    )


def paths_table(paths: Paths, *, wide: bool = False) -> Table:
    """Return one row per length: paths, exact gradient, mean gradient of a sampled path."""
    sampled = {one.length: one for one in paths.sampled}
    exact = dict(zip(paths.lengths, paths.gradient_norm or (), strict=False))
    total, gradient, effective = sum(map(int, paths.path_count)), sum(exact.values()), paths.effective
    shares = {length: norm / gradient for length, norm in exact.items()} if gradient else {}
    if not exact and (spread := paths.spread) is not None:
        shares, effective = dict(zip(spread.lengths, spread.shares, strict=True)), paths.effective_by_sample
    inside = set(effective.lengths if effective else ())
    mean_digits, error_digits = (3, 3) if wide else (2, 1)
    rows = []
    for length, count in zip(paths.lengths, paths.path_count, strict=True):
        one, norm = sampled.get(length), exact.get(length)
        share = share_text(shares[length], mean_digits) if length in shares else ""
        mean = "" if one is None else number(one.mean, mean_digits)
        off = "" if one is None or one.half_width is None else f" ± {number(one.half_width, error_digits)}"
        many = f"{int(count):,}" if len(count) <= 9 else f"{count[0]}.{count[1:3]}e{len(count) - 1}"
        cells = (str(length), many, share_text(int(count) / total), "" if norm is None else number(norm))
        if wide or exact or one is not None:  # the others would say nothing but how many there are
            rows.append((*cells, share, mean + off, "│" if length in inside else ""))
    check = paths.sum_check_relative_error
    notes = "" if check is None else f"; lengths add up to autograd's gradient within {check:.1e}"
    draws = "; per path ± 95 % over draws" * any(one.half_width is not None for one in paths.sampled)
    return Table(
        title=paths.finding,
        lines=[f"n = {paths.n:,} images{notes}{draws}"],
        heads=["length", "paths", "of all", "gradient", "of it", "per path", ""],
        rows=rows if wide else _thinned(rows),
        summary=all_of(len(rows), len(rows), "length"),
    )


def _thinned(rows: Sequence[T]) -> list[T]:
    """Return as many rows as a terminal holds, evenly spaced."""
    if len(rows) <= SHOWN:
        return list(rows)
    return [rows[place] for place in sorted({round(i * (len(rows) - 1) / (SHOWN - 1)) for i in range(SHOWN)})]


def flow_table(flow: Flow, *, wide: bool = False) -> Table:
    """Return one row per unit: what goes in, what its branch adds, what gradient arrives."""
    rows = []
    for unit in flow.units if wide else _thinned(flow.units):
        numbers = (unit.stream_std, unit.branch_std, unit.ratio, unit.input_gradient, unit.weight_gradient)
        rows.append((str(unit.index), unit.name, *map(number, numbers)))
    statistics = "of each mini-batch" if flow.statistics == "batch" else "the running ones"
    return Table(
        title=flow.finding,
        lines=[f"n = {flow.n:,} images, loss {flow.loss:.4f}, statistics of norms: {statistics}"],
        heads=["unit", "name", "stream σ", "branch σ", "ratio", "gradient", "weights'"],
        text=(1,),
        rows=rows,
        summary=all_of(len(flow.units), len(flow.units), "unit"),
    )


def probe_table(probe: Probe, *, wide: bool = False) -> Table:
    """Return one row per depth: error, what it is above the lowest, the nearest neighbour, and what the depth costs."""
    kept = {probe.chosen, probe.best, len(probe.depths) - 1}
    shown = set(range(len(probe.depths)) if wide else _thinned(range(len(probe.depths)))) | kept
    rows = [_depth_row(probe, at, wide) for at in sorted(shown)]
    neighbour = min(probe.depths, key=lambda depth: depth.neighbour_error_percent)
    nearest = f"{neighbour.neighbour_error_percent:.1f} % with {depth_text(probe, neighbour)}"
    below = [f"lowest error of the nearest neighbour (1-NN): {nearest}"]
    if any(depth.to_best and depth.to_best.worse for depth in probe.depths):
        below.append("*: above the lowest beyond chance, image by image, all depths considered (Holm)")
    if aside := probe.choice.latency.aside:
        below.append(f"ms of one image{aside}")
    fitted = f"classifiers fitted on {probe.train_images:,} images of {probe.classes:,} classes"
    heads = ["units", "behind", "error %", "95 % interval", "above", "1-NN %", "ms", "MACs"]
    more = ["to the lowest (95 %)", "to the whole (95 %)", "features", "parameters"] if wide else []
    return Table(
        title=probe.finding,
        lines=[f"n = {probe.n:,}, {fitted}"] + ([probe_test_finding(probe.test)] if probe.test else []),
        heads=[*heads, *more],
        text=(1,),
        rows=rows,
        below=[*below, *probe.remarks],
        drop=(7, 5, 1, 3),
        summary=f"All {len(rows):,} depths",
    )


def _depth_row(probe: Probe, at: int, wide: bool) -> tuple[str, ...]:
    depth, mark = probe.depths[at], f"{CHOSEN} " * (at == probe.chosen)
    fitted, above = depth.fitted, depth.to_best
    cells = (
        f"{mark}{depth.units}",
        "+ head" if depth.head == "kept" and not depth.whole else depth.name,
        fixed(fitted.error_percent, 1),
        f"{fitted.low:.1f}–{fitted.high:.1f}",
        "lowest" if above is None else f"{above.points:+.1f}{'*' if above.worse else ''}",
        fixed(depth.neighbour_error_percent, 1),
        number(depth.latency.median_ms, zeros=True),
        short(depth.macs),
    )
    if not wide:
        return cells
    changes = ("" if one is None else change_text(one.low, one.high) for one in (above, depth.to_end))
    return (*cells, *changes, whole(fitted.features), whole(depth.parameters))


def curves_table(curves: Curves, *, wide: bool = False) -> Table:
    """Return one row per epoch."""
    rows = []
    for one in curves.epochs if wide else _thinned(curves.epochs):
        errors = fixed(one.train_error_percent), fixed(one.validation_error_percent)
        rows.append((number(one.epoch, 4), *errors, number(one.lr), number(one.open_units)))
    return Table(
        title=curves.finding,
        heads=["epoch", "training error %", "validation error %", "learning rate", "open units"],
        rows=rows,
        summary=all_of(len(curves.epochs), len(curves.epochs), "epoch"),
    )
