"""The chart of a fit: what every network reached, and when."""

import altair as alt

from howdeep.figures.base import RESIDUAL, STOCHASTIC, Chart
from howdeep.figures.dissection import GREY, WIDTH, _title
from howdeep.fitting.answer import Contender
from howdeep.fitting.records import Fit

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
    return alt.layer(*layers).properties(title=_title(fit_finding(found)), width=WIDTH, height=320)


def fit_finding(found: Fit) -> str:
    """Return the sentence of a fit."""
    low, high = found.verdict.depths
    between = f" ({low} to {high} cannot be told apart)" if low != high else ""
    error = found.validation_error_percent if found.test is None else found.test.error_percent
    return f"{found.depth} layers{between}: {error:.1f} % error, {found.latency.median_ms:.2g} ms per image"


def _line(one: Contender, colour: str, width: float) -> alt.Chart:
    rows = [{"seconds": rung.seconds, "error": rung.validation_error_percent} for rung in one.rungs]
    last = max(rung.seconds for rung in one.rungs)
    first = min(rung.seconds for rung in one.rungs)
    marks = [seconds for seconds in TIMES if first / 3 <= seconds <= 3 * last]
    line = alt.Chart(alt.Data(values=rows)).mark_line(
        color=colour, strokeWidth=width, point=alt.OverlayMarkDef(color=colour, size=55)
    )
    return line.encode(
        x=alt.X("seconds:Q", title="training time of the network (s)", scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(values=marks, grid=False, format="~s")),
        y=alt.Y("error:Q", title="validation error (%)", scale=alt.Scale(domainMin=0)),
    )  # fmt: skip


def _names(contenders: list[Contender], colour: str) -> alt.Chart:
    rows = [
        {"seconds": one.rungs[-1].seconds, "error": one.rungs[-1].validation_error_percent, "depth": one.costs.depth}
        for one in contenders
    ]
    text = alt.Chart(alt.Data(values=rows)).mark_text(align="left", dx=8, fontSize=13, color=colour, fontWeight="bold")
    return text.encode(x="seconds:Q", y="error:Q", text="depth:N")


def _test(found: Fit, chosen: Contender) -> alt.LayerChart:
    """Return the test error with two standard errors on either side, at the end of the chosen network's line."""
    assert found.test is not None
    test, half = found.test.error_percent, 1.96 * found.test.standard_error
    seconds = chosen.rungs[-1].seconds
    data = alt.Data(values=[{"seconds": seconds, "error": test, "low": max(0.0, test - half), "high": test + half,
                             "text": f"test {test:.1f} %"}])  # fmt: skip
    base = alt.Chart(data).encode(x="seconds:Q")
    return alt.LayerChart(layer=[
        base.mark_rule(color=STOCHASTIC, strokeWidth=2).encode(y="low:Q", y2="high:Q"),
        base.mark_point(color=STOCHASTIC, filled=True, size=90, opacity=1).encode(y="error:Q"),
        base.mark_text(align="right", dx=-9, fontSize=13, color=STOCHASTIC).encode(y="error:Q", text="text:N"),
    ])  # fmt: skip
