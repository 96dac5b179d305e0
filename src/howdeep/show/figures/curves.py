"""Charts of training: errors, learning rate and open units over the epochs; many networks against time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
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
    traced,
)
from howdeep.util.text import seconds_text

if TYPE_CHECKING:
    from howdeep.search.answer import Candidate
    from howdeep.search.fit import Fit
    from howdeep.training.log import Curves

TRAINING, VALIDATION, TEST = "training (augmented)", "validation", "test"
COLOURS = {VALIDATION: RESIDUAL, TRAINING: PLAIN, TEST: STOCHASTIC}
TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
"""Seconds at which people expect a mark."""


def curves(record: Curves) -> Chart:
    """Return training and validation error over the epochs, the test error at their end, and the learning rate."""
    axis = alt.Axis(tickCount=3, format="~g")
    y = alt.Y("lr:Q", title=["learning", "rate"], axis=axis, scale=alt.Scale(domainMin=0))
    rates = [_row(one.epoch, "lr", one.lr, "learning rate") for one in record.epochs]
    panels = [_errors(record), _low(record, rates, y, last=not record.open_units_vary)]
    if record.open_units_vary:
        scale = alt.Scale(domain=[0, record.units], nice=False)
        y = alt.Y("open:Q", title=["open", "units"], axis=alt.Axis(tickCount=3), scale=scale)
        opened = [_row(one.epoch, "open", one.open_units, "open units") for one in record.epochs]
        panels.append(_low(record, opened, y, last=True))
    return alt.vconcat(*panels, spacing=10).properties(title=heading(record.finding))


def _x(record: Curves, *, labels: bool) -> alt.X:
    last = max((one.epoch for one in record.epochs), default=1.0)
    axis = alt.Axis(grid=False, labels=labels, title="epoch" if labels else None, tickMinStep=1, format="~g")
    return alt.X("epoch:Q", axis=axis, scale=alt.Scale(domain=[0, last * 1.02], nice=False))


def _errors(record: Curves) -> alt.LayerChart:
    """Return both errors, and that of the test with its 95 % interval at the last epoch."""
    rows = []
    for one in record.epochs:
        for what, error in ((TRAINING, one.train_error_percent), (VALIDATION, one.validation_error_percent)):
            if error is not None:
                tell = f"epoch {one.epoch:.4g}: {error:.2f} % {what} error"
                rows.append({"epoch": one.epoch, "what": what, "error": error, "tell": tell})
    names = [name for name in COLOURS if any(row["what"] == name for row in rows) or (name == TEST and record.test)]
    scale = alt.Scale(domain=names, range=[COLOURS[name] for name in names])
    colour = alt.Color("what:N", title=None, scale=scale, legend=alt.Legend(orient="top", labelFontSize=13))
    y = alt.Y("error:Q", title="error (%)", scale=alt.Scale(domainMin=0))
    base = alt.Chart(data(rows)).encode(x=_x(record, labels=False), y=y, color=colour)
    layers = traced(base, len(record.epochs), 2.5, 45)
    if record.test is not None and record.epochs:
        row = {"epoch": record.epochs[-1].epoch, "what": TEST, **error_row(record.test.error_percent, record.test.n)}
        base = alt.Chart(data([row])).encode(x="epoch:Q", color=colour)
        whisker = base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q")
        point = base.mark_point(filled=True, size=110, shape="diamond", opacity=1).encode(y="error:Q")
        layers += [described(whisker), described(point)]
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=270)


def _row(epoch: float, name: str, value: float, title: str) -> dict:
    return {"epoch": epoch, name: value, "tell": f"epoch {epoch:.4g}: {title} {value:.3g}"}


def _low(record: Curves, rows: list[dict], y: alt.Y, *, last: bool) -> alt.LayerChart:
    """Return a low panel of one thing that the training did; the last one has the epochs below it."""
    base = alt.Chart(data(rows)).encode(x=_x(record, labels=last), y=y)
    return alt.LayerChart(layer=traced(base, len(rows), 2, 25, GREY)).properties(width=WIDTH, height=60)


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
