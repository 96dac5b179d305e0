"""Charts of lesions: the strip, one cell per unit, coloured by what its deletion costs; and error by what was done."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
    GREY,
    INK,
    ON_DEEP,
    ON_PALE,
    RESIDUAL,
    WIDTH,
    Chart,
    data,
    described,
    heading,
    level,
    ticks,
)
from howdeep.show.sentences import measured
from howdeep.util.text import change_text, counted, minus

if TYPE_CHECKING:
    from howdeep.analysis.lesion import Lesion, Trial, UnitEffect

WRITTEN = 30
"""Cells of a row in which a number of 11 pixels fits."""
ROWS_WRITTEN = 4
LONG = 100
"""Cells of a row of a deep network: few enough to see each, and a number to count with."""
TALL, FLAT = 46, 26
"""Pixels of a cell with and without a number in it."""
KNEE = 1.0
"""Points of error up to which the colours are linear; beyond, they are logarithmic."""
COLOURS = {-5.0: "#2f7fc1", 0.0: "#efefef", 1.0: "#fbd06a", 5.0: "#ee8a2b", 20.0: "#b8420f", 90.0: "#4a1204"}
"""Points of error → colour, the same for every network: blue is better, darker is worse, for any colour vision."""
MARKS = (-5, -1, 0, 1, 5, 20, 90)
"""Points of error that the legend names."""
PALE = 7.0
"""Points of error below which letters on a cell are those of a pale one."""
HEIGHT = 300
GROUPS = 9
"""Number of groups of equal size in which orders of similar τ are averaged."""
WHISKERS = 100
"""Units up to which bars have their 95 % intervals."""


def strip(record: Lesion) -> Chart:
    """Return one cell per unit, for studies of one unit at a time (``delete`` and ``duplicate``).

    Up to 30 units stand in one row, and up to 120 in a few, with the cost written in the cells; more in rows of 100.
    Units that could not be taken out are outlined.
    """
    return cells(record).properties(title=strip_heading(record))


def strip_heading(record: Lesion, *, bars: bool = False) -> alt.Title:
    """Return the finding, and what dashed cells and, with bars, whiskers are where there are some."""
    done = "deleted" if record.kind == "delete" else "run twice"
    gaps, whiskers = any(unit.change is None for unit in record.units), bars and len(record.units) <= WHISKERS
    marks = [f"dashed: cannot be {done}"] * gaps + ["whiskers: 95 % interval of the change"] * whiskers
    return heading(record.finding, subtitle="; ".join(marks))


def cells(record: Lesion) -> alt.LayerChart:
    """Return the strip without its title."""
    units, count = len(record.units), math.ceil(len(record.units) / WRITTEN)
    length = max(1, math.ceil(units / count)) if count <= ROWS_WRITTEN else LONG
    rows = [_cell(record, unit, length) for unit in record.units]
    shown, gaps = [row for row in rows if row["change"] is not None], [row for row in rows if row["change"] is None]
    y_axis = alt.Axis(title=None, domain=False, ticks=False, labelFontSize=12) if units > length else None
    y = alt.Y("row:O", sort=None, axis=y_axis, scale=alt.Scale(paddingInner=0.12, paddingOuter=0))
    x = _x(units, length)
    what = "deleting the unit" if record.kind == "delete" else "running the unit twice"
    legend = alt.Legend(
        title=f"points of error that {what} costs",
        titleOrient="left",
        titleLimit=400,
        titlePadding=12,
        titleFontWeight="normal",
        values=list(MARKS),
        format="d",
        orient="top",
        direction="horizontal",
        gradientLength=280,
        gradientThickness=12,
        offset=6,
    )
    colour = alt.Color("change:Q", scale=cost_scale(), legend=legend)
    layers = [described(alt.Chart(data(shown)).mark_rect(stroke=None).encode(x=x, y=y, color=colour))]
    if gaps:
        outlined = alt.Chart(data(gaps)).mark_rect(fill="transparent", stroke=GREY, strokeDash=[3, 2])
        layers.append(described(outlined.encode(x=x, y=y)))
    if length <= WRITTEN:
        dark = alt.when("datum.pale").then(alt.value(ON_PALE)).otherwise(alt.value(ON_DEEP))
        letters = alt.Chart(data(shown)).mark_text(fontSize=11)
        layers.append(letters.encode(x=x, y=y, text="text:N", color=dark))
    height = math.ceil(units / length) * (TALL if length <= WRITTEN else FLAT)
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=height)


def _x(units: int, length: int) -> alt.X:
    """Return the places in a row; a single row, or rows so long that one counts along them, have an axis."""
    title, axis = None, None
    if units <= length or length == LONG:
        title = "unit" if units <= length else f"place in a row of {LONG} units"
        every = 10 if length == LONG else 1
        values = list(range(every, length + 1, every))
        axis = alt.Axis(labelAngle=0, domain=False, ticks=False, values=values, labelFontSize=12, labelOverlap=True)
    scale = alt.Scale(domain=list(range(1, length + 1)), paddingInner=0.06, paddingOuter=0)
    return alt.X("place:O", sort=None, title=title, axis=axis, scale=scale)


def _cell(record: Lesion, unit: UnitEffect, length: int) -> dict:
    first = (unit.index - 1) // length * length + 1
    last = min(first + length - 1, len(record.units))
    place = {"row": f"{first}–{last}" if last > first else str(first), "place": unit.index - first + 1}
    change, text = unit.change, ""
    if change is not None:  # in at most four signs
        text = "0" if abs(change) < 0.05 else minus(f"{change:.1f}" if abs(change) < 9.95 else f"{change:.0f}")
    pale = abs(change or 0.0) < PALE
    return {"unit": unit.index, **place, "change": change, "text": text, "pale": pale, "tell": unit_text(record, unit)}


def unit_text(record: Lesion, unit: UnitEffect) -> str:
    """Return what a mark of one unit tells."""
    number, done = f"unit {unit.index}", "deleted" if record.kind == "delete" else "run twice"
    name = number if unit.name == number else f"{number} ({unit.name})"
    if unit.change is None or unit.error_percent is None:
        return f"{name}: cannot be {done}"
    between = "" if unit.change_low is None else f" (95 %: {change_text(unit.change_low, unit.change_high or 0.0)})"
    return f"{name} {done}: {unit.change:+.2f} points of error{between}, {unit.error_percent:.2f} % in all"


def cost_scale() -> alt.Scale:
    """Return the colours of costs."""
    return alt.Scale(
        type="symlog", constant=KNEE, domain=list(COLOURS), range=list(COLOURS.values()), clamp=True, nice=False
    )


def lesion(record: Lesion) -> Chart:
    """Return the strip over error by unit; or error by k, by Kendall's τ, or by pair, with the baseline."""
    if record.units:
        both = alt.vconcat(cells(record), _by_unit(record), spacing=16)
        return both.properties(title=strip_heading(record, bars=True))
    kinds = {"random": _by_k, "permute": _by_tau, "pairs": _by_pair}
    return kinds[record.kind](record).properties(title=heading(record.finding))


def _by_unit(record: Lesion) -> alt.LayerChart:
    last, baseline, rows = len(record.units), record.baseline, []
    for unit in measured(record):
        error, base = unit.error_percent or 0.0, baseline.error_percent
        # Of the change, which is paired: zero of it is the line of the baseline.
        ends = {"low": base, "bottom": max(0.0, base + (unit.change_low or 0.0))}
        ends["top"] = min(100.0, base + (unit.change_high or 0.0))
        rows.append({"unit": unit.index, "error": error, **ends, "tell": unit_text(record, unit)})
    scale = alt.Scale(domain=[0.5, last + 0.5], nice=False)
    x = alt.X("unit:Q", title="unit", axis=alt.Axis(values=ticks(last), grid=False), scale=scale)
    without = "error without the unit (%)" if record.kind == "delete" else "error with the unit run twice (%)"
    y = alt.Y("error:Q", title=without, scale=alt.Scale(domainMin=0))
    base = alt.Chart(data(rows)).encode(x=x)
    bars = base.mark_bar(size=max(1, min(18, 0.7 * WIDTH / last)), color=RESIDUAL).encode(y=y, y2="low:Q")
    layers = [described(bars), *_baseline(record)]
    if last <= WHISKERS:
        layers.insert(1, described(base.mark_rule(color=INK).encode(y="bottom:Q", y2="top:Q")))
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=HEIGHT)


def _baseline(record: Lesion) -> list[alt.Chart]:
    """Return the line of the error of the whole network, with its name."""
    error = record.baseline.error_percent
    return level({"error": error, "text": "baseline", "tell": f"baseline: {error:.2f} % error"}, "error:Q")


def _by_k(record: Lesion) -> alt.LayerChart:
    baseline = record.baseline.error_percent
    means = [{"k": 0, "error": baseline, "tell": f"baseline: {baseline:.2f} % error"}]
    for row in record.by_k:
        tell = f"{counted(row.k, 'unit')} out: {row.error_percent:.2f} % error, mean of {counted(row.draws, 'draw')}"
        means.append({"k": row.k, "error": row.error_percent, "tell": tell})
    x = alt.X("k:Q", title="units taken out at random", axis=alt.Axis(tickMinStep=1, grid=False))
    return _trials_and_means(record, list(map(_trial, record.trials)), means, x)


def _by_tau(record: Lesion) -> alt.LayerChart:
    """Return the orders by their τ, and the mean error of orders of similar τ."""
    rows = [_trial(trial) for trial in record.trials if trial.kendall_tau is not None]
    rows.sort(key=lambda row: -row["tau"])
    means = [{"tau": 1.0, "error": record.baseline.error_percent, "tell": "order as trained"}]
    size = math.ceil(len(rows) / GROUPS)
    for start in range(0, len(rows), size):
        group = rows[start : start + size]
        tau, error = (statistics.fmean(row[name] for row in group) for name in ("tau", "error"))
        tell = f"mean of {counted(len(group), 'order')}: τ {tau:.3f}, {error:.2f} % error"
        means.append({"tau": tau, "error": error, "tell": tell})
    scale = alt.Scale(zero=False, reverse=True)
    title = "Kendall's τ of the order of the units (1: as trained)"
    return _trials_and_means(record, rows, means, alt.X("tau:Q", title=title, axis=alt.Axis(grid=False), scale=scale))


def _trials_and_means(record: Lesion, rows: list[dict], means: list[dict], x: alt.X) -> alt.LayerChart:
    y = alt.Y("error:Q", title="error (%)", scale=alt.Scale(domainMin=0))
    points = alt.Chart(data(rows)).mark_point(color=RESIDUAL, opacity=0.4, filled=True, size=45).encode(x=x, y=y)
    base = alt.Chart(data(means)).encode(x=x, y=y)
    line = base.mark_line(color=RESIDUAL, strokeWidth=3)
    dots = base.mark_point(color=RESIDUAL, filled=True, size=55, opacity=1)
    layers = [*_baseline(record), described(points), line, described(dots)]
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=HEIGHT)


def _trial(trial: Trial) -> dict:
    error = trial.effect.error_percent
    tell = f"{counted(trial.k, 'unit')} out ({', '.join(map(str, trial.units))}): {error:.2f} % error"
    if trial.kendall_tau is not None:
        tell = f"{counted(trial.k, 'swap')}, τ {trial.kendall_tau:.3f}: {error:.2f} % error"
    return {"k": trial.k, "tau": trial.kendall_tau, "error": error, "tell": tell}


def _by_pair(record: Lesion) -> alt.LayerChart:
    rows = []
    for trial in record.trials:
        (first, second), effect = trial.units, trial.effect
        points = f"{effect.change:+.2f} points of error, {effect.error_percent:.2f} % in all"
        tell = f"units {first} and {second} out: {points}"
        rows.append({"first": first, "second": second, "change": effect.change, "tell": tell})
    ordinal = alt.Axis(labelOverlap=True, labelAngle=0)
    x, y = alt.X("first:O", title="unit", axis=ordinal), alt.Y("second:O", title="and unit", axis=ordinal)
    legend = alt.Legend(title="points of error", values=list(MARKS), format="d", gradientLength=200)
    colour = alt.Color("change:Q", scale=cost_scale(), legend=legend)
    encoded = alt.Chart(data(rows)).mark_rect().encode(x=x, y=y, color=colour)
    return alt.LayerChart(layer=[described(encoded)]).properties(width=420, height=420)
