"""What all charts share: colours, titles, marks."""

import textwrap
from collections.abc import Iterable
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode

from howdeep.util.intervals import of_share

Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart

PLAIN, RESIDUAL, STOCHASTIC = "#d55e00", "#0072b2", "#009e73"
"""Colours that people with any colour vision tell apart (Okabe and Ito 2008)."""
INK, GREY, SHADE = "#333333", "#777777", "#dce9f2"
ON_PALE, ON_DEEP = "#111111", "#ffffff"
"""Letters on a cell whose colour is near that of the paper, and on one far from it."""
WIDTH = 640
"""Pixels of a chart at its natural size."""
DOTTED, CROWDED = 200, 60
"""Marks up to which a line has points that tell its numbers, and up to which they are large."""
LETTER = 8.7
"""Pixels of a letter of a title of 16 pixels, in the mean and in a wide font."""


def heading(text: str, *, width: int = WIDTH, subtitle: str = "", size: int = 16) -> alt.Title:
    """Return a title that begins with a capital letter and is broken into lines.

    Args:
        text: The finding, in one sentence.
        width: Pixels that a line may take.
        subtitle: What the marks are.
        size: Of the letters.
    """
    lines = textwrap.wrap(text[:1].upper() + text[1:], int(width / (LETTER * size / 16)))
    title: dict[str, Any] = {"text": lines, "fontSize": size, "anchor": "start", "offset": 14}
    if subtitle:
        below = textwrap.wrap(subtitle, int(width / (LETTER * 13 / 16)))
        title |= {"subtitle": below, "subtitleFontSize": 13}
    return alt.Title(**title)


def data(rows: Iterable[dict]) -> alt.Data:
    """Return rows as what a chart draws.

    They are not checked here either, and are a tuple, as Altair copies lists whenever it puts charts together.
    """
    with debug_mode(False):
        return alt.Data(values=tuple(rows))


def described(chart: alt.Chart) -> alt.Chart:
    """Let every mark tell, on hover and to a screen reader, what stands under ``tell`` in its row."""
    return chart.encode(description=alt.Description("tell:N"), tooltip=alt.Tooltip("tell:N"))


def error_row(percent: float, n: int) -> dict:
    """Return a test error with its 95 % interval as entries of a row."""
    low, high = of_share(percent, n)
    tell = f"test: {percent:.2f} % error, 95 % interval {low:.2f} to {high:.2f}, {n:,} images"
    return {"error": percent, "low": low, "high": high, "tell": tell}


def ticks(last: int) -> list[int]:
    """Return at most about 20 numbers from 1 to the last one, for an axis of units."""
    step = next(step for step in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if last / step <= 20)
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def traced(base: alt.Chart, count: int, width: float, point: int, colour: Any = alt.Undefined) -> list[alt.Chart]:
    """Return a line, and on it the points that tell its numbers where they are few enough.

    Args:
        base: Rows with their places.
        count: Points of a line.
        width: Pixels of the line.
        point: Square pixels of a point; a third of it where they are crowded.
        colour: Of both, where ``base`` has none.
    """
    line = base.mark_line(color=colour, strokeWidth=width)
    size = point if count <= CROWDED else point // 3
    points = base.mark_point(color=colour, filled=True, size=size, opacity=1)
    return [line, described(points)] if count <= DOTTED else [line]


def limit(row: dict) -> alt.Chart:
    """Return a dashed line through the chart, at the place that it is given."""
    return described(alt.Chart(data([row])).mark_rule(strokeDash=[5, 4], color=GREY, strokeWidth=1.5))


def level(row: dict, y: alt.Y | str) -> list[alt.Chart]:
    """Return a dashed line at an error, with its ``text`` to the right of the chart."""
    words = alt.Chart(data([row])).mark_text(align="left", dx=WIDTH + 5, color=GREY, fontSize=13)
    return [limit(row).encode(y=y), words.encode(y=y, x=alt.value(0), text="text:N")]
