"""The chart of a training run: errors, learning rate and open units over the epochs."""

from collections.abc import Sequence

import altair as alt

from howdeep.show.figures.base import (
    DOTTED,
    GREY,
    PLAIN,
    RESIDUAL,
    STOCHASTIC,
    WIDTH,
    Chart,
    data,
    described,
    dot_size,
    error_row,
    heading,
)
from howdeep.show.sentences import curves_finding
from howdeep.training.log import Curves

TRAINING, VALIDATION, TEST = "training (augmented)", "validation", "test"
COLOURS = {VALIDATION: RESIDUAL, TRAINING: PLAIN, TEST: STOCHASTIC}


def curves(record: Curves) -> Chart:
    """Return training and validation error over the epochs, the test error at their end, and the learning rate."""
    rates, opened = [one.lr for one in record.epochs], [one.open_units for one in record.epochs]
    axis = alt.Axis(tickCount=3, format="~g")
    y = alt.Y("lr:Q", title=["learning", "rate"], axis=axis, scale=alt.Scale(domainMin=0))
    panels = [_errors(record), _small(record, "lr", "learning rate", rates, y, last=not record.open_units_vary)]
    if record.open_units_vary:
        scale = alt.Scale(domain=[0, record.units], nice=False)
        y = alt.Y("open:Q", title=["open", "units"], axis=alt.Axis(tickCount=3), scale=scale)
        panels.append(_small(record, "open", "open units", opened, y, last=True))
    return alt.vconcat(*panels, spacing=10).properties(title=heading(curves_finding(record)))


def _x(record: Curves, *, labels: bool) -> alt.X:
    last = max((one.epoch for one in record.epochs), default=1.0)
    axis = alt.Axis(grid=False, labels=labels, title="epoch" if labels else None, tickMinStep=1)
    return alt.X("epoch:Q", axis=axis, scale=alt.Scale(domain=[0, last * 1.02], nice=False))


def _errors(record: Curves) -> alt.LayerChart:
    rows = []
    for one in record.epochs:
        rows.append(_row(one.epoch, TRAINING, one.train_error_percent))
        if one.validation_error_percent is not None:
            rows.append(_row(one.epoch, VALIDATION, one.validation_error_percent))
    names = [name for name in COLOURS if any(row["what"] == name for row in rows) or (name == TEST and record.test)]
    scale = alt.Scale(domain=names, range=[COLOURS[name] for name in names])
    colour = alt.Color("what:N", title=None, scale=scale, legend=alt.Legend(orient="top", labelFontSize=13))
    base = alt.Chart(data(rows)).encode(
        x=_x(record, labels=False), y=alt.Y("error:Q", title="error (%)", scale=alt.Scale(domainMin=0)), color=colour
    )
    layers = [base.mark_line(strokeWidth=2.5)]
    if len(record.epochs) <= DOTTED:
        layers.append(described(base.mark_point(filled=True, size=dot_size(len(record.epochs), 45), opacity=1)))
    layers += _test(record, colour)
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=270)


def _row(epoch: float, what: str, error: float) -> dict:
    return {"epoch": epoch, "what": what, "error": error, "tell": f"epoch {epoch:.4g}: {error:.2f} % {what} error"}


def _test(record: Curves, colour: alt.Color) -> list[alt.Chart]:
    """Return the test error with its 95 % interval, at the last epoch."""
    if record.test is None or not record.epochs:
        return []
    row = {"epoch": record.epochs[-1].epoch, "what": TEST, **error_row(record.test.error_percent, record.test.n)}
    base = alt.Chart(data([row])).encode(x="epoch:Q", color=colour)
    return [
        described(base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q")),
        described(base.mark_point(filled=True, size=110, shape="diamond", opacity=1).encode(y="error:Q")),
    ]


def _small(record: Curves, name: str, title: str, values: Sequence[float], y: alt.Y, *, last: bool) -> alt.LayerChart:
    """Return a low panel of one thing that the training did."""
    rows = [
        {"epoch": one.epoch, name: value, "tell": f"epoch {one.epoch:.4g}: {title} {value:.3g}"}
        for one, value in zip(record.epochs, values, strict=True)
    ]
    base = alt.Chart(data(rows)).encode(x=_x(record, labels=last), y=y)
    layers = [base.mark_line(color=GREY, strokeWidth=2)]
    if len(rows) <= DOTTED:
        layers.append(described(base.mark_point(filled=True, size=dot_size(len(rows), 25), color=GREY, opacity=1)))
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=60)
