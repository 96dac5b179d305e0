"""The strip: one cell per unit at every depth, costs near zero and large ones told apart."""

from collections.abc import Iterator

import pytest
from tests.show.cases import NINE, by_unit

from howdeep.show import figures
from howdeep.show.figures.drawing import WIDTH
from howdeep.show.sentences import lesion_finding


def marks(chart: dict, kind: str) -> Iterator[dict]:
    """Yield the layers of a chart that have marks of a kind, each with its data, which layers may share."""
    for layer in chart.get("layer", []) + chart.get("vconcat", []) + chart.get("hconcat", []):
        yield from marks({"data": chart.get("data"), **layer}, kind)
    mark = chart.get("mark")
    if (mark["type"] if isinstance(mark, dict) else mark) == kind:
        yield chart


def cells(chart: dict) -> list[dict]:
    return [row for layer in marks(chart, "rect") for row in layer["data"]["values"]]


@pytest.mark.parametrize("units", [1, 9, 30, 31, 54, 120, 121, 600])
def test_a_strip_has_one_cell_per_unit(units: int) -> None:
    changes: list[float | None] = [None if index % 7 == 3 else index / 10 for index in range(units)]
    chart = figures.strip(by_unit(changes)).to_dict()
    found = cells(chart)
    assert sorted(row["unit"] for row in found) == list(range(1, units + 1))
    assert len({(row["row"], row["place"]) for row in found}) == units
    assert {row["unit"] for row in found if row["change"] is None} == set(range(4, units + 1, 7))
    assert chart["width"] == WIDTH


@pytest.mark.parametrize(("units", "rows"), [(9, 1), (30, 1), (31, 2), (54, 2), (120, 4), (121, 2), (600, 6)])
def test_rows_say_which_units_they_hold(units: int, rows: int) -> None:
    chart = figures.strip(by_unit([0.0] * units)).to_dict()
    names = list(dict.fromkeys(row["row"] for row in cells(chart)))
    assert len(names) == rows
    assert names[-1].endswith(f"–{units}")
    assert all(row["unit"] == int(row["row"].split("–")[0]) + row["place"] - 1 for row in cells(chart))


@pytest.mark.parametrize(
    ("change", "text"),
    [(0.04, "0"), (-0.04, "0"), (-0.46, "−0.5"), (9.94, "9.9"), (9.96, "10"), (87.4, "87"), (-12.3, "−12")],
)
def test_costs_are_written_in_the_cells_with_four_signs_at_most(change: float, text: str) -> None:
    chart = figures.strip(by_unit([change])).to_dict()
    assert [row["text"] for layer in marks(chart, "text") for row in layer["data"]["values"]] == [text]
    assert not list(marks(figures.strip(by_unit([change] * 121)).to_dict(), "text"))


def test_colours_are_the_same_for_every_network_and_tell_better_from_worse() -> None:
    scales = [
        next(layer["encoding"]["color"]["scale"] for layer in marks(figures.strip(by_unit([cost])).to_dict(), "rect"))
        for cost in (0.1, 90.0)
    ]
    assert scales[0] == scales[1]
    assert scales[0]["type"] == "symlog"
    assert min(scales[0]["domain"]) < 0 < max(scales[0]["domain"])


def test_units_that_could_not_be_taken_out_are_outlined_and_nothing_else() -> None:
    filled, outlined = marks(figures.strip(NINE).to_dict(), "rect")
    assert [row["unit"] for row in outlined["data"]["values"]] == [1]
    assert outlined["mark"]["fill"] == "transparent"
    assert len(list(marks(figures.strip(by_unit([1.0, 2.0])).to_dict(), "rect"))) == 1
    assert len(filled["data"]["values"]) == 8


@pytest.mark.parametrize("draw", [figures.strip, figures.lesion])
@pytest.mark.parametrize(("kind", "says"), [("delete", "deleted"), ("duplicate", "run twice")])
def test_the_heading_says_what_an_outline_is_where_there_is_one(draw, kind: str, says: str) -> None:
    whiskers = ["whiskers: 95 % interval of the change"] * (draw is figures.lesion)
    told = "; ".join([f"dashed: cannot be {says}", *whiskers])
    assert draw(by_unit([None, 1.0], kind)).to_dict()["title"]["subtitle"] == [told]
    assert draw(by_unit([0.0, 1.0], kind)).to_dict()["title"].get("subtitle", []) == whiskers


@pytest.mark.parametrize("draw", [figures.strip, figures.lesion])
def test_the_title_is_the_finding(draw) -> None:
    title = " ".join(draw(NINE).to_dict()["title"]["text"])
    assert title.lower() == lesion_finding(NINE).lower()


def test_a_lesion_shows_the_strip_above_the_bars() -> None:
    upper, lower = figures.lesion(NINE).to_dict()["vconcat"]
    assert upper == {
        name: value
        for name, value in figures.strip(NINE).to_dict().items()
        if name not in ("title", "$schema", "config")
    }
    assert [row["unit"] for layer in marks(lower, "bar") for row in layer["data"]["values"]] == list(range(2, 10))
    # Whiskers are those of the change: 6 % at baseline, +40 points from +39 to +41, and −2 from −3.
    whiskers = [(row["bottom"], row["top"]) for row in next(marks(lower, "rule"))["data"]["values"]]
    assert (whiskers[0], min(bottom for bottom, _ in whiskers)) == ((45.0, 47.0), 3.0)
