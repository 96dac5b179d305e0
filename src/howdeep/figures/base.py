"""Record → chart. A figure knows nothing about networks; its title states the finding."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from howdeep.errors import UserError
from howdeep.files import write_whole
from howdeep.intervals import of_share

Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart
ENDINGS = (".svg", ".png", ".html")

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


def check_ending(path: Path) -> None:
    """Raise a UserError for a file whose ending is not that of a chart."""
    if path.suffix not in ENDINGS:
        raise UserError(f"figure {path} is not allowed: its name must end in {', '.join(ENDINGS)}")


def save(chart: Chart, path: Path) -> None:
    """Write a chart as SVG, PNG or HTML, by the ending of the file.

    Raises:
        UserError: The ending is another one.
        SaveError: The disk is full, or the folder cannot be written.
    """
    check_ending(path)
    write_whole(path, _drawn(with_style(chart), path.suffix))


def _drawn(chart: Chart, ending: str) -> bytes:
    """Return a chart as the contents of a file."""
    if ending == ".html":
        return chart.to_html(inline=True).encode()
    if ending == ".png":
        picture = io.BytesIO()
        chart.save(picture, format="png", scale_factor=2)
        return picture.getvalue()
    drawing = io.StringIO()
    chart.save(drawing, format="svg")
    return drawing.getvalue().encode()


def with_style(chart: Chart) -> Chart:
    """Return the chart with the sizes of letters that all charts have."""
    styled = chart.configure_view(stroke=None).configure_axis(labelFontSize=13, titleFontSize=13)
    return styled.configure_legend(labelFontSize=13, titleFontSize=13, labelLimit=400)


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


def data(rows: Sequence[dict]) -> alt.Data:
    """Return rows as what a chart draws."""
    return alt.Data(values=list(rows))


def told(chart: alt.Chart) -> alt.Chart:
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


def dot_size(count: int, large: int) -> int:
    """Return the area in square pixels of each of so many points on a line."""
    return large if count <= CROWDED else large // 3
