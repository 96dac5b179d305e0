"""SVG inside of a page: self-contained, told on hover, readable on a dark page."""

import re
from xml.etree import ElementTree

import pytest
import vl_convert
from tests.show.cases import CHARTS, NINE, chart

from howdeep.show import figures
from howdeep.show.figures.drawing import spec_of

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = ("evaluation", "frontier", "lesion_delete", "unravelled")
"""Charts with a matrix, clipped rules, a gradient in the legend, and rules: what SVG has ids and references for."""


@pytest.fixture(scope="module")
def texts() -> dict[tuple[str, bool], str]:
    return {(name, dark): figures.svg(chart(name), dark=dark) for name in DRAWN for dark in (False, True)}


def titles(text: str) -> list[str]:
    return [title.text or "" for title in ElementTree.fromstring(text).iter(f"{SVG}title")]


def test_a_chart_scales_and_loads_and_runs_nothing(texts: dict) -> None:
    for text in texts.values():
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        assert re.fullmatch(r"0 0 [\d.]+ [\d.]+", root.get("viewBox", ""))
        assert text.startswith("<svg ")  # HTML knows no prefixes
        assert set(re.findall(r"https?://[^\"]+", text)) <= {"http://www.w3.org/2000/svg"}
        used = {element.tag.removeprefix(SVG) for element in root.iter()}
        allowed = {"svg", "g", "path", "rect", "line", "text", "tspan", "title", "defs", "clipPath", "linearGradient"}
        assert used <= allowed | {"stop"}
        assert not [name for element in root.iter() for name in element.keys() if name.startswith("on")]  # noqa: SIM118


def test_no_two_charts_share_an_id_and_every_reference_finds_its_own(texts: dict) -> None:
    seen: set[str] = set()
    for text in texts.values():
        ids = set(re.findall(r'\bid="([^"]+)"', text))
        assert not ids & seen
        assert set(re.findall(r"url\(#([^)]+)\)", text)) <= ids
        seen |= ids
    assert len(seen) >= 4


def test_the_same_chart_is_the_same_text() -> None:
    assert figures.svg(figures.strip(NINE)) == figures.svg(figures.strip(NINE))


def test_every_mark_tells_its_numbers(texts: dict) -> None:
    lesion, evaluation = titles(texts["lesion_delete", False]), titles(texts["evaluation", False])
    assert "unit 2 (stages.0.2) deleted: +40.00 points of error (95 %: +39.00 to +41.00), 46.00 % in all" in lesion
    assert "unit 1 (stages.0.1): cannot be deleted" in lesion
    assert "cat taken for dog: 2 of 6 images (33.3 %)" in evaluation
    assert "4 images, 70.0 % sure on average: 75.0 % right (95 %: 19.4 to 99.4)" in evaluation
    assert "7 units, batch norm recalibrated: error 12.00 % (95 %: 7.84 to 17.33), 7 ms per image" in titles(
        texts["frontier", True]
    )


@pytest.mark.parametrize("name", CHARTS)
def test_no_mark_tells_the_names_of_columns(name: str) -> None:
    """Without a description a mark would tell what its axes are called."""
    root = ElementTree.fromstring(figures.svg(chart(name)))
    marks = [group for group in root.iter(f"{SVG}g") if "role-mark" in group.get("class", "").split()]
    told = [mark.findtext(f"{SVG}title", "") for group in marks for mark in group]
    assert any(told)
    assert not [tell for tell in told if re.match(r"[\w ().%|]+: [^;]+;", tell)]
    assert not root.findall(f".//{SVG}g[@class='role-mark']/*[@aria-label]")
    assert all(mark.find(f"{SVG}title") is not None for group in marks for mark in group if mark.get("role"))


def test_letters_let_the_pointer_through_to_their_mark(texts: dict) -> None:
    root = ElementTree.fromstring(texts["lesion_delete", False])
    letters = [
        text
        for group in root.iter(f"{SVG}g")
        if "role-mark" in group.get("class", "")
        for text in group
        if text.tag == f"{SVG}text"
    ]
    assert len(letters) >= 8
    assert {text.get("pointer-events") for text in letters} == {"none"}


def contrast(colour: str, ground: str) -> float:
    """Return the contrast of two colours (WCAG 2, relative luminance)."""

    def luminance(text: str) -> float:
        parts = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("dark", "ground"), [(False, "#ffffff"), (True, "#111111")])
def test_letters_off_the_cells_can_be_read_on_both_pages(texts: dict, dark: bool, ground: str) -> None:
    for name in ("frontier", "unravelled"):
        root = ElementTree.fromstring(texts[name, dark])
        colours = {text.get("fill", "") for text in root.iter(f"{SVG}text")}
        wide = ["#" + "".join(2 * letter for letter in one[1:]) if len(one) == 4 else one for one in colours]
        assert len(wide) >= 2
        assert min(contrast(one, ground) for one in wide) >= 4.4


def test_room_is_made_for_a_wide_font_and_none_is_asked_for(texts: dict) -> None:
    for text in texts.values():
        assert {one.get("font-family") for one in ElementTree.fromstring(text).iter(f"{SVG}text")} == {"sans-serif"}
    for name in DRAWN:
        narrow = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec_of(chart(name))))
        for dark in (False, True):
            wide = ElementTree.fromstring(texts[name, dark])
            assert float(wide.get("width", 0)) > float(narrow.get("width", 0))


def test_a_page_gives_a_light_chart_the_colours_of_a_dark_one(texts: dict) -> None:
    """Rules of a style sheet, also for colours between two of a scale, say what drawing it dark would have."""
    for name in DRAWN:
        light, dark = (ElementTree.fromstring(texts[name, which]) for which in (False, True))
        found = re.findall(r'svg \[([\w-]+)="(.+?)"\] { [\w-]+: (.+) }', figures.dark_rules([texts[name, False]]))
        rules = {(kind, colour): other for kind, colour, other in found}
        assert len(rules) > 3
        for one, other in zip(light.iter(), dark.iter(), strict=True):
            painted = {"fill", "stroke", "stop-color"} & set(one.keys())
            for kind in (kind for kind in painted if not one.get(kind, "").startswith("url")):  # ids differ
                told = rules.get((kind, one.get(kind, "")), one.get(kind, ""))
                assert parts(told) == pytest.approx(parts(other.get(kind, "")), abs=12), (name, one.get(kind))


def parts(colour: str) -> list[int]:
    """Return red, green and blue of a colour."""
    if colour.startswith("#"):
        wide = colour if len(colour) == 7 else "#" + "".join(2 * letter for letter in colour[1:])
        return [int(wide[at : at + 2], 16) for at in (1, 3, 5)]
    return [int(part) for part in re.findall(r"\d+", colour)]


def test_a_dark_chart_has_no_background_and_other_colours(texts: dict) -> None:
    light, dark = texts["frontier", False], texts["frontier", True]
    assert "white" not in dark + light
    assert "#0072b2" in light
    assert "#0072b2" not in dark


def test_the_strip_is_darkest_on_paper_and_brightest_on_black_where_it_costs_most(texts: dict) -> None:
    for dark, sign in ((False, 1), (True, -1)):
        root = ElementTree.fromstring(texts["lesion_delete", dark])
        marks = [(mark.findtext(f"{SVG}title"), mark.get("fill", "")) for mark in root.iter(f"{SVG}path")]
        cells = {tell: fill for tell, fill in marks if tell and fill.startswith("rgb")}
        brightness = {tell: sum(map(int, re.findall(r"\d+", colour))) for tell, colour in cells.items()}
        free, dear, worst = (
            next(value for tell, value in brightness.items() if f"deleted: {change}" in str(tell))
            for change in ("+0.00", "+8.00", "+40.00")
        )
        assert sign * free > sign * dear > sign * worst
