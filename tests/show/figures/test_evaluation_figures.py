"""Confusion and reliability: right counts in the right places, for two classes and for a thousand."""

from dataclasses import replace

import pytest
from tests.show.cases import confusions, ten_answers
from tests.show.figures.test_strip import cells, marks

from howdeep.analysis.evaluation import Evaluation
from howdeep.show import figures
from howdeep.show.figures.evaluation import SHOWN
from howdeep.show.sentences import confusion_finding, reliability_finding


def title(chart: dict) -> str:
    return " ".join(chart["title"]["text"])


def test_rows_are_true_classes_and_columns_given_ones() -> None:
    chart = figures.confusion(ten_answers()).to_dict()
    found = {(row["true"], row["given"]): (row["count"], row["share"]) for row in cells(chart)}
    assert found == {
        (0, 0): (4, pytest.approx(200 / 3)),
        (0, 1): (2, pytest.approx(100 / 3)),
        (1, 0): (1, 25.0),
        (1, 1): (3, 75.0),
    }
    layer = next(marks(chart, "rect"))
    assert (layer["encoding"]["y"]["field"], layer["encoding"]["y"]["title"]) == ("true", "true class")
    assert title(chart) == "The most frequent mistake: cat taken for dog, 2 of 6 images"


@pytest.mark.parametrize("classes", [2, 10, 20])
def test_a_matrix_shows_all_that_happened(classes: int) -> None:
    names, counts = confusions(classes)
    found = {
        (row["true"], row["given"]): row["count"]
        for row in cells(figures.confusion_matrix(names, counts, "all").to_dict())
    }
    assert found == {
        (true, given): count for true, row in enumerate(counts) for given, count in enumerate(row) if count
    }


@pytest.mark.parametrize("classes", [21, 100, 1000])
def test_of_many_classes_the_largest_confusions_are_bars(classes: int) -> None:
    chart = figures.confusion_matrix(*confusions(classes), "many").to_dict()
    (layer,) = marks(chart, "bar")
    rows = layer["data"]["values"]
    assert [row["count"] for row in rows] == [classes - 1 - place for place in range(SHOWN)]
    assert rows[1]["pair"] == f"class {classes - 2} → class {classes - 1}"
    assert chart["width"] == 320
    # Each class but the first is taken for the next one.
    told = f"the {SHOWN} most frequent of {classes - 1:,} mistakes; 1 of {classes:,} classes at 100 %"
    assert " ".join(chart["title"]["subtitle"]) == told


@pytest.mark.parametrize("classes", [2, 40])
def test_no_mistakes_and_no_images_are_drawn_too(classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    for right in (0, 5):
        counts = [[right * (true == given) for given in range(classes)] for true in range(classes)]
        assert confusion_finding(names, counts) == "no image is taken for another class"
        assert figures.svg(figures.confusion_matrix(names, counts, "none"))


def test_names_with_quotes_stay_names() -> None:
    chart = figures.confusion_matrix(["it's", 'a "b"\\'], [[1, 1], [0, 2]], "quotes")
    text = figures.svg(chart)
    assert "it's" in text
    assert 'a "b"\\' in text.replace("&quot;", '"')


def test_the_points_of_reliability_are_the_bins_that_hold_images() -> None:
    chart = figures.reliability(ten_answers()).to_dict()
    (points,) = marks(chart, "point")
    rows = points["data"]["values"]
    assert [(row["confidence"], row["accuracy"], row["n"]) for row in rows] == [(70, 75, 4), (90, 100 * 4 / 6, 6)]
    # The exact interval of 3 of 4 and of 4 of 6.
    assert [(row["low"], row["high"]) for row in rows] == [
        (pytest.approx(19.41, abs=0.01), pytest.approx(99.37, abs=0.01)),
        (pytest.approx(22.28, abs=0.01), pytest.approx(95.67, abs=0.01)),
    ]


def test_the_finding_says_over_or_under_confident_beyond_chance() -> None:
    found = ten_answers()
    assert reliability_finding(found).startswith("calibrated within chance: 82.0 % sure and 70.0 % right")
    sure = evaluation_with(error=30.0, times=100)
    assert reliability_finding(sure).startswith("over-confident: 82.0 % sure and 70.0 % right")
    assert reliability_finding(evaluation_with(error=5.0, times=100)).startswith("under-confident")
    assert title(figures.reliability(sure).to_dict()).lower() == reliability_finding(sure)


def evaluation_with(error: float, times: int) -> Evaluation:
    """Return an evaluation of so many times as many images."""
    found = ten_answers()
    bins = tuple(replace(one, n=times * one.n) for one in found.bins)
    return replace(found, error_percent=error, n=times * found.n, bins=bins)
