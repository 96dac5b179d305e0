"""The chart of published networks: error against latency, a line per network and size, from its stem to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import GREY, INK, PLAIN, RESIDUAL, WIDTH, Chart, data, described, heading, limit
from howdeep.util.intervals import of_share
from howdeep.util.text import percent_text

if TYPE_CHECKING:
    from howdeep.analysis.depths import Depth
    from howdeep.search.transfer import Probed, Transfer

HEIGHT = 360
COLOURS = (RESIDUAL, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", GREY)
"""Of the lines, by turns; the one that is taken is orange."""
BIG = 150
"""Square pixels of the point of the network that is taken."""


def transfer(record: Transfer) -> Chart:
    """Return validation error against latency at every depth, the network that is taken marked, and the budget."""
    names = [_name(one) for one in record.probed]
    rows = [row for one in record.probed for row in _rows(one)]
    taken = _taken(record)
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(names))]
    scale = alt.Scale(domain=names, range=colours)
    legend = alt.Legend(orient="top", labelFontSize=13, labelLimit=300, columns=2, symbolType="stroke")
    colour = alt.Color("network:N", title=None, scale=scale, legend=legend)
    title = f"latency of one image{record.latency.aside} (ms)"
    x = alt.X("ms:Q", title=title, scale=_scale(rows, "ms"), axis=_axis(rows, "ms"))
    both = [*rows, *taken]
    y = alt.Y("error:Q", title="validation error (%)", scale=_scale(both, "error"), axis=_axis(both, "error"))
    base = alt.Chart(data(rows)).encode(x=x, y=y, color=colour, order="depth:Q")
    marked = alt.Chart(data(taken)).encode(x=x, y=y)
    words = marked.mark_text(align="left", dx=10, dy=10, fontSize=14, fontWeight="bold", color=INK)
    layers = [
        *_budget(record, x),
        base.mark_line(strokeWidth=2, opacity=0.7),
        described(base.mark_point(filled=True, size=40, opacity=1)),
        described(marked.mark_rule(color=PLAIN, strokeWidth=2, clip=True).encode(y=_low(y), y2="high:Q")),
        described(marked.mark_point(filled=True, size=BIG, color=PLAIN, shape="diamond", opacity=1)),
        words.encode(text="text:N"),
    ]
    said = "points: depths under a classifier alone, from the stem to the whole network; diamond: what is taken"
    title = heading(record.finding, subtitle=f"{said}, with its 95 % interval")
    return alt.layer(*layers).properties(title=title, width=WIDTH, height=HEIGHT)


def _name(one: Probed) -> str:
    return f"{one.network} at {one.size}"


def _rows(one: Probed) -> list[dict]:
    rows: list[dict] = []
    best: dict[tuple[int, bool], Depth] = {}
    for depth in one.probe.depths:  # of two heads on as many units the better one
        place = (depth.units, depth.whole)
        best[place] = min(depth, best.get(place, depth), key=lambda one: one.fitted.error_percent)
    for number, depth in enumerate(best.values()):
        error, ms = depth.fitted.error_percent, depth.latency.median_ms
        tell = f"{one.start(depth).text}: {percent_text(error, one.probe.n)}, {ms:.3g} ms"
        rows.append({"network": _name(one), "depth": number, "ms": ms, "error": error, "tell": tell})
    return rows


def _taken(record: Transfer) -> list[dict]:
    """Return the network that is taken, as it was trained: a row, where it was probed in time."""
    error, n, ms = record.validation_error_percent, record.validation_images, _probed_ms(record)
    low, high = of_share(error, n)
    tell = f"{record.chosen.text}, taken: {percent_text(error, n)}, {ms:.3g} ms"
    return [{"ms": ms, "error": error, "low": low, "high": high, "tell": tell, "text": f"{error:.1f} %"}]


def _probed_ms(record: Transfer) -> float:
    """Return its latency as it was measured beside the others."""
    return next(
        depth.latency.median_ms
        for one in record.probed
        for depth in one.probe.depths
        if one.start(depth) == record.chosen
    )


def _low(y: alt.Y) -> alt.Y:
    low = y.copy()
    low.shorthand = "low:Q"
    return low


def _logarithmic(rows: list[dict], name: str) -> bool:
    """Return whether values span so much that only their logarithms show them all."""
    values = [row[name] for row in rows]
    return min(values) > 0 and max(values) > 8 * min(values)


def _scale(rows: list[dict], name: str) -> alt.Scale:
    values = [row[name] for row in rows]
    if _logarithmic(rows, name):
        return alt.Scale(type="log", domain=[0.8 * min(values), 1.25 * max(values)], nice=False)
    return alt.Scale(domain=[0.0, 1.08 * max(values)], nice=False)


def _axis(rows: list[dict], name: str) -> alt.Axis:
    if _logarithmic(rows, name):
        values = [sign * 10.0**power for power in range(-2, 4) for sign in (1, 2, 5)]
        return alt.Axis(values=values, format="~g", grid=name == "error")
    return alt.Axis(grid=name == "error")


def _budget(record: Transfer, x: alt.X) -> list[alt.Chart]:
    """Return the line of the latency that is allowed, with what it is."""
    if (seconds := record.budgets.latency_seconds) is None:
        return []
    text = f"budget {1000 * seconds:.3g} ms"
    row = {"ms": 1000 * seconds, "text": text, "tell": text}
    words = alt.Chart(data([row])).mark_text(align="left", dx=6, color=GREY, fontSize=13)
    return [limit(row).encode(x=x), words.encode(x=x, y=alt.value(12), text="text:N")]
