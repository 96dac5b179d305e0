"""The chart of a fit: error and latency over depth, a line per width; and error against training time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
    GREY,
    INK,
    PURPLE,
    RESIDUAL,
    STOCHASTIC,
    Chart,
    data,
    described,
    error_row,
    heading,
    limit,
)
from howdeep.util.text import number, percent_text, seconds_text

if TYPE_CHECKING:
    from howdeep.search.answer import Candidate
    from howdeep.search.fit import Fit
    from howdeep.search.study import RoundResult

TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
"""Seconds at which people expect a mark."""
COLOURS = ("#56b4e9", RESIDUAL, "#e69f00", PURPLE, INK, GREY)
"""Of the lines, by turns; narrow first. What is taken is green, and a diamond."""
PANEL, WHOLE = 245, 860
"""Pixels of a panel, and of all of them."""
ROOM = 0.12
"""Air around the points of a logarithmic axis, as a share of its length."""


def fit(record: Fit) -> Chart:
    """Return error over depth and training time, and latency over depth; a colour per width, what is taken marked."""
    named = list(dict.fromkeys(_line(record, one) for one in record.candidates))
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(named))]
    legend = alt.Legend(orient="top", labelFontSize=13, symbolType="stroke", symbolStrokeWidth=3)
    scale = alt.Scale(domain=named, range=colours)
    colour = alt.Color("line:N", title=None, scale=scale, legend=legend if len(named) > 1 else None)
    rows = [_row(record, one, each) for one in record.candidates for each in _results(record, one)]
    y = _errors([row["error"] for row in rows])
    first = [row for row in rows if row["taken"] or row["first"]]
    panels = [
        _panel(record, first, y, colour, "depth", "layers", "line"),
        _latency(record, rows, colour),
        _panel(record, rows, y, colour, "seconds", "training time (s)", "network"),
    ]
    epochs = [row["epochs"] for row in first if row["first"]]
    passes = f" ({min(epochs):.3g} to {max(epochs):.3g} epochs)" if epochs and min(epochs) != max(epochs) else ""
    said = f"left: first round, equal time{passes}; right: every round; diamond: the answer"
    said += "; bar: its test error, 95 %" * (record.test is not None)
    said += "; hollow: misses the latency budget" * bool(_missed(record))
    title = heading(record.finding, width=WHOLE, subtitle=said)
    return alt.hconcat(*panels, spacing=26).properties(title=title)


def _errors(errors: list[float]) -> alt.Y:
    """Return the axis of the error: logarithmic where it spans more than a decade."""
    low, high, title = min(errors), min(100.0, 1.08 * max(errors)), "validation error (%)"
    if 0 < 10 * low < high:
        axis = alt.Axis(values=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], format="~g")
        return alt.Y(
            "error:Q", title=title, axis=axis, scale=alt.Scale(type="log", domain=[0.5 * low, high], nice=False)
        )
    return alt.Y("error:Q", title=title, scale=alt.Scale(domain=[0, high], nice=False))


def _line(record: Fit, one: Candidate) -> str:
    """Return what networks that differ in depth only are called."""
    families = {each.costs.family for each in record.candidates}
    return f"{one.costs.family} " * (len(families) > 1) + f"width {one.costs.width}"


def _results(record: Fit, one: Candidate) -> list[RoundResult]:
    return [*one.rounds, *([record.final] if one.costs.network == record.network else [])]


def _row(record: Fit, one: Candidate, result: RoundResult) -> dict:
    error, taken = result.validation_error_percent, result is record.final
    ms = record.latency.median_ms if one.costs.network == record.network else one.costs.latency.median_ms
    after = f"{one.costs.network} after {seconds_text(result.seconds)}, {result.epochs:.3g} epochs"
    return {
        "line": _line(record, one),
        "network": one.costs.network,
        "depth": one.costs.depth,
        "seconds": result.seconds,
        "ms": ms,
        "error": error,
        "taken": taken,
        "first": result is one.rounds[0] if one.rounds else False,
        "epochs": result.epochs,
        "tell": f"{after}: {percent_text(error, record.validation_images)} (validation), {number(ms)} ms",
    }


def _panel(
    record: Fit, rows: list[dict], y: alt.Y, colour: alt.Color, name: str, title: str, detail: str
) -> alt.LayerChart:
    """Return errors against one thing.

    Args:
        record: The fit.
        rows: The points.
        y: Errors.
        colour: Of widths.
        name: Where the thing stands in a row.
        title: Of its axis.
        detail: What points of one line have in common.
    """
    x = alt.X(f"{name}:Q", title=title, scale=_reach(rows, name), axis=_marks(rows, name))
    taken = [row for row in rows if row["taken"]]
    base = alt.Chart(data(row for row in rows if not row["taken"])).encode(x=x, y=y, color=colour)
    mark = alt.Chart(data(taken)).encode(x=x, y=y)
    words = mark.mark_text(align="left", dx=12, dy=-12, fontSize=13, fontWeight="bold", color=STOCHASTIC)
    layers = [
        base.mark_line(strokeWidth=2, opacity=0.75).encode(detail=f"{detail}:N"),
        described(base.mark_point(filled=True, size=50, opacity=1)),
        *_tested(record, taken, x, y, name),
        described(mark.mark_point(filled=True, size=150, shape="diamond", color=STOCHASTIC, opacity=1)),
        words.transform_calculate(text=f"'{record.final.validation_error_percent:.1f} %'").encode(text="text:N"),
    ]
    return alt.LayerChart(layer=layers).properties(width=PANEL, height=PANEL)


def _latency(record: Fit, rows: list[dict], colour: alt.Color) -> alt.LayerChart:
    """Return the latency of every network over its depth, with the budget as a line."""
    each = list({row["network"]: row for row in rows}.values())
    taken, missed = [row for row in rows if row["taken"]], _missed(record)
    budget = record.budgets.latency_seconds
    line = [] if budget is None else [{"ms": 1000 * budget, "tell": f"budget {1000 * budget:g} ms"}]
    title = f"latency of one image{record.latency.aside} (ms)"
    everything = [*each, *missed]
    x = alt.X("depth:Q", title="layers", scale=_reach(everything, "depth"), axis=_marks(everything, "depth"))
    high = [*everything, *line]
    y = alt.Y("ms:Q", title=title, scale=_reach(high, "ms"), axis=_marks(high, "ms", grid=True))
    base, mark = alt.Chart(data(each)).encode(x=x, y=y, color=colour), alt.Chart(data(taken)).encode(x=x, y=y)
    layers = [base.mark_line(strokeWidth=2, opacity=0.75).encode(detail="line:N")]
    if line:
        words = alt.Chart(data(line)).mark_text(align="left", dx=4, dy=-8, color=GREY, fontSize=13)
        words = words.encode(x=alt.value(0), y=y, text=alt.value(line[0]["tell"]))
        layers += [limit(line[0]).encode(y=y), words]
    if missed:
        hollow = alt.Chart(data(missed)).mark_point(size=50, color=GREY, opacity=1).encode(x=x, y=y)
        layers.append(described(hollow))
    diamond = mark.mark_point(filled=True, size=150, shape="diamond", color=STOCHASTIC, opacity=1)
    layers += [described(base.mark_point(filled=True, size=50, opacity=1)), described(diamond)]
    return alt.LayerChart(layer=layers).properties(width=PANEL, height=PANEL)


def _missed(record: Fit) -> list[dict]:
    """Return the networks that were too slow, as far as it is known how slow."""
    slow = [one for one in record.dropped if one.budget == "latency" and one.needed]
    return [
        {"depth": one.depth, "ms": 1000 * one.needed, "tell": f"{one.network}, left out: {one.reason}"}
        for one in slow
        if one.needed is not None
    ]


def _tested(record: Fit, taken: list[dict], x: alt.X, y: alt.Y, name: str) -> list[alt.Chart]:
    """Return the test error of what is taken with its interval, beside its validation error over depth."""
    if record.test is None or name != "depth":
        return []
    row = {"depth": taken[0]["depth"], **error_row(record.test.error_percent, record.test.n)}
    whisker = alt.Chart(data([row])).mark_rule(color=STOCHASTIC, strokeWidth=2, clip=True)
    low = y.copy()
    low.shorthand = "low:Q"
    return [described(whisker.encode(x=x, y=low, y2="high:Q"))]


def _reach(rows: list[dict], name: str) -> alt.Scale:
    values = [row[name] for row in rows]
    air = max((max(values) / min(values)) ** ROOM, 1.1)
    return alt.Scale(type="log", domain=[min(values) / air, max(values) * air], nice=False)


def _marks(rows: list[dict], name: str, *, grid: bool = False) -> alt.Axis:
    values = sorted({row[name] for row in rows})
    if name == "depth":
        return alt.Axis(values=values, grid=False, format="d", labelOverlap=True)
    if name == "seconds":
        return alt.Axis(
            values=[mark for mark in TIMES if values[0] / 3 <= mark <= 3 * values[-1]], grid=False, format="~s"
        )
    marks = [digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5)]
    return alt.Axis(values=[mark for mark in marks if values[0] / 2 <= mark <= 2 * values[-1]], grid=grid, format="~g")
