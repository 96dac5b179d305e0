"""The chart of a cut: error against latency, before and after each repair, with the budget as a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
    GREY,
    PLAIN,
    PURPLE,
    RESIDUAL,
    STOCHASTIC,
    WIDTH,
    Chart,
    data,
    described,
    heading,
    level,
    limit,
)
from howdeep.util.intervals import of_share
from howdeep.util.text import counted, percent_text

if TYPE_CHECKING:
    from howdeep.cutting.records import Cut, Point, Size

CUT, RECALIBRATED, REFITTED, TUNED = "as cut", "batch norm recalibrated", "units refitted", "fine-tuned"
HEADS = {"pooled": "classifier on averages", "kept": "classifier in the old head"}
COLOURS = {CUT: PLAIN, RECALIBRATED: RESIDUAL, REFITTED: PURPLE}
COLOURS |= {HEADS["kept"]: PLAIN, HEADS["pooled"]: RESIDUAL, TUNED: STOCHASTIC}
HEIGHT, LABELS = 340, 10
"""Pixels, and points that say how many units they have, about as many at most."""
NOT_KEPT = 0.3
"""Opacity of a network that another with the same units is better than."""


def frontier(record: Cut) -> Chart:
    """Return error against latency of the network and of all its cuts."""
    rows = [row for point in record.points for row in _rows(record, point)]
    kinds = [kind for kind in COLOURS if any(row["kind"] == kind for row in rows)]
    scale = alt.Scale(domain=kinds, range=[COLOURS[kind] for kind in kinds])
    legend = alt.Legend(orient="top", labelFontSize=13, labelLimit=300)
    colour = alt.Color("kind:N", title=None, scale=scale, legend=legend)
    # The uncut network begins every line.
    uncut = {"out": 0, "kept": True, **_row("uncut", record.original, record.baseline.error_percent, record)}
    lines = [{**uncut, "kind": kind} for kind in kinds if kind != TUNED] + rows
    x, y = _x(record, lines), _y(record, lines)
    low = y.copy()
    low.shorthand = "low:Q"
    base = alt.Chart(data(lines)).encode(x=x, y=y, color=colour, order="out:Q")
    kept = alt.condition("datum.kept", alt.value(1.0), alt.value(NOT_KEPT))
    intervals = alt.Chart(data(rows)).mark_rule(strokeWidth=1.5, clip=True)
    layers = [
        *_budget(record, x, y),
        base.transform_filter(f"datum.kind != '{TUNED}'").mark_line(strokeWidth=2),
        described(intervals.encode(x=x, y=low, y2="high:Q", color=colour)),
        described(base.mark_point(filled=True, size=60).encode(opacity=kept)),
        _labels(record, lines, x),
    ]
    return alt.layer(*layers).properties(title=heading(record.finding), width=WIDTH, height=HEIGHT)


def _rows(record: Cut, point: Point) -> list[dict]:
    """Return a cut as it is, repaired and fine-tuned, with 95 % intervals."""
    effects = {CUT if point.head is None else HEADS[point.head.name]: point.cut}
    for kind, repaired in ((RECALIBRATED, point.recalibrated), (REFITTED, point.refitted)):
        if repaired is not None:
            effects[kind] = repaired
    if record.tuned is not None and point is record.choice:
        effects[TUNED] = record.tuned
    best = record.best if point.out == record.chosen else point.best
    rows = []
    for kind, effect in effects.items():
        low, high = of_share(effect.error_percent, record.baseline.n)
        row = _row(kind, point.size, effect.error_percent, record)
        rows.append({**row, "out": point.out, "low": low, "high": high, "kept": effect is best})
    return rows


def _row(kind: str, size: Size, error: float, record: Cut) -> dict:
    units, ms = size.units, size.latency.median_ms
    tell = f"{counted(units, 'unit')}, {kind}: error {percent_text(error, record.baseline.n)}, {ms:.3g} ms per image"
    return {"kind": kind, "units": units, "ms": ms, "error": error, "tell": tell}


def _x(record: Cut, rows: list[dict]) -> alt.X:
    times = [row["ms"] for row in rows] + ([record.budget.latency_ms] if record.budget.latency_ms is not None else [])
    margin = 0.06 * (max(times) - min(times) or max(times))
    domain = [max(0.0, min(times) - margin), max(times) + margin]
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    title = f"latency of one image{record.original.latency.aside} (ms)"
    return alt.X("ms:Q", title=title, axis=alt.Axis(grid=False), scale=scale)


def _y(record: Cut, rows: list[dict]) -> alt.Y:
    """Return the axis of the error: logarithmic where it spans more than a decade."""
    title, limit = "error (%), 95 % intervals", record.budget.error_increase
    errors = [row["error"] for row in rows] + ([record.baseline.error_percent + limit] if limit is not None else [])
    if min(errors) > 0 and max(errors) > 10 * min(errors):
        axis = alt.Axis(values=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], format="~g")
        domain = [0.7 * min(errors), min(100.0, 1.25 * max(errors))]
        return alt.Y("error:Q", title=title, axis=axis, scale=alt.Scale(type="log", domain=domain, nice=False))
    bounds = [row[name] for row in rows for name in ("low", "high") if name in row] + errors
    return alt.Y("error:Q", title=title, scale=alt.Scale(zero=False, domain=[min(bounds), max(bounds)], nice=True))


def _budget(record: Cut, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Return the lines of the budgets that the axes show, with what they are."""
    layers, budget = [], record.budget
    if budget.latency_ms is not None:
        text = f"budget {budget.latency_ms:g} ms"
        row = {"ms": budget.latency_ms, "text": text, "tell": text}
        words = alt.Chart(data([row])).mark_text(align="left", dx=6, color=GREY, fontSize=13)
        layers += [limit(row).encode(x=x), words.encode(x=x, y=alt.value(12), text="text:N")]
    if budget.error_increase is not None:
        text = f"uncut + {budget.error_increase:g} points"
        error = record.baseline.error_percent + budget.error_increase
        layers += level({"error": error, "text": text, "tell": text}, y)
    return layers


def _labels(record: Cut, rows: list[dict], x: alt.X) -> alt.Chart:
    """Return how many units the network has, and the cuts, above them where there is room."""
    kind = CUT if record.head is None else HEADS[record.head]
    labelled = [row for row in rows if row["kind"] == kind]
    ends = [row for row in labelled if row["out"] in (0, record.chosen)]
    room = (max(row["ms"] for row in labelled) - min(row["ms"] for row in labelled)) / LABELS
    shown = list(ends)
    for row in labelled:
        if all(abs(row["ms"] - other["ms"]) >= room for other in shown):
            shown.append(row)
    named = [{**row, "text": counted(row["units"], "unit") if row in ends else f"{row['units']}"} for row in shown]
    chart = alt.Chart(data(named)).mark_text(fontSize=12, color=GREY)
    return chart.encode(x=x, y=alt.value(-8), text="text:N")
