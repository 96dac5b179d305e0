"""What all charts share: colours, titles, marks; and how a chart gets into a file and onto a page."""

import hashlib
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert
from altair.utils.schemapi import debug_mode

from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
from howdeep.util.intervals import of_share

Chart = alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart

PLAIN, RESIDUAL, STOCHASTIC, PURPLE = "#d55e00", "#0072b2", "#009e73", "#cc79a7"
"""Colours that people with any colour vision tell apart (Okabe and Ito 2008)."""
INK, GREY, SHADE = "#333333", "#777777", "#dce9f2"
ON_PALE, ON_DEEP = "#111111", "#ffffff"
"""Letters on a cell whose colour is near that of the paper, and on one far from it."""
WIDTH = 640
"""Pixels of a chart at its natural size."""
DOTTED, CROWDED = 200, 60
"""Marks up to which a line has points that tell its numbers, and up to which they are large."""
SMALL = 480
"""Pixels below which a chart is narrow: on a telephone it is shown at its size."""
LETTER = 8.7
"""Pixels of a letter of a title of 16 pixels, on average, in a wide font."""


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


ENDINGS = (".svg", ".png", ".pdf", ".html")
LETTERS = {"labelFontSize": 13, "titleFontSize": 13}
"""Of axes and legends."""
SVG = "http://www.w3.org/2000/svg"
WIDE, ANY = "DejaVu Sans", "sans-serif"
"""In an SVG room is made for the widest of the usual fonts, since every viewer takes a font of its own."""
MARKS, LABEL, KIND = "role-mark", "aria-label", "aria-roledescription"
LONG_NUMBER = re.compile(r"\d+\.\d{3,}(?!\d*e)")
DARK = {
    "#333333": "#d0d0d0",
    "#777777": "#a8a8a8",
    "#dce9f2": "#17384d",
    # Families, and other series.
    "#0072b2": "#4aa8e0",
    "#d55e00": "#f0803c",
    "#009e73": "#2cc295",
    "#56b4e9": "#8fd0f5",
    # Costs of units: brighter is worse. Letters on the cells change sides.
    "#2f7fc1": "#3f9be6",
    "#efefef": "#2c2c2c",
    "#fbd06a": "#6e5424",
    "#ee8a2b": "#9a5a22",
    "#b8420f": "#f7ab62",
    "#4a1204": "#fff0dc",
    "#111111": "#eeeeee",
    "#ffffff": "#111111",
    # Confusions, likewise.
    "#fdf1dc": "#9a6428",
    "#f2a045": "#d98c3f",
    "#a63603": "#ffd9a8",
    "#fefefe": "#101010",
    "#444444": "#b8b8b8",
}
"""Colours that charts of this package name → colours on #111."""
SCALES = (
    ("#2f7fc1", "#efefef", "#fbd06a", "#ee8a2b", "#b8420f", "#4a1204"),
    ("#fdf1dc", "#f2a045", "#a63603"),
)
"""Colours between which scales mix: of costs, and of confusions."""
NEAR = 40.0
"""Steps of 256 by which a colour of a scale may be off the straight line: Vega-Lite mixes by hue and chroma."""
DARK_FRAME = {"#000": "#e6e6e6", "#888": "#8a8a8a", "#ddd": "#3a3a3a"}
"""Likewise, colours of letters, axes and grids that charts do not name."""

PAINT = re.compile(r'\b(fill|stroke|stop-color)="(#[0-9a-f]{3,6}|rgb\([^)]*\))"')

# Without it every element would be written with a prefix, which HTML does not read.
ElementTree.register_namespace("", SVG)


def check_ending(path: Path) -> None:
    """Raise a UserError for a file whose ending is not that of a chart."""
    if path.suffix not in ENDINGS:
        raise UserError(f"figure {path} is not allowed: its name must end in {', '.join(ENDINGS)}")


def save(chart: Chart, path: Path) -> None:
    """Write a chart as SVG, PNG, PDF or HTML, by the ending of the file.

    Raises:
        UserError: The ending is another one.
        SaveError: The disk is full, or the folder cannot be written.
    """
    check_ending(path)
    if path.suffix == ".png":
        write_whole(path, vl_convert.vegalite_to_png(spec_of(chart), scale=2))
    elif path.suffix == ".pdf":
        write_whole(path, vl_convert.vegalite_to_pdf(spec_of(chart)))
    elif path.suffix == ".html":
        write_whole(path, vl_convert.vegalite_to_html(spec_of(chart), bundle=True).encode())
    else:
        text = vl_convert.vegalite_to_svg(spec_of(chart, font=WIDE))
        write_whole(path, text.replace(f'font-family="{WIDE}"', f'font-family="{ANY}"').encode())


def spec_of(chart: Chart, **config: str) -> dict[str, Any]:
    """Return the specification that is drawn: the chart, and the letters that all charts have.

    Altair does not check it against its schema, which would take a third of the time: tests check every chart.

    Args:
        chart: From a function of this package.
        config: Settings of Vega-Lite for the whole chart.
    """
    spec = chart.to_dict(validate=False)
    spec["config"] = {**spec["config"], "axis": LETTERS, "legend": {**LETTERS, "labelLimit": 400}, **config}
    spec["config"] |= {"axisX": {"labelFlush": False}, "view": {**spec["config"]["view"], "stroke": None}}
    return spec


def svg(chart: Chart, *, dark: bool = False, label: str = "") -> str:
    """Return a chart as one self-contained SVG element for HTML, without a background.

    Nothing is loaded and nothing is executed: numbers appear on hover because every mark has a ``<title>``. The
    ``viewBox`` is kept, so that a style sheet can scale it; a narrow chart has the class ``small``. Ids begin with a
    digest of the picture, so that several charts may stand on one page.

    Args:
        chart: From a function of this package.
        dark: Colours for a background of #111.
        label: What it says, for those who do not see it.
    """
    spec = spec_of(chart, background="transparent", font=WIDE)
    spec = _darkened(spec) if dark else spec
    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec))
    if float(root.get("width", SMALL)) < SMALL:
        root.set("class", f"{root.get('class', '')} small".strip())
    if label:  # marks have titles of their own, which the role of an image would hide
        root.set("role", "group")
        root.set("aria-label", label)
    digest = hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:8]
    # The renderer counts on from chart to chart; numbers of their own make equal charts equal texts.
    ids = [element.get("id", "") for element in root.iter() if "id" in element.keys()]  # noqa: SIM118
    names = {one: f"c{digest}-{number}" for number, one in enumerate(ids)}
    for element in root.iter():
        if MARKS in element.get("class", "").split():
            _tell(element)
        for name, value in element.items():
            element.set(name, _rewritten(name, value, names, dark))
    return ElementTree.tostring(root, encoding="unicode")


def _tell(group: ElementTree.Element) -> None:
    """Turn the labels of marks into titles. Letters let the pointer through to the mark that they stand on.

    A line's label is that of its first point alone, which would mislead. What has no title has no role either.
    """
    for mark in group:
        label, kind = mark.attrib.pop(LABEL, None), mark.attrib.pop(KIND, None)
        if mark.tag == f"{{{SVG}}}text":
            mark.set("pointer-events", "none")
        elif label and kind not in ("line mark", "area mark"):
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = label
            mark.insert(0, title)
            continue
        mark.attrib.pop("role", None)


def _rewritten(name: str, value: str, names: Mapping[str, str], dark: bool) -> str:
    """Return the value of an attribute on a page: with the new ids, and a strip of 600 cells is a third smaller."""
    if name == "id":
        return names[value]
    if value.startswith("url(#"):
        return f"url(#{names[value[5:-1]]})"
    if name.endswith("href"):
        return f"#{names[value[1:]]}"
    if name == "font-family":
        return ANY
    if name in ("d", "transform"):  # hundredths of a pixel are enough
        return LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", value)
    return DARK_FRAME.get(value, value) if dark and name in ("fill", "stroke") else value


def dark_rules(pictures: Iterable[str]) -> str:
    """Return the rules of a style sheet that give drawn charts their colours on a dark page, one per colour.

    Args:
        pictures: What :func:`svg` returned for a light page.
    """
    used = sorted({found for picture in pictures for found in PAINT.findall(picture)})
    rules = ((name, colour, _dark(colour)) for name, colour in used)
    return "\n".join(f'svg [{name}="{colour}"] {{ {name}: {dark} }}' for name, colour, dark in rules if dark != colour)


def _dark(colour: str) -> str:
    """Return a colour for a dark page; one between two of a scale is as far between those that stand for them."""
    if (dark := {**DARK, **DARK_FRAME}.get(colour)) is not None or colour.startswith("#"):
        return dark or colour
    place = [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]
    steps = [step for scale in SCALES for step in pairwise(scale)]
    off, share, one, other = min(_between(place, *step) for step in steps)
    if off > NEAR:  # of no scale that has dark colours
        return colour
    ends = zip(_parts(DARK[one]), _parts(DARK[other]), strict=True)
    return f"rgb({', '.join(f'{low + share * (high - low):.0f}' for low, high in ends)})"


def _between(place: Sequence[float], one: str, other: str) -> tuple[float, float, str, str]:
    """Return how far a colour is off the line between two others, and where along it."""
    start, way = _parts(one), [high - low for low, high in zip(_parts(one), _parts(other), strict=True)]
    along = sum((at - low) * far for at, low, far in zip(place, start, way, strict=True)) / sum(far**2 for far in way)
    share = min(1.0, max(0.0, along))
    return math.dist(place, [low + share * far for low, far in zip(start, way, strict=True)]), share, one, other


def _parts(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def _darkened(spec: Any) -> Any:
    """Return a specification with the colours for a dark page, also those between which a scale mixes."""
    if isinstance(spec, dict):
        return {name: _darkened(value) for name, value in spec.items()}
    if isinstance(spec, list):
        return [_darkened(value) for value in spec]
    return DARK.get(spec, spec) if isinstance(spec, str) else spec
