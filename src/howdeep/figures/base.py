"""Record → chart. A figure knows nothing about networks; its title states the finding."""

from pathlib import Path

import altair as alt

from howdeep.errors import UserError

Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart
ENDINGS = (".svg", ".png", ".html")

PLAIN, RESIDUAL, STOCHASTIC = "#d55e00", "#0072b2", "#009e73"
"""Colours that people with any colour vision tell apart (Okabe and Ito 2008)."""


def check_ending(path: Path) -> None:
    """Raise a UserError for a file whose ending is not that of a chart."""
    if path.suffix not in ENDINGS:
        raise UserError(f"figure {path} is not allowed: its name must end in {', '.join(ENDINGS)}")


def save(chart: Chart, path: Path) -> None:
    """Write a chart as SVG, PNG or HTML, by the ending of the file.

    Raises:
        UserError: The ending is another one.
    """
    check_ending(path)
    styled = chart.configure_view(stroke=None).configure_axis(labelFontSize=13, titleFontSize=13)
    if path.suffix == ".html":
        path.write_text(styled.to_html(inline=True))
    else:
        styled.save(path, scale_factor=2)
