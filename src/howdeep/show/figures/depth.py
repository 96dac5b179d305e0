"""Charts against depth: what layers cost, and which error more layers bring."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
    GREY,
    PLAIN,
    RESIDUAL,
    STOCHASTIC,
    Chart,
    data,
    described,
)

if TYPE_CHECKING:
    from howdeep.costs.cost import Cost, Ladder
    from howdeep.costs.predicting import Costs
    from howdeep.search.degradation import Degradation

PANEL_WIDTH, PANEL_HEIGHT = 215, 230
PANELS = {
    "latency_ms": ("latency of one image (ms)", 1.0),
    "training_ms": ("training, per image (ms)", 1.0),
    "memory_bytes": ("peak memory of training (MB)", 1e-6),
}
"""Cost → title of its axis, and the factor to its unit."""
FITTED, CHECK = "measured, fitted on", "measured, not fitted on"
DEPTH_WIDTH, DEPTH_HEIGHT = 560, 320
COLOURS = {"plain": PLAIN, "residual": RESIDUAL}
OTHERS = (STOCHASTIC, "#cc79a7", "#e69f00", "#56b4e9")
"""Colours of families that have none of their own (Okabe and Ito 2008)."""
APART = 0.06
"""Height of a line of a name, as a share of the chart's."""
LINE = 18
"""Letters of a line of a name."""
MARGIN = 1.08
"""Air left of the first depth and right of the last, as a factor."""


def costs(record: Cost) -> Chart:
    """Return cost against depth: latency, training time and peak memory, one row of panels per ladder."""
    return alt.vconcat(*map(_panels, record.ladders), spacing=30)


def ladder(record: Ladder) -> Chart:
    """Return the same of one ladder."""
    return alt.vconcat(_panels(record), spacing=30)


def _panels(record: Ladder) -> alt.HConcatChart:
    names = [name for name in PANELS if any(getattr(one.measured, name, None) for one in record.depths)]
    setting = f"{record.size}×{record.size} pixels, batch {record.batch_size}, training in {record.precision}"
    setting += f", latency{record.aside}" * bool(record.aside)
    if any(one.predicted for one in record.depths):
        setting = f"line: predicted; blue: {FITTED}; orange: {CHECK} ({setting})"
    title = alt.Title(record.finding, subtitle=setting, fontSize=16, anchor="start", offset=14, subtitleFontSize=13)
    return alt.hconcat(*(_panel(record, name) for name in names), spacing=22).properties(title=title)


def _panel(record: Ladder, name: str) -> Chart:
    """Return one cost: predicted as a line, measured as points."""
    line = [_row(one.depth, one.predicted, name, "predicted") for one in record.depths if one.predicted]
    points = [
        _row(one.depth, one.measured, name, CHECK if one.predicted and not one.fitted else FITTED)
        for one in record.depths
        if one.measured
    ]
    labelled: list[int] = []  # on a logarithmic axis the others would overlap
    for one in record.depths:
        if not labelled or one.depth >= 1.5 * labelled[-1]:
            labelled.append(one.depth)
    scale = alt.Scale(type="log", nice=False, padding=12)
    x = alt.X("depth:Q", title="layers", scale=scale, axis=alt.Axis(values=labelled, grid=False))
    y = alt.Y("value:Q", title=PANELS[name][0], scale=scale, axis=_decades([*line, *points]))
    colours = alt.Scale(domain=[FITTED, CHECK], range=[RESIDUAL, PLAIN])
    drawn = alt.Chart(data(line)).mark_line(color=GREY, strokeWidth=2.5).encode(x=x, y=y)
    dots = alt.Chart(data(points)).mark_point(filled=True, size=75, opacity=1)
    dots = dots.encode(x=x, y=y, color=alt.Color("what:N", scale=colours, legend=None))
    return alt.layer(*([drawn] if line else []), described(dots)).properties(width=PANEL_WIDTH, height=PANEL_HEIGHT)


def _row(depth: int, of: Costs, name: str, what: str) -> dict:
    title, factor = PANELS[name]
    value = getattr(of, name)
    scaled = None if value is None else value * factor
    tell = "" if scaled is None else f"{depth} layers: {title} {scaled:.3g}, {what}"
    return {"depth": depth, "value": scaled, "what": what, "tell": tell}


def _decades(rows: list[dict]) -> alt.Axis:
    values = [row["value"] for row in rows if row["value"]]
    low, high = min(values), max(values)
    digits = (1, 2, 5) if high < 500 * low else (1,)
    steps = [digit * 10.0**power for power in range(-9, 16) for digit in digits]
    return alt.Axis(values=[step for step in steps if low / 1.4 <= step <= 1.4 * high], format=",.3~r")


@dataclass(frozen=True)
class DepthPoint:
    """One point of a line."""

    family: str
    """Name beside the line."""
    depth: int
    """Layers."""
    error_percent: float
    """Error."""
    low: float
    """Lower end of the whisker."""
    high: float
    """Upper end."""
    train_error_percent: float | None = None
    """Point of the dashed line; None draws none."""
    runs: tuple[float, ...] = ()
    """Errors of the seeds behind a mean, a small dot each."""
    enough: bool = False
    """Whether it gets the ring of what is enough."""

    @property
    def tell(self) -> str:
        """What its marks tell."""
        training = "" if self.train_error_percent is None else f", training {self.train_error_percent:.2f} %"
        error = f"{self.error_percent:.2f} % error (95 %: {self.low:.2f} to {self.high:.2f})"
        return f"{self.family}, {self.depth:,} layers: {error}{training}"


def degradation(record: Degradation) -> Chart:
    """Return validation error with 95 % intervals, and training error dashed, against depth."""
    points = []
    for family in record.families:
        for point in family.points:
            if (error := point.validation) is not None:
                training = point.training and point.training.mean
                seeds, enough = error.runs if len(error.runs) > 1 else (), point.depth == family.diagnosis.enough
                numbers = (point.depth, error.mean, error.low, error.high, training)
                points.append(DepthPoint(family.label, *numbers, runs=seeds, enough=enough))
    marks = "solid: validation error with 95 % intervals; dashed: training error"
    marks += "; ring: enough" * any(point.enough for point in points)
    return by_depth(points, record.finding, marks + "; small dots: seeds" * any(point.runs for point in points))


def by_depth(points: Sequence[DepthPoint], title: str, subtitle: str, y_title: str = "error (%)") -> Chart:
    """Return error against depth, one line per family.

    Args:
        points: Of all families.
        title: The finding, in one sentence.
        subtitle: What lines and whiskers are.
        y_title: What the error is.
    """
    top = min(100.0, 1.08 * max((max(p.high, p.train_error_percent or 0, *p.runs) for p in points), default=100.0))
    rows = [
        {
            "family": point.family,
            "depth": point.depth,
            "error_percent": point.error_percent,
            "low": max(0.0, point.low),
            "high": min(top, point.high),
            "train_error_percent": point.train_error_percent,
            "tell": point.tell,
        }
        for point in points
    ]
    families, others = list(dict.fromkeys(point.family for point in points)), iter(OTHERS)
    colours = [COLOURS.get(family) or next(others, GREY) for family in families]
    colour = alt.Color("family:N", legend=None, scale=alt.Scale(domain=families, range=colours))
    depths = sorted({point.depth for point in points}) or [1]  # where no run ended in numbers, the title says so
    axis = alt.Axis(values=depths, grid=False, format=",d", labelOverlap=True)
    reach = alt.Scale(type="log", nice=False, domain=[depths[0] / MARGIN, depths[-1] * MARGIN])
    base = alt.Chart(data(rows)).encode(x=alt.X("depth:Q", title="layers", scale=reach, axis=axis), color=colour)
    y = alt.Y("error_percent:Q", title=y_title, scale=alt.Scale(domain=[0, top], nice=False))
    layers = [
        base.mark_line(strokeWidth=3).encode(y=y),
        described(base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q")),
        described(base.mark_point(filled=True, size=80, opacity=1).encode(y=y)),
        _names(points, top, colour),
    ]
    pairs = list(zip(rows, points, strict=True))
    if seeds := [
        {**row, "error_percent": run, "tell": f"{point.family}, {point.depth:,} layers, a seed: {run:.2f} % error"}
        for row, point in pairs
        for run in point.runs
    ]:
        dots = base.mark_point(filled=True, size=22, opacity=0.6, xOffset=6).encode(y=y)
        layers.append(described(dots.properties(data=data(seeds))))
    if enough := [{**row, "tell": f"enough: {row['tell']}"} for row, point in pairs if point.enough]:
        rings = base.mark_point(size=330, strokeWidth=2).encode(y=y)
        layers.append(described(rings.properties(data=data(enough))))
    if any(point.train_error_percent is not None for point in points):
        layers.insert(0, base.mark_line(strokeWidth=2, strokeDash=[3, 4]).encode(y="train_error_percent:Q"))
    text = textwrap.wrap(title[:1].upper() + title[1:], 76)
    heading = alt.Title(text, subtitle=subtitle, fontSize=17, subtitleFontSize=13, anchor="start", offset=12)
    return alt.layer(*layers).properties(title=heading, width=DEPTH_WIDTH, height=DEPTH_HEIGHT)


def _names(points: Sequence[DepthPoint], top: float, colour: alt.Color) -> alt.Chart:
    """Return the names of the families, right of their last points, moved up where they would overlap."""
    last = {point.family: point for point in sorted(points, key=lambda point: point.depth)}
    rows, free = [], {}
    for point in sorted(last.values(), key=lambda point: point.error_percent):
        lines = textwrap.wrap(point.family, LINE)
        place = max(point.error_percent, free.get(point.depth, 0.0)) + APART * top * (len(lines) - 1)
        free[point.depth] = place + APART * top
        rows.append({"family": point.family, "depth": point.depth, "place": place, "name": "\n".join(lines)})
    text = alt.Chart(data(rows)).mark_text(
        align="left", baseline="line-bottom", dx=10, dy=8, fontSize=14, fontWeight="bold", lineBreak="\n"
    )
    return text.encode(x="depth:Q", y="place:Q", text="name:N", color=colour)
