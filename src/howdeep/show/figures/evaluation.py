"""Charts of an evaluation: which classes are taken for which, and whether its confidence can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import GREY, INK, PLAIN, RESIDUAL, SHADE, Chart, data, described, heading
from howdeep.show.sentences import confusion_finding, confusions, reliability_finding
from howdeep.util.intervals import of_share
from howdeep.util.text import counted, percent_text

if TYPE_CHECKING:
    from howdeep.analysis.evaluation import Evaluation

SIDE = 320
"""Pixels of the width, without names."""
CELL = 16
"""Pixels of the least cell of a matrix, and of a line of its names: 20 classes on 320 pixels."""
SHOWN = 15
WRONG, ON_WRONG = ("#fdf1dc", "#f2a045", "#a63603"), "#fefefe"
"""Colours of mistakes: 0, 5 and 100 % of the images of a class; and letters on the deep ones."""
DEEP = 40
"""Share of a class in percent above which the colour is deep."""
LETTERS = 6.5
"""Pixels of a digit."""
BAR = 20
PERCENT = alt.Scale(domain=[0, 100], nice=False)

Counts = Sequence[Sequence[int]]
"""Row = true class, column = given class."""


def evaluation(record: Evaluation) -> Chart:
    """Return the confusion matrix beside the reliability diagram."""
    title = heading(f"error {percent_text(record.error_percent, record.n)} on {record.n:,} images")
    panels = [confusion(record), reliability(record)]
    return alt.hconcat(*panels, spacing=36).resolve_scale(color="independent").properties(title=title)


def confusion(record: Evaluation) -> Chart:
    """Return which classes are taken for which, with the worst pair as the title."""
    names = [one.name for one in record.classes]
    return confusion_matrix(names, record.confusion, confusion_finding(names, record.confusion))


def confusion_matrix(classes: Sequence[str], counts: Counts, title: str) -> Chart:
    """Return a confusion matrix; where cells would be too small for the names beside them, the largest confusions.

    Args:
        classes: Names, in the order of the counts.
        counts: Row = true class, column = given class.
        title: What it shows.
    """
    if len(classes) * CELL <= SIDE:
        return _matrix(classes, counts).properties(title=heading(title, width=SIDE, size=14))
    pairs, right = len(confusions(counts)), sum(sum(row) == row[at] > 0 for at, row in enumerate(counts))
    told = f"the {SHOWN} most frequent of {pairs:,} mistakes; " * (pairs > SHOWN)
    told += f"{right:,} of {len(classes):,} classes at 100 %"
    return _bars(classes, counts).properties(title=heading(title, width=SIDE, size=14, subtitle=told))


def _matrix(classes: Sequence[str], counts: Counts) -> alt.LayerChart:
    """Return right answers in one pale colour, so that the wrong ones stand out."""
    places = range(len(classes))
    rows = [_entry(classes, counts, true, given) for true in places for given in places]
    axis = alt.Axis(labelFontSize=11, labelLimit=90, ticks=False, domain=False)
    scale = alt.Scale(domain=list(places), padding=0.04)
    names = f"{[str(name) for name in classes]}[datum.value]"
    short = max(map(len, classes)) * LETTERS <= SIDE / len(classes)
    slanted = alt.Axis(labelAngle=0 if short else -90, labelExpr=names, **axis.to_dict())
    x = alt.X("given:O", title="given class", scale=scale, axis=slanted)
    y = alt.Y("true:O", title="true class", scale=scale, axis=alt.Axis(labelExpr=names, **axis.to_dict()))
    right = alt.Chart(data([row for row in rows if row["true"] == row["given"]])).mark_rect(color=SHADE)
    wrong = alt.Chart(data([row for row in rows if row["true"] != row["given"] and row["count"]])).mark_rect()
    scale = alt.Scale(type="sqrt", domain=[0, 5, 100], range=list(WRONG))
    colour = alt.Color("share:Q", scale=scale, legend=None)
    layers = [described(right.encode(x=x, y=y)), described(wrong.encode(x=x, y=y, color=colour))]
    if SIDE / len(classes) >= LETTERS * max(len(row["text"]) for row in rows) + 4:
        letters = alt.Chart(data([row for row in rows if row["count"]])).mark_text(fontSize=11)
        ink = alt.when("datum.true == datum.given").then(alt.value(INK))
        ink = ink.when(f"datum.share > {DEEP}").then(alt.value(ON_WRONG)).otherwise(alt.value("#101010"))
        layers.append(letters.encode(x=x, y=y, text="text:N", color=ink))
    return alt.LayerChart(layer=layers).properties(width=SIDE, height=SIDE)


def _entry(classes: Sequence[str], counts: Counts, true: int, given: int) -> dict:
    count, total = counts[true][given], sum(counts[true])
    share = 100 * count / total if total else 0.0
    tell = f"{classes[true]} taken for {classes[given]}: {count:,} of {total:,} images ({share:.1f} %)"
    if true == given:
        tell = f"{classes[true]}, right: {count:,} of {total:,} images ({share:.1f} %)"
    return {"true": true, "given": given, "count": count, "share": share, "text": str(count), "tell": tell}


def _bars(classes: Sequence[str], counts: Counts) -> alt.LayerChart:
    """Return the largest confusions, one bar each, with whole names."""
    rows = []
    for _, true, given in confusions(counts)[:SHOWN]:
        rows.append({**_entry(classes, counts, true, given), "pair": f"{classes[true]} → {classes[given]}"})
    axis = alt.Axis(labelFontSize=12, labelLimit=0, ticks=False, domain=False)
    y = alt.Y("pair:N", sort=None, title=None, axis=axis)
    x = alt.X("count:Q", title="images", axis=alt.Axis(tickMinStep=1, tickCount=4, grid=False))
    bars = described(alt.Chart(data(rows)).mark_bar(color=PLAIN, size=BAR * 0.7).encode(x=x, y=y))
    text = alt.Chart(data(rows)).mark_text(align="left", dx=4, fontSize=12, color=GREY)
    layers = [bars, text.encode(x=x, y=y, text="text:N")]
    return alt.LayerChart(layer=layers).properties(width=SIDE, height=max(1, len(rows)) * BAR)


def reliability(record: Evaluation) -> Chart:
    """Return accuracy against confidence with 95 % intervals, and how many images have which confidence."""
    rows = []
    for one in record.bins:
        if one.n:
            sure, right = one.confidence_percent or 0.0, one.accuracy_percent or 0.0
            low, high = of_share(right, one.n)
            tell = f"{counted(one.n, 'image')}, {sure:.1f} % sure on average: {right:.1f} % right"
            tell += f" (95 %: {low:.1f} to {high:.1f})"
            row = {"confidence": sure, "accuracy": right, "low": low, "high": high}
            rows.append(row | {"from": 100 * one.low + 0.4, "to": 100 * one.high - 0.4, "n": one.n, "tell": tell})
    panels = alt.vconcat(_accuracy(rows), _images(rows), spacing=8)
    return panels.properties(title=heading(reliability_finding(record), width=SIDE, size=14))


def _accuracy(rows: list[dict]) -> alt.LayerChart:
    x = alt.X("confidence:Q", title=None, scale=PERCENT, axis=alt.Axis(labels=False, ticks=False, grid=False))
    y = alt.Y("accuracy:Q", title="right answers (%)", scale=PERCENT)
    ideal = alt.Chart(data([{"confidence": 0, "accuracy": 0}, {"confidence": 100, "accuracy": 100}]))
    base = alt.Chart(data(rows)).encode(x=x)
    layers = [
        ideal.mark_line(color=GREY, strokeDash=[5, 4], strokeWidth=1.5).encode(x=x, y=y),
        described(base.mark_rule(color=RESIDUAL, strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2="high:Q")),
        base.mark_line(color=RESIDUAL, strokeWidth=2).encode(y=y),
        described(base.mark_point(color=RESIDUAL, filled=True, size=60, opacity=1).encode(y=y)),
    ]
    return alt.LayerChart(layer=layers).properties(width=SIDE - 60, height=SIDE - 90)


def _images(rows: list[dict]) -> alt.LayerChart:
    x = alt.X(
        "from:Q", title="confidence (%)", scale=PERCENT, axis=alt.Axis(grid=False, values=[0, 20, 40, 60, 80, 100])
    )
    y = alt.Y("n:Q", title="images", axis=alt.Axis(tickCount=2, format="~s"))
    bars = alt.Chart(data(rows)).mark_rect(color=GREY).encode(x=x, x2="to:Q", y=y, y2=alt.datum(0))
    return alt.LayerChart(layer=[described(bars)]).properties(width=SIDE - 60, height=60)
