"""Tables of what networks cost by depth, on many devices, and with fewer units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

from howdeep.show.tables import CHOSEN, Table, all_of
from howdeep.util.text import (
    NONE,
    change_text,
    counted,
    fixed,
    listed,
    number,
    percent_text,
    short,
    whole,
)

if TYPE_CHECKING:
    from howdeep.analysis.effects import Effect
    from howdeep.costs.cost import Cost, DepthCost, Ladder
    from howdeep.costs.predicting import Costs
    from howdeep.costs.scaling import Paper
    from howdeep.cutting.records import Cut, Size

NAMED = 10
"""Units that are named at most."""


def cost_table(record: Cost, *, wide: bool = False) -> Table:
    """Return all ladders, and training on many devices."""
    ladders = [ladder_table(ladder, wide=wide) for ladder in record.ladders]
    first, *others = [*ladders, *(scaling_table(paper, wide=wide) for paper in record.scaled)]
    return replace(first, below=[*first.below, *others])


def ladder_table(ladder: Ladder, *, wide: bool = False) -> Table:
    """Return what is counted, and what is measured and predicted; wide, both in one grid."""
    if wide:
        return replace(_measured(ladder, wide), title=ladder.finding, summary=f"{ladder.title}: all depths")
    return replace(_counted(ladder), title=ladder.finding, below=["", _measured(ladder, wide)])


def _counted(ladder: Ladder) -> Table:
    """Return what needs no measurement, to the last digit where that fits."""
    expects = ladder.survival != "constant"
    rows, depths = [], [(whole(one.depth), "", one.counts) for one in ladder.depths]
    for name, plus, counts in [*depths, ("one more*", "+", ladder.one_more)]:
        exact = (whole(count) for count in (counts.units, counts.parameters, counts.macs))
        rounded = map(short, (counts.flops, counts.training_macs, counts.expected_training_macs)[: 2 + expects])
        rows.append((name, *(plus + count for count in (*exact, *rounded))))
    heads = ["layers", "units", "parameters", "MACs", "FLOPs", "training\nMACs", "expected\nMACs"]
    return Table(heads=heads[: 6 + expects], rows=rows)


def _measured(ladder: Ladder, wide: bool) -> Table:
    """Return what is measured and predicted; wide, beside what is counted."""
    expects = ladder.survival != "constant"
    rows = [row for one in ladder.depths for row in _depth_rows(one, wide, expects)]
    if ladder.one_more_costs:
        more = (cell if cell == NONE else f"+{cell}" for cell in _costs(ladder.one_more_costs))
        rows.append(("one more*", "predicted", *[""] * (3 * wide), *more, *[""] * expects))
    counts = ["units", "parameters", "MACs"] if wide else []
    costs = ["latency\nms", "inference\nms/image", "training\nms/image", "memory\nMB", "memory\nckpt MB"]
    heads = ["layers", "", *counts, *costs, *["expected\nms/image"] * expects]
    notes = [
        "* a unit in each stage of the deepest; FLOPs = 2 · MACs; training = 3 forward passes",
        f"latency: one image{ladder.aside or f', threads: {ladder.threads}'}, fp32;"
        f" inference: batch of {ladder.batch_size}, fp32; {ladder.size}×{ladder.size} pixels",
        f"training: batch of {ladder.batch_size}, {ladder.precision}, {ladder.memory_format}; medians of the quietest"
        f" of {ladder.rounds} rounds",
        "memory: peak of training: weights, gradients, momentum, activations, not torch;",
        "ckpt: the same with --checkpointing",
    ]
    if ladder.fitted_on:
        notes.append(f"fitted on {listed(ladder.fitted_on)}")
    if expects:
        notes.append(f"expected: of training under survival {ladder.survival}; time in proportion to MACs")
    return Table(heads=heads, text=(0,), rows=rows, below=notes)


def _depth_rows(cost: DepthCost, wide: bool, expects: bool) -> list[tuple[str, ...]]:
    """Return what was measured, what was predicted and the error of that; a terminal says the depth once."""
    numbers: list[tuple[str, Sequence[str]]] = []
    if cost.measured:
        numbers.append(("measured", _costs(cost.measured)))
    if cost.predicted:
        numbers.append(("fitted" if cost.fitted else "predicted", _costs(cost.predicted)))
    if cost.error_percent:
        # Adding 0.0 makes a rounded −0.0 a 0.0.
        errors = [NONE if value is None else f"{round(value, 1) + 0.0:+.1f} %" for value in astuple(cost.error_percent)]
        numbers.append(("error", errors))
    counts = (whole(cost.counts.units), short(cost.counts.parameters), short(cost.counts.macs)) if wide else ()
    depth, expected, rows = whole(cost.depth), number(cost.expected_training_ms, zeros=True), []
    for word, cells in numbers:
        rows.append((depth, word, *counts, *cells, *[expected] * expects))
        depth, expected = depth if wide else "", ""
    return rows


def _costs(costs: Costs) -> list[str]:
    *times, memory, checkpointed = astuple(costs)
    peaks = (NONE if peak is None else f"{peak / 1e6:,.0f}" for peak in (memory, checkpointed))
    return [*(number(time, zeros=True) for time in times), *peaks]


def scaling_table(paper: Paper, *, wide: bool = False) -> Table:
    """Return the formula with its numbers, and one row per number of nodes."""
    minutes = paper.rows[0].seconds[0] < 36_000 and not wide
    length, unit = (60.0, "minutes") if minutes else (3600.0, "hours")
    rows = []
    for row in paper.rows:
        step, duration = _between(row.step_seconds, 1000.0), _between(row.seconds, 1 / length)
        nodes, sent = f"{row.nodes:,}×{row.devices // row.nodes}", f"{row.traffic_bytes / 1e6:.0f}"
        reduced = number(1000 * row.reduce_seconds, zeros=True)
        rows.append((nodes, whole(row.batch_size), sent, reduced, step, _efficiency(row.efficiency), duration))
    last, job = paper.rows[-1], paper.job
    total = f"{_between(last.seconds, 1 / length)} {unit} on {last.devices:,} devices"
    return Table(
        title=f"{paper.network}, {job.images:,} images, {job.epochs:g} epochs: {total},"
        f" efficiency {_efficiency(last.efficiency)} % (on paper)",
        lines=[paper.formula, ""],
        heads=["nodes", "batch", "sent MB", "reduce ms", "step ms", "efficiency %", unit],
        rows=rows,
        summary=f"{paper.network} on up to {paper.cluster.devices:,} devices",
    )


def _between(ends: tuple[float, float], factor: float) -> str:
    first, last = (number(factor * end, zeros=True) for end in ends)
    return first if first == last else f"{first}–{last}"


def _efficiency(ends: tuple[float, float]) -> str:
    high, low = (f"{100 * end:.0f}" for end in ends)
    return high if high == low else f"{low}–{high}"


def cut_table(cut: Cut, *, wide: bool = False) -> Table:
    """Return the network before, one row per cut, and what was done; wide, also the order in which units go."""
    if cut.head is not None:
        return _first_table(cut, wide=wide)
    base, total = cut.baseline, len(cut.points)
    error, (best, other) = fixed(base.error_percent), (" (kept)", "") if wide else ("*", " ")
    uncut = ("0" if wide else "", *_size(cut.original), error, *([error, error, ""] if wide else ["", ""]), "")
    rows: list[tuple[str, ...]] = [uncut]
    for point in cut.points:
        first = str(point.out) if wide else CHOSEN * (point.out == cut.chosen)
        ways = [one for one in (point.cut, point.recalibrated, point.refitted) if one is not None]
        errors = (fixed(one.error_percent) + (best if one is point.best else other) for one in ways)
        change = [f"{point.best.change:+.2f}"] * wide
        interval = change_text(point.best.change_low, point.best.change_high)
        rows.append((first, *_size(point.size), *errors, *change, interval))
    errors = ["error: cut", "recalibrated", "refitted", "change"] if wide else ["cut", "norms", "refit"]
    heads = ["out" if wide else "", "units", "MACs", "ms", "quartiles", *errors, "change, 95 %"]
    return Table(
        title=cut.finding,
        lines=[f"uncut: {percent_text(base.error_percent, base.n)}, n = {base.n:,}"],
        heads=heads,
        rows=rows,
        below=[_order(cut)] if wide else [*_decisions(cut), *_chosen(cut), *cut.notes],
        summary=f"The network, and {all_of(total, total, 'cut').lower()}",
        drop=(4, 2, 7, 6),
    )


def _first_table(cut: Cut, *, wide: bool) -> Table:
    """Return the whole network and its first units under every head that was tried."""
    base, read = cut.baseline, {"pooled": "averages", "kept": "of the head"}
    heads = ["", "classifier reads", "units", "MACs", "ms", "quartiles", "error", "change", "change, 95 %"]
    rows = [("", "whole network", *_size(cut.original), fixed(base.error_percent), "", "")]
    for point in cut.points:
        assert point.head is not None
        reads, effect = f"{point.head.features:,} {read[point.head.name]}", point.cut
        change = f"{effect.change:+.2f}", change_text(effect.change_low, effect.change_high)
        marked = CHOSEN * (point is cut.choice)
        rows.append((marked, reads, *_size(point.size), fixed(effect.error_percent), *change))
    at = heads.index("change")
    return Table(
        title=cut.finding,
        lines=[f"whole, with a new classifier too: {percent_text(base.error_percent, base.n)}, n = {base.n:,}"],
        heads=heads if wide else heads[:at] + heads[at + 1 :],
        text=(0, 1),
        rows=rows if wide else [row[:at] + row[at + 1 :] for row in rows],
        below=[]
        if wide
        else [
            *_decisions(cut),
            _out(cut),
            "classifier reads: averages over space, or what the old head makes of them",
            f"the head with fewer errors on {cut.calibration_images:,} images or, if that may be chance, the faster",
            f"regression on {cut.classifier_images:,} training images; ms of one image{_place(cut)}",
            *cut.notes,
        ],
        summary="The network, and its first units",
        drop=(5, 3, 1),
    )


def _size(size: Size) -> tuple[str, str, str, str]:
    first, third = size.latency.quartiles_ms
    return whole(size.units), short(size.macs), f"{size.latency.median_ms:.3g}", f"{first:.3g}–{third:.3g}"


def _decisions(cut: Cut) -> list[str]:
    """Return whether recalibration and fine-tuning are kept, and the test split."""
    lines = []
    if (point := cut.choice) is not None:
        for name, way in (("batch norm recalibrated", "recalibrated"), ("units behind gaps refitted", "refitted")):
            if (repaired := getattr(point, way)) is not None:
                lines.append(f"{name}: {_kept(point.kept == way, repaired, point.cut)}")
        if cut.tuned is not None:
            # Steps are whole: the last one may lie behind the epochs that were asked for.
            all_of_them = max(cut.epochs, cut.tuned_epoch or 0)
            epoch = f", epoch {cut.tuned_epoch:.4g} of {all_of_them:.4g}" if cut.tuned_epoch else ""
            lines.append(f"fine-tuned{epoch}: {_kept(cut.tuned_kept, cut.tuned, point.best)}")
            lines.append(f"after fine-tuning: {_change(cut.tuned, cut.baseline.n)}")
    if cut.test is not None:
        original = cut.test.original
        before = f"{percent_text(original.error_percent, original.n)}, n = {original.n:,}"
        uncut = "uncut" if cut.head is None else "whole"
        lines += [f"test split, {uncut}: {before}", f"test split, cut: {_change(cut.test.cut, original.n)}"]
    return lines + _in_int8(cut)


def _in_int8(cut: Cut) -> list[str]:
    """Return what the network before and after the cut is in int8, and whether the former holds the time too."""
    lines, limit, before = [], cut.budget.latency_ms, "uncut" if cut.head is None else "whole"
    for name, one in zip((before, "cut"), cut.int8, strict=False):
        times = f"{number(one.in_float32.median_ms)} → {number(one.latency.median_ms)} ms"
        lines.append(f"in int8, {name}: {times}, {_change(one.effect, cut.baseline.n)}")
    if cut.int8 and limit is not None and cut.int8[0].latency.median_ms <= limit:
        lines.append(f"in int8 the {before} network holds the latency budget too: howdeep export writes it with --int8")
    return lines


def _chosen(cut: Cut) -> list[str]:
    """Return which units went, by what they were chosen, and how to read the numbers."""
    named = cut.chosen is not None and not cut.budget.given
    chosen = "units as named" if named else f"units chosen on {cut.calibration_images:,} images"
    return [
        _out(cut),
        "error in %: as cut, with norms recalibrated, with the units behind gaps refit; change in points",
        f"* counts, the best on {cut.calibration_images:,} images: fewer errors, or no more and less cross-entropy",
        f"{chosen}, statistics from {cut.statistics_images:,}, refitted on {cut.refitting_images:,}; ms of one"
        f" image{_place(cut)}",
    ]


def _place(cut: Cut) -> str:
    return cut.original.latency.aside or f", threads: {cut.threads}"


def _out(cut: Cut) -> str:
    """Return the names of the first units that go."""
    out = [removal.name for removal in cut.order[: cut.chosen]]
    more = f" and {len(out) - NAMED} more" if len(out) > NAMED else ""
    return f"{'out' if cut.chosen is not None else 'first out'}: {', '.join(out[:NAMED]) or 'none'}{more}"


def _kept(kept: bool, new: Effect, old: Effect) -> str:
    return f"{'kept' if kept else 'discarded'} ({new.error_percent:.2f} % against {old.error_percent:.2f} %)"


def _change(effect: Effect, n: int) -> str:
    interval = change_text(effect.change_low, effect.change_high)
    return f"{percent_text(effect.error_percent, n)}, {effect.change:+.2f} points (95 %: {interval})"


def _order(cut: Cut) -> Table:
    rows = [(one.name, str(place), str(one.index), number(one.distance)) for place, one in enumerate(cut.order, 1)]
    heads = ["name", "place", "unit", "distance without it"]
    return Table(heads=heads, text=(0,), rows=rows, summary=f"The order of {counted(len(rows), 'unit')}")
