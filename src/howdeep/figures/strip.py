"""The strip: one cell per unit, coloured by the error that its deletion costs."""

import math

import altair as alt

from howdeep.dissect.findings import lesion_finding
from howdeep.dissect.lesion import Lesion, UnitEffect
from howdeep.figures.base import GREY, ON_DEEP, ON_PALE, WIDTH, Chart, data, heading, told
from howdeep.intervals import change_text

WRITTEN = 30
"""Cells of a row in which a number of 11 pixels fits."""
ROWS_WRITTEN = 4
LONG = 100
"""Cells of a row of a deep network: few enough to see each, and a number to count with."""
TALL, FLAT = 46, 26
"""Pixels of a cell with and without a number in it."""
KNEE = 1.0
"""Points of error up to which the colours are linear; beyond, they are logarithmic."""
COLOURS = {
    -5.0: "#2f7fc1", 0.0: "#efefef", 1.0: "#fbd06a", 5.0: "#ee8a2b", 20.0: "#b8420f", 90.0: "#4a1204",
}  # fmt: skip
"""Points of error → colour, the same for every network: blue is better, darker is worse, for any colour vision."""
MARKS = (-5, -1, 0, 1, 5, 20, 90)
"""Points of error that the legend names."""
PALE = 7.0
"""Points of error below which letters on a cell are those of a pale one."""


def strip(found: Lesion) -> Chart:
    """Return one cell per unit, for studies of one unit at a time (``delete`` and ``duplicate``).

    Up to 30 units stand in one row, and up to 120 in a few, with the cost written in the cells; more in rows of 100.
    Units that could not be taken out are outlined.
    """
    return cells(found).properties(title=strip_heading(found))


def strip_heading(found: Lesion) -> alt.Title:
    """Return the finding, and what a dashed cell is where there is one."""
    done = "deleted" if found.kind == "delete" else "run twice"
    gaps = any(unit.change is None for unit in found.units)
    return heading(lesion_finding(found), subtitle=f"dashed: cannot be {done}" if gaps else "")


def cells(found: Lesion) -> alt.LayerChart:
    """Return the strip without its title."""
    length = _row_length(len(found.units))
    rows = [_cell(found, unit, length) for unit in found.units]
    shown, gaps = [row for row in rows if row["change"] is not None], [row for row in rows if row["change"] is None]
    count, height = math.ceil(len(rows) / length), TALL if length <= WRITTEN else FLAT
    x = alt.X("place:O", sort=None, title=_x_title(len(rows), length), axis=_x_axis(len(rows), length), scale=alt.Scale(
        domain=list(range(1, length + 1)), paddingInner=0.06, paddingOuter=0))  # fmt: skip
    y_axis = alt.Axis(title=None, domain=False, ticks=False, labelFontSize=12) if count > 1 else None
    y = alt.Y("row:O", sort=None, axis=y_axis, scale=alt.Scale(paddingInner=0.12, paddingOuter=0))
    filled = alt.Chart(data(shown)).mark_rect(stroke=None).encode(x=x, y=y, color=_colour(found))
    layers = [told(filled)]
    if gaps:
        outlined = alt.Chart(data(gaps)).mark_rect(fill="transparent", stroke=GREY, strokeDash=[3, 2])
        layers.append(told(outlined.encode(x=x, y=y)))
    if length <= WRITTEN:
        dark = alt.when("datum.pale").then(alt.value(ON_PALE)).otherwise(alt.value(ON_DEEP))
        letters = alt.Chart(data(shown)).mark_text(fontSize=11)
        layers.append(letters.encode(x=x, y=y, text="text:N", color=dark))
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=count * height)


def _row_length(units: int) -> int:
    rows = math.ceil(units / WRITTEN)
    return max(1, math.ceil(units / rows)) if rows <= ROWS_WRITTEN else LONG


def _x_title(units: int, length: int) -> str | None:
    if units <= length:
        return "unit"
    return f"place in a row of {LONG} units" if length == LONG else None


def _x_axis(units: int, length: int) -> alt.Axis | None:
    """Return the axis of a single row, or of rows so long that one counts along them."""
    if length < units and length != LONG:
        return None
    every = 10 if length == LONG else 1
    values = list(range(every, length + 1, every))
    return alt.Axis(labelAngle=0, domain=False, ticks=False, values=values, labelFontSize=12, labelOverlap=True)


def _cell(found: Lesion, unit: UnitEffect, length: int) -> dict:
    first = (unit.index - 1) // length * length + 1
    last = min(first + length - 1, len(found.units))
    return {
        "unit": unit.index, "row": f"{first}–{last}" if last > first else str(first), "place": unit.index - first + 1,
        "change": unit.change, "text": "" if unit.change is None else _short(unit.change),
        "pale": abs(unit.change or 0.0) < PALE, "tell": unit_text(found, unit),
    }  # fmt: skip


def unit_text(found: Lesion, unit: UnitEffect) -> str:
    """Return what a mark of one unit tells."""
    number, done = f"unit {unit.index}", "deleted" if found.kind == "delete" else "run twice"
    name = number if unit.name == number else f"{number} ({unit.name})"
    if unit.change is None or unit.error_percent is None:
        return f"{name}: cannot be {done}"
    between = "" if unit.change_low is None else f" (95 %: {change_text(unit.change_low, unit.change_high or 0.0)})"
    return f"{name} {done}: {unit.change:+.2f} points of error{between}, {unit.error_percent:.2f} % in all"


def _short(change: float) -> str:
    """Return a cost in at most four signs."""
    if abs(change) < 0.05:
        return "0"
    return f"{change:.1f}".replace("-", "−") if abs(change) < 9.95 else f"{change:.0f}".replace("-", "−")


def _colour(found: Lesion) -> alt.Color:
    what = "deleting the unit" if found.kind == "delete" else "running the unit twice"
    legend = alt.Legend(
        title=f"points of error that {what} costs", orient="top", direction="horizontal", gradientLength=280,
        gradientThickness=12, values=list(MARKS), titleOrient="left", titleLimit=400, titlePadding=12,
        titleFontWeight="normal", format="d", offset=6,
    )  # fmt: skip
    return alt.Color("change:Q", scale=cost_scale(), legend=legend)


def cost_scale() -> alt.Scale:
    """Return the colours of costs."""
    return alt.Scale(
        type="symlog", constant=KNEE, domain=list(COLOURS), range=list(COLOURS.values()), clamp=True, nice=False
    )
