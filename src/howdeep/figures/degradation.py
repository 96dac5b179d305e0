"""Error against depth, one colour per family."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from howdeep.figures.base import PLAIN, RESIDUAL, STOCHASTIC, Chart, data, told
from howdeep.ladders.degradation import Degradation, FamilyResult

WIDTH, HEIGHT = 560, 320
COLOURS = {"plain": PLAIN, "residual": RESIDUAL}
OTHERS = (STOCHASTIC, "#cc79a7", "#e69f00", "#56b4e9")
"""Colours of families that have none of their own (Okabe and Ito 2008)."""
APART = 0.06
"""Height of a line of a name, as a share of the chart's."""
LINE = 18
"""Letters of a line of a name."""


MARGIN = 1.08


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


def degradation(found: Degradation) -> Chart:
    """Return validation error with 95 % intervals, and training error dashed, against depth."""
    points = [point for family in found.families for point in _points(family)]
    whiskers = f"95 % interval over {len(found.seeds)} seeds" if len(found.seeds) > 1 else "95 % interval"
    return by_depth(points, found.finding, f"solid: validation error, {whiskers}; dashed: training error")


def by_depth(points: Sequence[DepthPoint], title: str, subtitle: str, y_title: str = "error (%)") -> Chart:
    """Return error against depth, one line per family.

    Args:
        points: Of all families.
        title: The finding, in one sentence.
        subtitle: What lines and whiskers are.
        y_title: What the error is.
    """
    top = min(100.0, 1.08 * max((max(p.high, p.train_error_percent or 0) for p in points), default=100.0))
    rows = [
        vars(point) | {"low": max(0.0, point.low), "high": min(top, point.high), "tell": _tell(point)}
        for point in points
    ]
    families = list(dict.fromkeys(point.family for point in points))
    colour = alt.Color("family:N", legend=None, scale=alt.Scale(domain=families, range=_colours(families)))
    depths = sorted({point.depth for point in points}) or [1]  # where no run ended in numbers, the title says so
    axis = alt.Axis(values=depths, grid=False, format=",d", labelOverlap=True)
    base = alt.Chart(data(rows)).encode(
        x=alt.X("depth:Q", title="layers", scale=_reach(depths), axis=axis), color=colour
    )
    y = alt.Y("error_percent:Q", title=y_title, scale=alt.Scale(domain=[0, top], nice=False))
    layers = [
        base.mark_line(strokeWidth=3).encode(y=y),
        told(base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q")),
        told(base.mark_point(filled=True, size=80, opacity=1).encode(y=y)),
        _names(points, top, colour),
    ]
    if any(point.train_error_percent is not None for point in points):
        layers.insert(0, base.mark_line(strokeWidth=2, strokeDash=[3, 4]).encode(y="train_error_percent:Q"))
    text = textwrap.wrap(title[:1].upper() + title[1:], 76)
    heading = alt.Title(text, subtitle=subtitle, fontSize=17, subtitleFontSize=13, anchor="start", offset=12)
    return alt.layer(*layers).properties(title=heading, width=WIDTH, height=HEIGHT)


def _tell(point: DepthPoint) -> str:
    training = point.train_error_percent
    more = "" if training is None else f", training {training:.2f} %"
    between = f"95 %: {point.low:.2f} to {point.high:.2f}"
    return f"{point.family}, {point.depth:,} layers: {point.error_percent:.2f} % error ({between}){more}"


def _reach(depths: Sequence[int]) -> alt.Scale:
    """Return a logarithmic axis with some air left of the first depth and right of the last."""
    return alt.Scale(type="log", nice=False, domain=[depths[0] / MARGIN, depths[-1] * MARGIN])


def _points(family: FamilyResult) -> list[DepthPoint]:
    return [
        DepthPoint(family.label, point.depth, error.mean, error.low, error.high, point.training and point.training.mean)
        for point in family.points
        if (error := point.validation) is not None
    ]


def _colours(families: Sequence[str]) -> list[str]:
    others = iter(OTHERS)
    return [COLOURS.get(family) or next(others, "#777777") for family in families]


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
