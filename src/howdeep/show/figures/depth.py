"""Charts against depth and time: what layers cost, and which error more layers or more training bring."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from howdeep.costs.cost import Cost, Ladder
from howdeep.costs.predicting import Costs
from howdeep.search.answer import Candidate
from howdeep.search.degradation import Degradation
from howdeep.search.fit import Fit
from howdeep.show.figures.base import (
    GREY,
    PLAIN,
    RESIDUAL,
    STOCHASTIC,
    WIDTH,
    Chart,
    data,
    described,
    error_row,
    heading,
)
from howdeep.util.text import seconds_text

PANEL_WIDTH, PANEL_HEIGHT = 215, 230
PANELS = {
    "latency_ms": ("latency of one image (ms)", 1.0),
    "training_ms": ("training, per image (ms)", 1.0),
    "memory_bytes": ("peak memory of training (MB)", 1e-6),
}
"""Cost → title of its axis, and the factor to its unit."""
FITTED, CHECK = "measured, fitted on", "measured, not fitted on"


def costs(record: Cost) -> Chart:
    """Return cost against depth: latency, training time and peak memory, one row of panels per ladder."""
    return alt.vconcat(*map(_panels, record.ladders), spacing=30)


def ladder(record: Ladder) -> Chart:
    """Return the same of one ladder."""
    return costs(Cost(ladders=(record,)))


def _panels(record: Ladder) -> alt.HConcatChart:
    names = [name for name in PANELS if any(getattr(one.measured, name, None) for one in record.depths)]
    setting = f"{record.size}×{record.size} pixels, batch {record.batch_size}, training in {record.precision}"
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
                points.append(DepthPoint(family.label, point.depth, error.mean, error.low, error.high, training))
    whiskers = f"95 % interval over {len(record.seeds)} seeds" if len(record.seeds) > 1 else "95 % interval"
    return by_depth(points, record.finding, f"solid: validation error, {whiskers}; dashed: training error")


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
        vars(point) | {"low": max(0.0, point.low), "high": min(top, point.high), "tell": point.tell} for point in points
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


TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
"""Seconds at which people expect a mark."""


def fit(record: Fit) -> Chart:
    """Return validation error against training time, one line per network, the chosen one on top, budgets told."""
    chosen = next(one for one in record.candidates if one.costs.network == record.network)
    others = [one for one in record.candidates if one is not chosen and one.rounds]
    layers: list = [_line(one, GREY, 1.5) for one in others]
    layers += [_line(chosen, RESIDUAL, 3.5), _candidate_names(others, GREY), _candidate_names([chosen], RESIDUAL)]
    if (test := record.test) is not None:
        text = f"test {test.error_percent:.1f} %"
        row = {"seconds": chosen.rounds[-1].seconds, "text": text, **error_row(test.error_percent, test.n)}
        base = alt.Chart(data([row])).encode(x="seconds:Q")
        whisker = base.mark_rule(color=STOCHASTIC, strokeWidth=2).encode(y="low:Q", y2="high:Q")
        point = base.mark_point(color=STOCHASTIC, filled=True, size=90, opacity=1).encode(y="error:Q")
        words = base.mark_text(align="right", dx=4, dy=-10, fontSize=13, color=STOCHASTIC)
        marks = [described(whisker), described(point), words.encode(y="high:Q", text="text:N")]
        layers.append(alt.LayerChart(layer=marks))
    return alt.layer(*layers).properties(title=heading(record.finding), width=WIDTH, height=320)


def _line(one: Candidate, colour: str, width: float) -> alt.LayerChart:
    """Return the rounds of one network."""
    rows = []
    for result in one.rounds:
        error = result.validation_error_percent
        after = f"{one.costs.network} after {seconds_text(result.seconds)}, {result.epochs:.3g} epochs"
        tell = f"{after}: {error:.2f} % error (validation)"
        rows.append({"seconds": result.seconds, "error": error, "tell": tell})
    first, last = rows[0]["seconds"], rows[-1]["seconds"]
    marks = [seconds for seconds in TIMES if first / 3 <= seconds <= 3 * last]
    axis = alt.Axis(values=marks, grid=False, format="~s")
    scale = alt.Scale(type="log", nice=False)
    x = alt.X("seconds:Q", title="training time of the network (s)", scale=scale, axis=axis)
    y = alt.Y("error:Q", title="validation error (%)", scale=alt.Scale(domainMin=0))
    base = alt.Chart(data(rows)).encode(x=x, y=y)
    points = base.mark_point(color=colour, filled=True, size=55, opacity=1)
    return alt.LayerChart(layer=[base.mark_line(color=colour, strokeWidth=width), described(points)])


def _candidate_names(candidates: list[Candidate], colour: str) -> alt.Chart:
    rows = []
    for one in candidates:
        last = one.rounds[-1]
        rows.append({"seconds": last.seconds, "error": last.validation_error_percent, "depth": one.costs.depth})
    text = alt.Chart(data(rows)).mark_text(align="left", dx=8, fontSize=13, color=colour, fontWeight="bold")
    return text.encode(x="seconds:Q", y="error:Q", text="depth:N")
