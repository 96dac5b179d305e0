"""Chart of costs: what depth costs, predicted as a line, measured as points."""

import altair as alt

from howdeep.costs.cost import Ladder
from howdeep.costs.model import Costs
from howdeep.costs.tables import cost_finding
from howdeep.figures.base import GREY, PLAIN, RESIDUAL, Chart, data, told

WIDTH, HEIGHT = 215, 230
PANELS = {
    "latency_ms": ("latency of one image (ms)", 1.0),
    "training_ms": ("training, per image (ms)", 1.0),
    "memory_bytes": ("peak memory of training (MB)", 1e-6),
}
"""Cost → title of its axis, and the factor to its unit."""
FITTED, CHECK = "measured, fitted on", "measured, not fitted on"


def costs(found: list[Ladder]) -> Chart:
    """Return cost against depth: latency, training time and peak memory, one row of panels per ladder."""
    rows = [_ladder(ladder) for ladder in found]
    return alt.vconcat(*rows, spacing=30)


def _ladder(found: Ladder) -> alt.HConcatChart:
    names = [name for name in PANELS if any(getattr(rung.measured, name, None) for rung in found.rungs)]
    title = alt.Title(cost_finding(found), subtitle=_subtitle(found), fontSize=16, anchor="start", offset=14,
                      subtitleFontSize=13)  # fmt: skip
    return alt.hconcat(*(_panel(found, name) for name in names), spacing=22).properties(title=title)


def _subtitle(found: Ladder) -> str:
    points = f"line: predicted; blue: {FITTED}; orange: {CHECK}"
    setting = f"{found.size}×{found.size} pixels, batch {found.batch_size}, training in {found.precision}"
    return f"{points} ({setting})" if any(rung.predicted for rung in found.rungs) else setting


def _panel(found: Ladder, name: str) -> Chart:
    title, factor = PANELS[name]
    line = [_row(rung.depth, rung.predicted, name, factor, "predicted") for rung in found.rungs if rung.predicted]
    points = [
        _row(rung.depth, rung.measured, name, factor, CHECK if rung.predicted and not rung.fitted else FITTED)
        for rung in found.rungs
        if rung.measured
    ]
    x = alt.X("depth:Q", title="layers", scale=alt.Scale(type="log", nice=False, padding=12),
              axis=alt.Axis(values=_shown([rung.depth for rung in found.rungs]), grid=False))  # fmt: skip
    y = alt.Y(
        "value:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=12), axis=_decades([*line, *points])
    )
    colours = alt.Scale(domain=[FITTED, CHECK], range=[RESIDUAL, PLAIN])
    drawn = alt.Chart(data(line)).mark_line(color=GREY, strokeWidth=2.5).encode(x=x, y=y)
    dots = alt.Chart(data(points)).mark_point(filled=True, size=75, opacity=1)
    dots = dots.encode(x=x, y=y, color=alt.Color("what:N", scale=colours, legend=None))
    return alt.layer(*([drawn] if line else []), told(dots)).properties(width=WIDTH, height=HEIGHT)


def _row(depth: int, of: Costs | None, name: str, factor: float, what: str) -> dict:
    value = getattr(of, name, None)
    scaled = None if value is None else value * factor
    tell = "" if scaled is None else f"{depth} layers: {PANELS[name][0]} {scaled:.3g}, {what}"
    return {"depth": depth, "value": scaled, "what": what, "tell": tell}


def _shown(depths: list[int]) -> list[int]:
    """Return the depths whose labels do not overlap on a logarithmic axis."""
    kept: list[int] = []
    for depth in depths:
        if not kept or depth >= 1.5 * kept[-1]:
            kept.append(depth)
    return kept


def _decades(rows: list[dict]) -> alt.Axis:
    values = [row["value"] for row in rows if row["value"]]
    low, high = min(values), max(values)
    digits = (1, 2, 5) if high < 500 * low else (1,)
    steps = [digit * 10.0**power for power in range(-9, 16) for digit in digits]
    return alt.Axis(values=[step for step in steps if low / 1.4 <= step <= 1.4 * high], format=",.3~r")
