"""Titles state findings, letters can be read, records at their edges are drawn."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.show import cases
from tests.show.figures.test_strip import marks

from howdeep.analysis.lesion import Lesion, Trial
from howdeep.show import figures
from howdeep.show.figures.drawing import spec_of
from howdeep.show.sentences import curves_finding, cut_finding, fit_finding, flow_finding, lesion_finding
from howdeep.util.errors import UserError

FINDINGS = {
    "curves": curves_finding(cases.curves()),
    "degradation": cases.degradation().finding,
    "fit": fit_finding(cases.fit()),
    "flow": flow_finding(cases.flow()),
    "frontier": cut_finding(cases.frontier()),
    "transfer": cases.transfer().finding,
    **{f"lesion_{kind}": lesion_finding(cases.by_trial(kind)) for kind in ("random", "permute", "pairs")},
}


@pytest.mark.parametrize("name", FINDINGS)
def test_the_title_is_the_finding(name: str) -> None:
    title = " ".join(cases.spec(name)["title"]["text"])
    assert title.lower() == FINDINGS[name].lower()


def test_every_ladder_of_costs_has_its_finding() -> None:
    (ladder,) = figures.ladder(cases.costs()).to_dict()["vconcat"]
    assert ladder["title"]["text"] == cases.costs().finding


def sizes(spec: Any) -> Iterator[float]:
    if isinstance(spec, dict):
        for name, value in spec.items():
            yield from [value] if name.lower().endswith("fontsize") else sizes(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from sizes(value)


@pytest.mark.parametrize("name", cases.CHARTS)
def test_letters_have_at_least_eleven_pixels(name: str) -> None:
    spec = spec_of(cases.chart(name))
    found = list(sizes(spec))
    assert len(found) >= 5
    assert min(found) >= 11
    assert {"labelFontSize", "titleFontSize"} <= spec["config"]["axis"].keys() & spec["config"]["legend"].keys()


def rows(chart: dict, kind: str) -> list[dict]:
    return [row for layer in marks(chart, kind) for row in layer["data"]["values"]]


def test_the_curve_of_new_orders_begins_as_trained_and_goes_on_by_tau() -> None:
    (line,) = marks(figures.lesion(cases.by_trial("permute")).to_dict(), "line")
    assert [(row["tau"], row["error"]) for row in line["data"]["values"]] == [
        (1.0, 6.0),
        (0.9, 17.0),
        (0.8, 16.0),
        (0.6, 26.0),
        (0.4, 27.0),
    ]


def test_orders_of_similar_tau_are_averaged() -> None:
    trials = [
        Trial(k=1, draw=place, units=(2, 1), kendall_tau=0.9 - 0.01 * place, effect=cases.effect(float(place)))
        for place in range(18)
    ]
    found = Lesion(kind="permute", baseline=cases.BASELINE, trials=tuple(trials), by_k=cases.by_trial("permute").by_k)
    (line,) = marks(figures.lesion(found).to_dict(), "line")
    points = [(row["tau"], row["error"]) for row in line["data"]["values"]]
    # 18 orders in nine groups: 0.90 and 0.89 with 6 and 7 %, 0.88 and 0.87 with 8 and 9 %, …
    assert points[1:3] == [(pytest.approx(0.895), 6.5), (pytest.approx(0.875), 8.5)]
    assert len(points) == 10


def test_random_deletions_begin_with_the_intact_network() -> None:
    (line,) = marks(figures.lesion(cases.by_trial("random")).to_dict(), "line")
    assert [(row["k"], row["error"]) for row in line["data"]["values"]] == [(0, 6.0), (1, 16.5), (2, 26.5)]


def test_a_gradient_that_vanishes_is_an_empty_panel() -> None:
    assert figures.svg(figures.flow(cases.flow(gradient=0.0)))


def test_curves_show_both_errors_and_the_test_at_the_end() -> None:
    chart = figures.curves(cases.curves()).to_dict()
    assert len(chart["vconcat"]) == 2
    points = rows(chart["vconcat"][0], "point")
    assert [row["error"] for row in points if row["what"] == "validation"] == [
        50.0,
        25.0,
        pytest.approx(36.667, abs=0.01),
    ]
    assert [row["error"] for row in points if row["what"].startswith("training")] == [60.0, 30.0, 20.0]
    assert [(row["epoch"], row["error"]) for row in points if row["what"] == "test"] == [(3.0, 30.0)]


def test_open_units_have_a_panel_only_where_they_vary() -> None:
    stochastic = figures.curves(cases.curves(opened=6.0)).to_dict()["vconcat"]
    assert [row["open"] for row in rows(stochastic[2], "line")] == [6.0, 6.0, 6.0]


@pytest.mark.parametrize(("epochs", "points"), [(60, 60), (200, 200), (201, 0)])
def test_lines_tell_their_numbers_up_to_two_hundred_points(epochs: int, points: int) -> None:
    chart = figures.curves(cases.curves(epochs=epochs, validated=False)).to_dict()["vconcat"][1]
    assert len(rows(chart, "point")) == points
    assert len(rows(chart, "line")) == epochs


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_has_just_begun_is_drawn(epochs: int) -> None:
    assert figures.svg(figures.curves(cases.curves(epochs=epochs, validated=False)))


@pytest.mark.parametrize("ending", [".svg", ".png", ".pdf", ".html"])
def test_a_figure_is_saved_by_its_ending(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"figure{ending}"
    figures.save(figures.strip(cases.NINE), path)
    assert path.read_bytes()[:4] == {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!DO"}[ending]


def test_a_saved_drawing_has_room_for_the_widest_font_and_asks_for_none(tmp_path: Path) -> None:
    figures.save(figures.strip(cases.NINE), tmp_path / "figure.svg")
    drawn, page = ((tmp_path / "figure.svg").read_text(), figures.svg(figures.strip(cases.NINE)))
    assert set(re.findall(r'font-family="([^"]*)"', drawn)) == {"sans-serif"}
    assert ElementTree.fromstring(drawn).get("viewBox") == ElementTree.fromstring(page).get("viewBox")


def test_a_narrow_chart_says_so_and_is_not_stretched_on_a_telephone() -> None:
    narrow, wide = figures.svg(figures.confusion(cases.ten_answers())), figures.svg(figures.curves(cases.curves()))
    assert ["small" in ElementTree.fromstring(text).get("class", "") for text in (narrow, wide)] == [True, False]


@pytest.mark.parametrize(
    ("error", "said"),
    [(30.0, "grows from 6.0 to 30.0 %"), (2.0, "falls from 6.0 to 2.0 %"), (6.0, "stays at 6.0 %")],
)
def test_an_error_that_falls_does_not_grow(error: float, said: str) -> None:
    record = cases.by_trial("random")
    last = replace(record.by_k[-1], error_percent=error)
    assert replace(record, by_k=(*record.by_k[:-1], last)).finding == f"error {said} with 2 units out"


def test_a_cut_that_is_better_beyond_chance_is_no_noise() -> None:
    record = replace(cases.frontier(), chosen=None, tuned=None)

    def finding(low: float, change: float, high: float) -> str:
        best = replace(cases.effect(change), change_low=low, change_high=high)
        return replace(record, points=(replace(record.points[0], cut=best, kept="cut"),)).finding

    assert finding(-1.0, 0.5, 2.0).endswith("+0.5 points of error, no more than noise")
    assert finding(-9.0, -5.0, -1.0).endswith("−5.0 points of error")
    assert finding(0.5, 1.0, 2.0).startswith("every cut costs error: ")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"figure .*figure\.gif is not allowed"):
        figures.save(figures.strip(cases.NINE), tmp_path / "figure.gif")
