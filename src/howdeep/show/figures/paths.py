"""Charts of what flows through a network: the paths of the gradient, one by one or by length, and the signal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import altair as alt

from howdeep.show.figures.drawing import (
    GREY,
    INK,
    PLAIN,
    RESIDUAL,
    SHADE,
    STOCHASTIC,
    WIDTH,
    Chart,
    data,
    described,
    heading,
    ticks,
    traced,
)
from howdeep.util.text import share_text

if TYPE_CHECKING:
    from howdeep.analysis.paths import Effective, Paths
    from howdeep.analysis.signals import Flow

MOST_UNITS = 5
COLUMN, LINE, GAP = 76, 13, 10
"""Pixels of a unit, of a path, and between two lengths."""
SIDE = 210
"""Pixels of what is written beside them."""
LENGTHS = (RESIDUAL, "#56b4e9", STOCHASTIC, "#e69f00", PLAIN, "#cc79a7")
"""Colours of lengths 0 to 5 (Okabe and Ito 2008)."""
SMALL = 320
SEEN = 1e-4
"""Share of the paths below which a length has no visible bar."""
AIR = 1.3
"""Factor of air above the largest value and below the least."""
NARROW = 8
"""A range of lengths that ends below this part of the axis gets a logarithmic one: it and all paths are seen."""
MARKS = (0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
NAMES = {"stream": RESIDUAL, "branch": PLAIN, "gradient": STOCHASTIC}


def gradient_shares(record: Paths) -> dict[int, float]:
    """Return each length's share in percent: exact where it was computed, else of the sampled spread; or nothing."""
    if record.gradient_norm is not None:
        whole = math.fsum(record.gradient_norm) or 1.0
        return {length: 100 * norm / whole for length, norm in zip(record.lengths, record.gradient_norm, strict=True)}
    spread = record.spread
    return {} if spread is None else dict(zip(spread.lengths, (100 * share for share in spread.shares), strict=True))


def can_unravel(record: Paths) -> bool:
    """Return whether a network has at most five units and all of its 2ⁿ paths."""
    return 0 < record.units <= MOST_UNITS and sum(map(int, record.path_count)) == 2**record.units


def unravelled(record: Paths) -> Chart:
    """Return every path of a small network: a box where it goes through a branch, a bare line along a shortcut.

    Args:
        record: Paths of up to five units, of which ``can_unravel`` is true.
    """
    assert can_unravel(record), f"{record.units} units are too many paths to draw one by one"
    units, lengths, shares = record.units, list(range(record.units + 1)), gradient_shares(record)
    rows, sides = _rows(units), []
    for length in lengths:
        places, count = [row["y"] for row in rows if row["length"] == length], math.comb(units, length)
        told_share = f", {share_text(shares[length] / 100)} of the gradient" if length in shares else ""
        text = f"length {length}: {count} path{'s' if count > 1 else ''}{told_share}"
        sides.append({"length": length, "y": sum(places) / len(places), "text": text})
    width, height = (units + 1) * COLUMN, max(row["y"] for row in rows) + LINE
    scale = alt.Scale(domain=lengths, range=list(LENGTHS[: len(lengths)]))
    colour = alt.Color("length:O", scale=scale, legend=None)
    place = alt.Scale(domain=[0, units + 1], nice=False)
    axis = alt.Axis(values=list(range(1, units + 1)), orient="top", grid=False, domain=False, ticks=False)
    x = alt.X("from:Q", title="unit (a box: through its branch; a line: along its shortcut)", scale=place, axis=axis)
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, height], reverse=True, nice=False))
    wires = alt.Chart(data(rows)).mark_rule(strokeWidth=1.6).encode(x=x, x2="to:Q", y=y, color=colour)
    passed = [
        {**row, "from": unit - 0.3, "to": unit + 0.3, "high": row["y"] - 4.5, "low": row["y"] + 4.5}
        for row in rows
        for unit in row["through"]
    ]
    boxes = alt.Chart(data(passed)).mark_rect(cornerRadius=2)
    boxes = boxes.encode(x=x, x2="to:Q", y=alt.Y("high:Q", axis=None), y2="low:Q", color=colour)
    words = alt.Chart(data(sides)).mark_text(align="left", fontSize=13, color=INK)
    words = words.encode(x=alt.value(width + 8), y=y, text="text:N")
    many = f"{units} units are" if units > 1 else "one unit is"
    title = heading(f"{many} {2**units} paths; {record.finding}", width=width + SIDE)
    return alt.layer(described(wires), described(boxes), words).properties(title=title, width=width, height=height)


def _rows(units: int) -> list[dict]:
    """Return the paths, the shortest first, with the place of each."""
    rows = []
    for number, choice in enumerate(sorted(itertools.product((True, False), repeat=units), key=sum)):
        through = [unit for unit, taken in enumerate(choice, 1) if taken]
        length = len(through)
        tell = f"path through the branches of units: {', '.join(map(str, through)) or 'none'} (length {length})"
        place = {"from": 0, "to": units + 1, "y": number * LINE + length * GAP + LINE}
        rows.append({"length": length, "through": through, **place, "tell": tell})
    return rows


def path_lengths(
    now: Mapping[int, int], before: Mapping[int, int], gradient: Paths | None = None, source: str = ""
) -> Chart:
    """Return how the paths that are left spread over the lengths, and those of the baseline as a line.

    Args:
        now: Length → number of paths, exact integers of any size.
        before: The same of the baseline.
        gradient: Paths of the baseline: how its gradient spreads over the lengths is another line, with the band of
            its draws; None draws none.
        source: Where that was measured.
    """
    left, right = _shares(now), _shares(before)
    carried = {} if gradient is None else gradient_shares(gradient)
    every = left.keys() | right.keys() | carried.keys()
    seen = [
        length
        for length in every
        if max(left.get(length, 0), right.get(length, 0), carried.get(length, 0) / 100) > SEEN
    ]
    lengths = range(min(seen, default=0), max(seen, default=1) + 1)
    rows = []
    for length in lengths:
        share = left.get(length, 0.0)
        tell = f"length {length}: {count_text(now.get(length, 0))} paths, {share_text(share)} of those left"
        rows.append({"length": length, "share": 100 * share, "tell": tell})
    baseline = [{"length": length, "share": 100 * right.get(length, 0.0)} for length in lengths]
    axis = alt.Axis(grid=False, tickMinStep=1, format="d", tickCount=6)
    scale = alt.Scale(domain=[lengths[0] - 0.6, lengths[-1] + 0.6], nice=False)
    x = alt.X("length:Q", title="branches passed", axis=axis, scale=scale)
    of = "of paths and gradient" if carried else "of the paths"
    y = alt.Y("share:Q", title=f"share {of} (%)", axis=alt.Axis(tickCount=4), scale=alt.Scale(domainMin=0))
    width = SMALL - 60
    bars = alt.Chart(data(rows)).mark_bar(color=RESIDUAL, size=max(1.0, 0.75 * width / len(lengths)))
    line = alt.Chart(data(baseline)).mark_line(color=GREY, strokeWidth=1.5, interpolate="monotone")
    there, whole = sum(now.values()), sum(before.values())
    finding = f"{count_text(there)} of {count_text(whole)} paths are left"
    if there in (0, whole):
        finding = f"all {count_text(whole)} paths are there" if there else "no path is left"
    layers = [described(bars.encode(x=x, y=y)), line.encode(x=x, y=y)]
    marks = "bars: paths that are left; line: baseline"
    if gradient is not None and carried:
        shown = [
            {"length": length, "share": share, "tell": f"length {length}: {share:.3g} % of the baseline's gradient"}
            for length, share in carried.items()
            if lengths[0] <= length <= lengths[-1]
        ]
        layers += _band(gradient) + traced(alt.Chart(data(shown)).encode(x=x, y=y), len(shown), 2, 20, STOCHASTIC)
        marks += f"; green: its gradient ({source})"
    title = heading(finding, width=SMALL, size=14, subtitle=marks)
    return alt.layer(*layers).properties(title=title, width=width, height=150)


def _shares(counts: Mapping[int, int]) -> dict[int, float]:
    """Return shares; a quotient of integers is right also where they are beyond the range of floats."""
    total = sum(counts.values())
    return {length: count / total for length, count in counts.items()} if total else {}


def count_text(count: int) -> str:
    """Return an integer of any size as a person would say it: as it is, as a power of two, or rounded."""
    if count < 100_000:
        return f"{count:,}"
    if count & (count - 1) == 0:
        base, exponent = "2", count.bit_length() - 1
    else:
        digits = str(count)
        base, exponent = f"{digits[0]}.{digits[1]} × 10", len(digits) - 1
    return base + str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def study_of_paths(record: Paths) -> Chart:
    """Return the three panels, and below them every path where there are few enough to be drawn one by one."""
    if not can_unravel(record):
        return paths(record)
    return alt.vconcat(paths(record), unravelled(record), spacing=40).resolve_scale(color="independent")


def paths(record: Paths) -> Chart:
    """Return the three panels of the literature: paths, gradient per path, and all of the gradient, by length.

    The range of lengths that carries 95 % of the gradient is shaded. Shares between sampled lengths are interpolated,
    with a band over the draws; where the samples tell none, there are two panels.
    """
    inside = record.effective or record.effective_by_sample
    counts, rows, singles, shares = dict(zip(record.lengths, map(int, record.path_count), strict=True)), [], [], []
    for length, count in counts.items():
        tell = f"length {length}: {count_text(count)} paths"
        rows.append({"length": length, "value": math.log10(count), "tell": tell})
    for one in record.sampled:
        if one.log10_product is not None:  # the product knows those below the range of floats too
            log = one.log10_product - math.log10(counts[one.length])
            tell = f"length {one.length}: 10^{log:.2f}, the gradient of one path (mean of {one.draws})"
            singles.append({"length": one.length, "value": log, "tell": tell})
    for length, share in gradient_shares(record).items():
        tell = f"length {length}: {share:.3g} % of the gradient"
        shares.append({"length": length, "value": share, "tell": tell})
    panels = [_panel(rows, "number of paths (log 10)", inside, RESIDUAL)]
    if record.sampled:
        panels.append(_panel(singles, "gradient of one path (log 10)", inside, PLAIN))
    if shares:
        panels.append(_panel(shares, "share of the gradient (%)", inside, STOCHASTIC))
        shade = int(inside is not None)
        panels[-1].layer[shade:shade] = _band(record)
    first, last = record.lengths[0] - 0.5, record.lengths[-1] + 0.5
    scale, marks = alt.Scale(domain=[first, last], nice=False), alt.Undefined
    if inside is not None and last > NARROW * max(1, inside.lengths[-1]):
        scale = alt.Scale(type="symlog", constant=max(1, inside.lengths[-1]), domain=[first, last], nice=False)
        marks = [mark for mark in MARKS if mark <= last]
    for panel in panels:  # one axis for all of them
        for layer in panel.layer:
            layer.encoding.x.scale = scale
            if marks is not alt.Undefined:
                layer.encoding.x.axis = alt.Axis(grid=False, values=marks, labelOverlap=True)
    subtitle = "band: 95 % over the draws of a length" if _band(record) else ""
    return alt.hconcat(*panels, spacing=18).properties(title=heading(record.finding, subtitle=subtitle))


def _band(record: Paths) -> list[alt.Chart]:
    """Return how far the shares of a sampled spread may be off."""
    if record.gradient_norm is not None or (spread := record.spread) is None:
        return []
    rows = [
        {"length": length, "low": 100 * share * max(0.0, 1 - off), "high": min(100.0, 100 * share * (1 + off))}
        for length, share, off in zip(spread.lengths, spread.shares, spread.off, strict=True)
        if not math.isnan(off)
    ]
    x = alt.X("length:Q", title="branches passed")
    area = alt.Chart(data(rows)).mark_area(color=STOCHASTIC, opacity=0.2)
    return [area.encode(x=x, y="low:Q", y2="high:Q")] if rows else []


def _panel(rows: list[dict], title: str, inside: Effective | None, colour: str) -> alt.LayerChart:
    x = alt.X("length:Q", title="branches passed", axis=alt.Axis(grid=False, tickMinStep=1, tickCount=6))
    base = alt.Chart(data(rows)).encode(x=x, y=alt.Y("value:Q", title=title))
    layers = traced(base, len(rows), 2.5, 30, colour)
    if inside is not None:
        first, last = inside.lengths[0], inside.lengths[-1]
        tell = f"lengths {first} to {last} carry {100 * inside.share:.1f} % of the gradient"
        band = alt.Chart(data([{"from": first - 0.5, "to": last + 0.5, "tell": tell}])).mark_rect(color=SHADE)
        layers.insert(0, described(band.encode(x=alt.X("from:Q", title="branches passed"), x2="to:Q")))
    return alt.LayerChart(layer=layers).properties(width=170, height=230)


def flow(record: Flow) -> Chart:
    """Return what each unit reads and adds, and the gradient that arrives at it, both on logarithmic axes."""
    signal = [_place(unit.index, "stream", unit.stream_std) for unit in record.units]
    signal += [_place(unit.index, "branch", unit.branch_std) for unit in record.units]
    gradient = [_place(unit.index, "gradient", unit.input_gradient) for unit in record.units]
    last = len(record.units)
    panels = [_through(signal, "standard deviation", last), _through(gradient, "gradient norm", last)]
    return alt.vconcat(*panels).resolve_scale(color="independent").properties(title=heading(record.finding))


def _place(unit: int, what: str, value: float | None) -> dict:
    kind = "norm at its input" if what == "gradient" else "standard deviation"
    tell = f"unit {unit}: {what}, {kind} {value:.4g}" if value is not None else ""
    return {"unit": unit, "what": what, "value": value, "tell": tell}


def _decades(values: list[float]) -> tuple[alt.Scale, alt.Axis]:
    """Return a logarithmic axis with lines at few decades, at 1, 2 and 5 of two, or at every digit of a part of one."""
    if not values:
        return alt.Scale(type="log"), alt.Axis()
    low, high = min(values) / AIR, max(values) * AIR
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step, digits = max(1, (last - first) // 8), (1, 2, 5) if last - first <= 2 else (1,)
    digits = range(1, 10) if high < 4 * low else digits
    marks = [digit * 10.0**power for power in range(first, last + 1, step) for digit in digits]
    axis = alt.Axis(values=[mark for mark in marks if low <= mark <= high], format="~g")
    return alt.Scale(type="log", domain=[low, high], nice=False), axis


def _through(rows: list[dict], title: str, last: int) -> alt.LayerChart:
    """Return one panel through the depth; what is 0 has no place on its axis."""
    kept = [row for row in rows if row["value"]]
    names = list(dict.fromkeys(row["what"] for row in rows))
    axis = alt.Axis(values=ticks(last), grid=False, format="d")
    height, lines = _decades([row["value"] for row in kept])
    scale = alt.Scale(domain=names, range=[NAMES[name] for name in names])
    base = alt.Chart(data(kept)).encode(
        x=alt.X("unit:Q", title="unit", scale=alt.Scale(domain=[1, max(2, last)], nice=False), axis=axis),
        y=alt.Y("value:Q", title=title, scale=height, axis=lines),
        color=alt.Color("what:N", title=None, scale=scale, legend=alt.Legend(orient="top") if len(names) > 1 else None),
    )
    return alt.LayerChart(layer=traced(base, last, 2.5, 40)).properties(width=WIDTH, height=180)
