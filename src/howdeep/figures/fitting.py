"""The chart of a fit: what every network reached, and when."""

import altair as alt

from howdeep.figures.base import GREY, RESIDUAL, STOCHASTIC, WIDTH, Chart, data, error_row, heading, told
from howdeep.fitting.answer import Contender
from howdeep.fitting.records import Fit
from howdeep.fitting.search import Rung
from howdeep.training.journal import seconds_text

TIMES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
"""Seconds at which people expect a mark."""


def fit(found: Fit) -> Chart:
    """Return validation error against training time, one line per network, the chosen one on top, budgets told."""
    chosen = next(one for one in found.contenders if one.costs.network == found.network)
    others = [one for one in found.contenders if one is not chosen and one.rungs]
    layers: list = [_line(one, GREY, 1.5) for one in others]
    layers += [_line(chosen, RESIDUAL, 3.5), _names(others, GREY), _names([chosen], RESIDUAL)]
    if found.test is not None:
        layers.append(_test(found, chosen))
    return alt.layer(*layers).properties(title=heading(fit_finding(found)), width=WIDTH, height=320)


def fit_finding(found: Fit) -> str:
    """Return the sentence of a fit."""
    low, high = found.verdict.depths
    between = f" ({low} to {high} cannot be told apart)" if low != high else ""
    error = found.validation_error_percent if found.test is None else found.test.error_percent
    return f"{found.depth} layers{between}: {error:.1f} % error, {found.latency.median_ms:.2g} ms per image"


def _line(one: Contender, colour: str, width: float) -> alt.LayerChart:
    rows = [_rung(one, rung) for rung in one.rungs]
    first, last = rows[0]["seconds"], rows[-1]["seconds"]
    marks = [seconds for seconds in TIMES if first / 3 <= seconds <= 3 * last]
    base = alt.Chart(data(rows)).encode(
        x=alt.X("seconds:Q", title="training time of the network (s)", scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(values=marks, grid=False, format="~s")),
        y=alt.Y("error:Q", title="validation error (%)", scale=alt.Scale(domainMin=0)),
    )  # fmt: skip
    points = base.mark_point(color=colour, filled=True, size=55, opacity=1)
    return alt.LayerChart(layer=[base.mark_line(color=colour, strokeWidth=width), told(points)])


def _rung(one: Contender, rung: Rung) -> dict:
    error = rung.validation_error_percent
    tell = f"{one.costs.network} after {seconds_text(rung.seconds)}, {rung.epochs:.3g} epochs: {error:.2f} % error"
    return {"seconds": rung.seconds, "error": error, "tell": f"{tell} (validation)"}


def _names(contenders: list[Contender], colour: str) -> alt.Chart:
    rows = [
        {"seconds": one.rungs[-1].seconds, "error": one.rungs[-1].validation_error_percent, "depth": one.costs.depth}
        for one in contenders
    ]
    text = alt.Chart(data(rows)).mark_text(align="left", dx=8, fontSize=13, color=colour, fontWeight="bold")
    return text.encode(x="seconds:Q", y="error:Q", text="depth:N")


def _test(found: Fit, chosen: Contender) -> alt.LayerChart:
    """Return the test error with its 95 % interval, at the end of the chosen network's line."""
    assert found.test is not None
    test, seconds = found.test, chosen.rungs[-1].seconds
    text = f"test {test.error_percent:.1f} %"
    row = {"seconds": seconds, "text": text, **error_row(test.error_percent, test.n)}
    base = alt.Chart(data([row])).encode(x="seconds:Q")
    return alt.LayerChart(layer=[
        told(base.mark_rule(color=STOCHASTIC, strokeWidth=2).encode(y="low:Q", y2="high:Q")),
        told(base.mark_point(color=STOCHASTIC, filled=True, size=90, opacity=1).encode(y="error:Q")),
        base.mark_text(align="right", dx=4, dy=-10, fontSize=13, color=STOCHASTIC).encode(y="high:Q", text="text:N"),
    ])  # fmt: skip
