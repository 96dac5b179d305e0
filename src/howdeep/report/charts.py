"""Charts as a page shows them: without the finding above them, which the page says itself."""

import altair as alt

from howdeep import figures
from howdeep.figures.base import Chart


def picture(chart: Chart) -> str:
    """Return a chart as an SVG element; of its title only what explains the marks stays."""
    return figures.svg(untitled(chart))


def untitled(chart: Chart) -> Chart:
    """Return a chart whose title is its subtitle, likewise for charts that stand below each other."""
    bare = chart.copy(deep=False)
    bare.title = _explanation(chart.title)
    if isinstance(chart, alt.VConcatChart):
        bare.vconcat = [untitled(part) if isinstance(part, Chart) else part for part in chart.vconcat]
    return bare


def _explanation(title):
    subtitle = getattr(title, "subtitle", alt.Undefined)
    if subtitle is alt.Undefined or not subtitle:
        return alt.Undefined
    return alt.Title(subtitle, fontSize=13, fontWeight="normal", anchor="start", offset=12, color="#444444")
