"""Charts of dissections: the paths by length, signal and gradient through the depth."""

import math

import altair as alt

from howdeep.dissect.findings import flow_finding, paths_finding
from howdeep.dissect.paths import Effective, Paths
from howdeep.figures.base import (
    DOTTED,
    PLAIN,
    RESIDUAL,
    SHADE,
    STOCHASTIC,
    WIDTH,
    Chart,
    data,
    dot_size,
    heading,
    ticks,
    told,
)
from howdeep.figures.shares import gradient_shares
from howdeep.figures.unravelled import can_unravel, count_text, unravelled
from howdeep.signals import Flow

AIR = 1.3
"""Factor of air above the largest value and below the least."""
NAMES = {"stream": RESIDUAL, "branch": PLAIN, "gradient": STOCHASTIC}


def study_of_paths(found: Paths) -> Chart:
    """Return the three panels, and below them every path where there are few enough to be drawn one by one."""
    if not can_unravel(found):
        return paths(found)
    return alt.vconcat(paths(found), unravelled(found), spacing=40).resolve_scale(color="independent")


def paths(found: Paths) -> Chart:
    """Return the three panels of the literature: paths, gradient per path, and all of the gradient, by length.

    The range of lengths that carries 95 % of the gradient is shaded.
    """
    inside = found.effective or found.effective_by_sample
    panels = [_panel(_counts(found), "number of paths (log 10)", inside, RESIDUAL)]
    if found.sampled:
        panels.append(_panel(_single(found), "gradient of one path (log 10)", inside, PLAIN))
    shares = [
        {"length": length, "value": share, "tell": f"length {length}: {share:.3g} % of the gradient"}
        for length, share in gradient_shares(found).items()
    ]
    panels.append(_panel(shares, "share of the gradient (%)", inside, STOCHASTIC))
    return alt.hconcat(*panels, spacing=18).properties(title=heading(paths_finding(found)))


def _counts(found: Paths) -> list[dict]:
    rows = []
    for length, count in zip(found.lengths, map(int, found.path_count), strict=True):
        tell = f"length {length}: {count_text(count)} paths"
        rows.append({"length": length, "value": math.log10(count), "tell": tell})
    return rows


def _single(found: Paths) -> list[dict]:
    """Return one path's gradient by length, from the product, which knows those below the range of floats too."""
    counts = dict(zip(found.lengths, map(int, found.path_count), strict=True))
    rows = []
    for one in found.sampled:
        if one.log10_product is not None:
            log = one.log10_product - math.log10(counts[one.length])
            tell = f"length {one.length}: 10^{log:.2f}, the gradient of one path (mean of {one.draws})"
            rows.append({"length": one.length, "value": log, "tell": tell})
    return rows


def _panel(rows: list[dict], title: str, inside: Effective | None, colour: str) -> alt.LayerChart:
    x = alt.X("length:Q", title="branches passed", axis=alt.Axis(grid=False, tickMinStep=1, tickCount=6))
    base = alt.Chart(data(rows)).encode(x=x, y=alt.Y("value:Q", title=title))
    layers = [base.mark_line(color=colour, strokeWidth=2.5)]
    if len(rows) <= DOTTED:
        layers.append(told(base.mark_point(color=colour, filled=True, size=dot_size(len(rows), 30), opacity=1)))
    if inside is not None:
        first, last = inside.lengths[0], inside.lengths[-1]
        tell = f"lengths {first} to {last} carry {100 * inside.share:.1f} % of the gradient"
        band = alt.Chart(data([{"from": first - 0.5, "to": last + 0.5, "tell": tell}])).mark_rect(color=SHADE)
        layers.insert(0, told(band.encode(x=alt.X("from:Q", title="branches passed"), x2="to:Q")))
    return alt.LayerChart(layer=layers).properties(width=170, height=230)


def flow(found: Flow) -> Chart:
    """Return what each unit reads and adds, and the gradient that arrives at it, both on logarithmic axes."""
    signal = [_place(unit.index, "stream", unit.stream_std) for unit in found.units]
    signal += [_place(unit.index, "branch", unit.branch_std) for unit in found.units]
    gradient = [_place(unit.index, "gradient", unit.input_gradient) for unit in found.units]
    last = len(found.units)
    panels = [_through(signal, "standard deviation", last), _through(gradient, "gradient norm", last)]
    return alt.vconcat(*panels).resolve_scale(color="independent").properties(title=heading(flow_finding(found)))


def _place(unit: int, what: str, value: float | None) -> dict:
    kind = "norm at its input" if what == "gradient" else "standard deviation"
    tell = f"unit {unit}: {what}, {kind} {value:.4g}" if value is not None else ""
    return {"unit": unit, "what": what, "value": value, "tell": tell}


def _decades(values: list[float]) -> tuple[alt.Scale, alt.Axis]:
    """Return a logarithmic axis with one line per decade or per few of them, or at 1, 2 and 5 of few decades."""
    if not values:
        return alt.Scale(type="log"), alt.Axis()
    low, high = min(values) / AIR, max(values) * AIR
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step, digits = max(1, (last - first) // 8), (1, 2, 5) if last - first <= 2 else (1,)
    marks = [digit * 10.0**power for power in range(first, last + 1, step) for digit in digits]
    axis = alt.Axis(values=[mark for mark in marks if low <= mark <= high], format="~g")
    return alt.Scale(type="log", domain=[low, high], nice=False), axis


def _through(rows: list[dict], title: str, last: int) -> alt.LayerChart:
    """Return one panel through the depth; what is 0 has no place on its axis."""
    kept = [row for row in rows if row["value"]]
    names = list(dict.fromkeys(row["what"] for row in rows))
    axis, (height, lines) = alt.Axis(values=ticks(last), grid=False), _decades([row["value"] for row in kept])
    scale = alt.Scale(domain=names, range=[NAMES[name] for name in names])
    base = alt.Chart(data(kept)).encode(
        x=alt.X("unit:Q", title="unit", scale=alt.Scale(domain=[1, max(2, last)], nice=False), axis=axis),
        y=alt.Y("value:Q", title=title, scale=height, axis=lines),
        color=alt.Color("what:N", title=None, scale=scale, legend=alt.Legend(orient="top") if len(names) > 1 else None),
    )
    layers = [base.mark_line(strokeWidth=2.5)]
    if last <= DOTTED:
        layers.append(told(base.mark_point(filled=True, size=dot_size(last, 40), opacity=1)))
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=180)
