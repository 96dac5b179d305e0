"""Charts of dissections: what each unit is good for, the paths by length, signal and gradient through the depth."""

import math
import textwrap

import altair as alt

from howdeep.dissect.findings import flow_finding, lesion_finding, measured, paths_finding
from howdeep.dissect.lesion import Lesion
from howdeep.dissect.paths import Paths
from howdeep.figures.base import PLAIN, RESIDUAL, STOCHASTIC, Chart
from howdeep.signals import Flow

WIDTH = 640
GREY, SHADE = "#777777", "#dce9f2"


def lesion(found: Lesion) -> Chart:
    """Return error by unit, by k, by Kendall's τ, or by pair, with the intact network as a line."""
    if found.units:
        return _by_unit(found)
    if found.kind == "permute":
        return _by_tau(found)
    return _by_k(found) if found.by_k else _by_pair(found)


def _title(text: str) -> alt.Title:
    return alt.Title(_wrapped(text), fontSize=16, anchor="start", offset=14)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text[:1].upper() + text[1:], 84)


def _intact(found: Lesion) -> alt.LayerChart:
    """Return the line of the intact network, with its name."""
    data = alt.Data(values=[{"error": found.baseline.error_percent, "text": "intact"}])
    line = alt.Chart(data).mark_rule(strokeDash=[5, 4], color=GREY, strokeWidth=1.5).encode(y="error:Q")
    text = alt.Chart(data).mark_text(align="left", dx=WIDTH + 5, color=GREY, fontSize=13)
    return alt.LayerChart(layer=[line, text.encode(y="error:Q", x=alt.value(0), text="text:N")])


def _by_unit(found: Lesion) -> Chart:
    rows = [
        {"unit": unit.index, "name": unit.name, "error": unit.error_percent, "low": found.baseline.error_percent,
         "bottom": (unit.error_percent or 0) - (unit.standard_error or 0),
         "top": (unit.error_percent or 0) + (unit.standard_error or 0)}
        for unit in measured(found)
    ]  # fmt: skip
    last = len(found.units)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("unit:Q", title="unit", scale=alt.Scale(domain=[0.5, last + 0.5], nice=False), axis=alt.Axis(
            values=_ticks(last), grid=False)),
        tooltip=[alt.Tooltip("name:N"), alt.Tooltip("error:Q", format=".2f")],
    )  # fmt: skip
    y = alt.Y("error:Q", title="test error without the unit (%)" if found.kind == "delete" else "error (%)",
              scale=alt.Scale(domainMin=0))  # fmt: skip
    width = max(1, min(18, 0.7 * WIDTH / last))
    layers = [
        base.mark_bar(size=width, color=RESIDUAL).encode(y=y, y2="low:Q"),
        base.mark_rule(color="#333333").encode(y="bottom:Q", y2="top:Q"),
        _intact(found),
    ]
    if last > 100:
        del layers[1]
    return alt.layer(*layers).properties(title=_title(lesion_finding(found)), width=WIDTH, height=300)


def _ticks(last: int) -> list[int]:
    step = next(step for step in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if last / step <= 20)
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def _by_k(found: Lesion) -> Chart:
    rows = [{"k": trial.k, "error": trial.effect.error_percent} for trial in found.trials]
    means = [{"k": 0, "error": found.baseline.error_percent}]
    means += [{"k": row.k, "error": row.error_percent} for row in found.by_k]
    x = alt.X("k:Q", title="units taken out at random", axis=alt.Axis(tickMinStep=1, grid=False))
    y = alt.Y("error:Q", title="error (%)", scale=alt.Scale(domainMin=0))
    return alt.layer(
        alt.Chart(alt.Data(values=rows)).mark_point(color=RESIDUAL, opacity=0.35, filled=True).encode(x=x, y=y),
        alt.Chart(alt.Data(values=means)).mark_line(color=RESIDUAL, strokeWidth=3, point=True).encode(x=x, y=y),
        _intact(found),
    ).properties(title=_title(lesion_finding(found)), width=WIDTH, height=300)


def _by_tau(found: Lesion) -> Chart:
    rows = [{"tau": trial.kendall_tau, "error": trial.effect.error_percent} for trial in found.trials]
    x = alt.X("tau:Q", title="Kendall's τ of the order of the units (1: as trained)", axis=alt.Axis(grid=False),
              scale=alt.Scale(zero=False, reverse=True))  # fmt: skip
    y = alt.Y("error:Q", title="error (%)", scale=alt.Scale(domainMin=0))
    points = alt.Chart(alt.Data(values=rows)).mark_point(color=RESIDUAL, filled=True, opacity=0.7, size=60)
    return alt.layer(points.encode(x=x, y=y), _intact(found)).properties(
        title=_title(lesion_finding(found)), width=WIDTH, height=300
    )


def _by_pair(found: Lesion) -> Chart:
    rows = [
        {"first": trial.units[0], "second": trial.units[1], "change": trial.effect.change} for trial in found.trials
    ]
    ordinal = alt.Axis(labelOverlap=True, labelAngle=0)
    chart = alt.Chart(alt.Data(values=rows)).mark_rect()
    encoded = chart.encode(
        x=alt.X("first:O", title="unit", axis=ordinal),
        y=alt.Y("second:O", title="and unit", axis=ordinal),
        color=alt.Color("change:Q", title="points of error", scale=alt.Scale(scheme="cividis")),
    )
    return alt.layer(encoded).properties(title=_title(lesion_finding(found)), width=420, height=420)


def paths(found: Paths) -> Chart:
    """Return the three panels of the literature: paths, gradient per path, and all of the gradient, by length."""
    inside = found.effective or found.effective_by_sample
    counts = [
        {"length": length, "value": math.log10(int(count))}
        for length, count in zip(found.lengths, found.path_count, strict=True)
    ]
    panels = [_panel(found, counts, "number of paths (log 10)", inside, RESIDUAL)]
    if found.sampled:
        single = [{"length": one.length, "value": math.log10(one.mean)} for one in found.sampled if one.mean > 0]
        panels.append(_panel(found, single, "gradient of one path (log 10)", inside, PLAIN))
    panels.append(_panel(found, _products(found), "share of the gradient (%)", inside, STOCHASTIC))
    return alt.hconcat(*panels, spacing=18).properties(title=_title(paths_finding(found)))


def _products(found: Paths) -> list[dict]:
    """Return the share of each length: exact where it was computed, else paths × mean of the sampled ones."""
    if found.gradient_norm is not None:
        values = dict(zip(found.lengths, found.gradient_norm, strict=True))
    else:
        logs = {one.length: one.log10_product for one in found.sampled if one.log10_product is not None}
        top = max(logs.values(), default=0.0)
        values = {length: 10 ** (log - top) for length, log in logs.items()}
    whole = math.fsum(values.values()) or 1.0
    return [{"length": length, "value": 100 * value / whole} for length, value in values.items()]


def _panel(found: Paths, rows: list[dict], title: str, inside, colour: str) -> Chart:
    x = alt.X("length:Q", title="branches passed", axis=alt.Axis(grid=False, tickMinStep=1))
    line = alt.Chart(alt.Data(values=rows)).mark_line(color=colour, strokeWidth=2.5, point=_dots(rows, colour))
    layers: list = [line.encode(x=x, y=alt.Y("value:Q", title=title))]
    if inside is not None:
        shade = [{"from": inside.lengths[0] - 0.5, "to": inside.lengths[-1] + 0.5}]
        band = alt.Chart(alt.Data(values=shade)).mark_rect(color=SHADE)
        layers.insert(0, band.encode(x="from:Q", x2="to:Q"))
    return alt.layer(*layers).properties(width=210, height=250)


def _dots(rows: list[dict], colour: str) -> alt.OverlayMarkDef | bool:
    return alt.OverlayMarkDef(color=colour, size=30) if len(rows) < 80 else False


def flow(found: Flow) -> Chart:
    """Return what each unit reads and adds, and the gradient that arrives at it, both on logarithmic axes."""
    signal = [{"unit": unit.index, "what": "stream", "value": unit.stream_std} for unit in found.units]
    signal += [{"unit": unit.index, "what": "branch", "value": unit.branch_std} for unit in found.units]
    gradient = [{"unit": unit.index, "what": "gradient", "value": unit.input_gradient} for unit in found.units]
    return (
        alt.vconcat(
            _through(signal, "standard deviation", len(found.units)),
            _through(gradient, "gradient norm", len(found.units)),
        )
        .resolve_scale(color="independent")
        .properties(title=_title(flow_finding(found)))
    )


def _decades(values: list[float]) -> alt.Axis:
    """Return an axis with one line per decade, or per few of them, or at 1, 2 and 5 where there are few decades."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    step = max(1, (last - first) // 8)
    digits = (1, 2, 5) if last - first <= 2 else (1,)
    return alt.Axis(
        values=[digit * 10.0**power for power in range(first, last + 1, step) for digit in digits], format="~g"
    )


def _through(rows: list[dict], title: str, last: int) -> Chart:
    kept = [row for row in rows if row["value"]]
    names = list(dict.fromkeys(row["what"] for row in rows))
    colours = alt.Scale(domain=names, range=[RESIDUAL, PLAIN][: len(names)] if len(names) > 1 else [STOCHASTIC])
    base = alt.Chart(alt.Data(values=kept)).encode(
        x=alt.X("unit:Q", title="unit", scale=alt.Scale(domain=[1, max(2, last)], nice=False), axis=alt.Axis(
            values=_ticks(last), grid=False)),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(type="log"), axis=_decades([row["value"] for row in kept])),
        color=alt.Color("what:N", title=None, scale=colours, legend=alt.Legend(orient="right") if len(names) > 1
                        else None),
    )  # fmt: skip
    return alt.layer(base.mark_line(strokeWidth=2.5, point=last < 80)).properties(width=WIDTH, height=180)
