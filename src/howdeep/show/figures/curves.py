"""Charts of training: errors, learning rate and open units over the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
    DOTTED,
    GREY,
    INK,
    PLAIN,
    PURPLE,
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from howdeep.training.log import Curves

TRAINING, VALIDATION, TEST = "training (augmented)", "validation", "test"
COLOURS = {VALIDATION: RESIDUAL, TRAINING: PLAIN, TEST: STOCHASTIC}
RUNS = (RESIDUAL, PLAIN, STOCHASTIC, PURPLE, "#e69f00", "#56b4e9", GREY, INK)
"""Colours of runs; more than these get a scale from dark to light."""
LEAST = 0.1
"""Percent at which a logarithmic axis of errors ends."""


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


def overlaid(runs: Sequence[tuple[str, Curves]]) -> Chart:
    """Return the errors of several trainings over the epochs: of validation, and of training dashed.

    Args:
        runs: Names and curves, each of at least one epoch; seeds of one network have one name, and one colour.
    """
    rows = []
    for number, (name, record) in enumerate(runs):
        for one in record.epochs:
            for what, error in ((VALIDATION, one.validation_error_percent), (TRAINING, one.train_error_percent)):
                if error is not None:
                    tell = f"{name}, epoch {one.epoch:.4g}: {error:.2f} % {what} error"
                    of = {"run": name, "number": number, "what": what}
                    rows.append({"epoch": one.epoch, **of, "error": max(error, LEAST), "tell": tell})
    names, high = list(dict.fromkeys(name for name, _ in runs)), max(row["error"] for row in rows)
    few = len(names) <= len(RUNS)
    scale = alt.Scale(domain=names, range=list(RUNS)) if few else alt.Scale(domain=names, scheme="viridis")
    legend = alt.Legend(orient="right", symbolType="stroke", symbolStrokeWidth=3)
    colour = alt.Color("run:N", title=None, sort=None, scale=scale, legend=legend)
    domain = [min(row["error"] for row in rows), min(100.0, 1.1 * high)]
    axis = alt.Axis(values=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], format="~g")
    y = alt.Y("error:Q", title="error (%)", axis=axis, scale=alt.Scale(type="log", domain=domain, nice=False))
    x = alt.X("epoch:Q", axis=alt.Axis(grid=False, title="epoch", tickMinStep=1, format="~r"))
    layers = []
    for what, dash, width in ((TRAINING, [3, 4], 1.2), (VALIDATION, [1, 0], 2.2)):
        of = [row for row in rows if row["what"] == what]
        base = alt.Chart(data(of)).encode(x=x, y=y, color=colour, detail="number:N")
        layers.append(base.mark_line(strokeDash=dash, strokeWidth=width))
        if len(of) <= DOTTED:
            layers.append(described(base.mark_point(filled=True, size=14, opacity=1)))
    told = f"solid: validation; dashed: training (augmented); {LEAST:g} % and less at the lower end"
    title = heading(f"training and validation error of {len(runs)} runs", subtitle=told)
    return alt.layer(*layers).properties(title=title, width=WIDTH - 160, height=300)


def _x(record: Curves, *, labels: bool) -> alt.X:
    last = max((one.epoch for one in record.epochs), default=1.0)
    axis = alt.Axis(grid=False, labels=labels, title="epoch" if labels else None, tickMinStep=1, format="~r")
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
