"""Record → chart. A figure knows nothing about networks; its title states the finding."""

from pathlib import Path

import altair as alt

from howdeep.errors import UserError

Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart
ENDINGS = (".svg", ".png", ".html")

PLAIN, RESIDUAL, STOCHASTIC = "#d55e00", "#0072b2", "#009e73"
"""Colours that people with any colour vision tell apart (Okabe and Ito 2008)."""


def degradation(rows: list[dict], title: str) -> Chart:
    """Return error against depth, one line per family, with standard errors.

    Args:
        rows: ``depth``, ``family``, ``error_percent``, ``standard_error`` each.
        title: The finding, in one sentence.
    """
    families = list(dict.fromkeys(row["family"] for row in rows))
    colours = alt.Scale(domain=families, range=[PLAIN, RESIDUAL, STOCHASTIC][: len(families)])
    depths = sorted({row["depth"] for row in rows})
    bounded = [{**row, "low": max(0.0, row["error_percent"] - row["standard_error"])} for row in rows]
    bounded = [{**row, "high": row["error_percent"] + row["standard_error"]} for row in bounded]
    base = alt.Chart(alt.Data(values=bounded)).encode(
        x=alt.X("depth:Q", title="layers", scale=alt.Scale(type="log"), axis=alt.Axis(values=depths, grid=False)),
        color=alt.Color("family:N", title=None, scale=colours, legend=None),
    )
    y = alt.Y("error_percent:Q", title="test error (%)", scale=alt.Scale(domain=[0, 100]))
    last = alt.Chart(alt.Data(values=_last_of_each(bounded))).encode(
        x="depth:Q",
        y="error_percent:Q",
        text="family:N",
        color=alt.Color("family:N", scale=colours, legend=None),
    )
    chart = alt.layer(
        base.mark_line(strokeWidth=3).encode(y=y),
        base.mark_rule().encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(y=y),
        last.mark_text(align="center", dy=-16, fontSize=14, fontWeight="bold"),
    )
    return chart.properties(title=alt.Title(title, fontSize=17, anchor="start"), width=560, height=320)


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


def _last_of_each(rows: list[dict]) -> list[dict]:
    last = {row["family"]: row for row in sorted(rows, key=lambda row: row["depth"])}
    return list(last.values())
