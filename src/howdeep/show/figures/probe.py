"""The chart of a probe: error and latency against depth, with the depth that is recommended through both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
    GREY,
    INK,
    PLAIN,
    RESIDUAL,
    SHADE,
    WIDTH,
    Chart,
    data,
    described,
    heading,
    level,
    ticks,
    traced,
)
from howdeep.show.sentences import depth_text

if TYPE_CHECKING:
    from howdeep.analysis.depths import Depth, Probe

ERROR_HEIGHT, TIME_HEIGHT = 280, 130
BIG = 170
"""Square pixels of the point of the recommended depth."""


def probe(record: Probe) -> Chart:
    """Return error over latency, both against the number of units; the whole network stands behind the last unit."""
    others = any(_by_head(depth) for depth in record.depths)
    marks = ["band: 95 % interval of each error", "orange: recommended"]
    marks += ["rings: units and the head"] if others else []
    title = heading(record.finding, subtitle="; ".join(marks))
    return alt.vconcat(_errors(record), _latencies(record), spacing=14).properties(title=title)


def _place(record: Probe, depth: Depth) -> int:
    """Return where a depth stands on the axis: the whole network has a place of its own."""
    return record.units + 1 if depth.whole else depth.units


def _by_head(depth: Depth) -> bool:
    """Whether a depth is beside the line: as many units as another one, and the head."""
    return depth.head == "kept" and not depth.whole


def _x(record: Probe, *, labels: bool) -> alt.X:
    last = record.units + 1
    named = [tick for tick in ticks(record.units) if tick < last - 1 or tick == record.units]
    words = f"datum.value == 0 ? 'stem' : datum.value == {last} ? 'end' : datum.label"
    axis = alt.Axis(values=[0, *named, last], labelExpr=words, grid=False, labels=labels, ticks=labels, format="d")
    scale = alt.Scale(domain=[-0.4, last + 0.4], nice=False)
    return alt.X("place:Q", title="units of the network" if labels else None, axis=axis, scale=scale)


def _rows(record: Probe) -> list[dict]:
    rows = []
    for at, depth in enumerate(record.depths):
        fitted, ms = depth.fitted, depth.latency
        name = depth_text(record, depth)
        error = f"{fitted.error_percent:.2f} % error (95 %: {fitted.low:.2f} to {fitted.high:.2f})"
        nearest = f"nearest neighbour {depth.neighbour_error_percent:.2f} %"
        spread = f"quartiles {ms.quartiles_ms[0]:.3g} to {ms.quartiles_ms[1]:.3g}"
        rows.append(
            {
                "place": _place(record, depth),
                "error": fitted.error_percent,
                "low": fitted.low,
                "high": fitted.high,
                "ms": ms.median_ms,
                "chosen": at == record.chosen,
                "by_head": _by_head(depth),
                "tell": f"{name} ({depth.name}): {error}, {nearest}, {ms.median_ms:.3g} ms per image ({spread})",
            }
        )
    return rows


def _errors(record: Probe) -> alt.LayerChart:
    every = _rows(record)
    rows = [row for row in every if not row["by_head"]]
    x, y = _x(record, labels=False), alt.Y("error:Q", title="error (%)", scale=alt.Scale(domainMin=0))
    base = alt.Chart(data(rows)).encode(x=x)
    band = base.mark_area(color=SHADE).encode(y=alt.Y("low:Q", title="error (%)"), y2="high:Q")
    layers = [band, *traced(base.encode(y=y), len(rows), 2.5, 60, RESIDUAL)]
    heads = [row for row in every if row["by_head"]]
    if heads:
        rings = alt.Chart(data(heads)).mark_point(color=RESIDUAL, size=60, strokeWidth=1.5)
        layers.append(described(rings.encode(x=x, y=y)))
    layers += [_through(every, x), *_points(every, x, y), *_words(record, every, "{error:.1f} %", x, y)]
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=ERROR_HEIGHT)


def _latencies(record: Probe) -> alt.LayerChart:
    every = _rows(record)
    rows = [row for row in every if not row["by_head"]]
    title = f"one image{record.choice.latency.aside} (ms)"
    x, y = _x(record, labels=True), alt.Y("ms:Q", title=title, scale=alt.Scale(domainMin=0))
    base = alt.Chart(data(rows)).encode(x=x, y=y)
    layers = [*traced(base, len(rows), 2.5, 60, GREY), _through(every, x), *_points(every, x, y)]
    layers += _words(record, every, "{ms:.3g} ms", x, y)
    if record.budget_ms is not None:
        text = f"budget {record.budget_ms:.3g} ms"
        layers += level({"ms": record.budget_ms, "text": text, "tell": text}, y)
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=TIME_HEIGHT)


def _through(rows: list[dict], x: alt.X) -> alt.Chart:
    """Return the line through both panels at the recommended depth."""
    chosen = [row for row in rows if row["chosen"]]
    return alt.Chart(data(chosen)).mark_rule(color=PLAIN, strokeWidth=1.5, opacity=0.6).encode(x=x)


def _points(rows: list[dict], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    chosen = alt.Chart(data([row for row in rows if row["chosen"]])).encode(x=x, y=y)
    return [described(chosen.mark_point(filled=True, size=BIG, color=PLAIN, opacity=1))]


def _words(record: Probe, rows: list[dict], form: str, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Return what the recommended depth and the whole network have, right of the line and above the last point."""
    last, layers = record.units + 1, []
    for row in rows:
        if row["chosen"] or row["place"] == last:
            align, dx = ("right", 10) if row["place"] == last else ("left", 9)
            text = alt.Chart(data([{**row, "text": form.format(**row)}])).mark_text(
                align=align, dx=dx, dy=-15, fontSize=14, fontWeight="bold", color=INK
            )
            layers.append(text.encode(x=x, y=y, text="text:N"))
    return layers
