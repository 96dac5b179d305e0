"""Several runs: the best one, which differences are more than chance, and the chart where depths differ."""

import base64
from pathlib import Path

import numpy as np
import pytest
from tests.show import cases

from howdeep.analysis.evaluation import Answers
from howdeep.show.report.page import page_of
from howdeep.show.report.reading import collect
from howdeep.show.report.summary import Error, RunSummary, compared, comparison_table, told_apart


def facts(
    name: str,
    percent: float | None,
    *,
    depth: int = 20,
    n: int = 1000,
    family: str = "residual",
    macs: int = 10,
    data: str = "digits",
    split: str = "test",
    answers: Answers | None = None,
) -> RunSummary:
    error = None if percent is None else Error(percent, n if split == "test" else None, split, answers)
    return RunSummary(name=name, family=family, depth=depth, macs=macs, error=error, data=data)


def test_one_run_is_no_comparison() -> None:
    assert compared([facts("a", 5.0)]) is None


def test_the_lowest_error_is_best_and_others_are_within_chance_or_worse() -> None:
    """Of 1,000 images 5.0 and 6.9 % are 1.79 standard errors apart, 5.0 and 7.5 % are 2.29."""
    found = compared([facts("worse", 7.5), facts("best", 5.0), facts("alike", 6.9)])
    assert found is not None
    assert found.headline.startswith("Best of 3 runs: best, 5.0 % test error (95 % interval 3.7–6.5, n = 1,000)")
    assert (
        found.finding == "alike cannot be told from it on these 1,000 images; worse is worse by more than chance;"
        " compared as if on different images"
    )


def answered(wrong: set[int], images: str = "these", n: int = 1000) -> Answers:
    bits = np.packbits([number in wrong for number in range(n)])
    return Answers(images, base64.b64encode(bits.tobytes()).decode())


def test_runs_on_the_same_images_are_compared_image_by_image() -> None:
    """50 and 66 of 1,000 images wrong: within chance for two samples of images, beyond it where the 66 hold the 50."""
    few, many = answered(set(range(50))), answered(set(range(66)))
    best, other = facts("best", 5.0, answers=few), facts("other", 6.6, answers=many)
    found = compared([best, other])
    assert found is not None
    assert found.finding == "it is better than other by more than chance, compared image by image"
    for strange in (facts("other", 6.6), facts("other", 6.6, answers=answered(set(range(66)), "others"))):
        found = compared([best, strange])
        assert found is not None
        assert found.finding == "other cannot be told from it on these 1,000 images; compared as if on different images"
    mixed = compared([best, other, facts("third", 5.1)])
    assert mixed is not None
    assert mixed.finding.endswith("compared image by image where both records say which were wrong")


def test_none_wrong_of_179_is_not_better_than_four_wrong_by_more_than_chance() -> None:
    for answers in (None, answered(set(range(4)), n=179)):
        none = answers and answered(set(), n=179)
        found = compared([facts("none", 0.0, n=179, answers=none), facts("four", 400 / 179, n=179, answers=answers)])
        assert found is not None
        assert found.finding.startswith("four cannot be told from it on these 179 images; compared ")


def test_of_equal_errors_the_cheaper_network_is_best() -> None:
    found = compared([facts("a dear one", 5.0, macs=20), facts("cheap", 5.0, macs=10)])
    assert found is not None
    assert found.best is not None
    assert found.best.name == "cheap"


def test_a_cheaper_network_that_cannot_be_told_apart_is_named() -> None:
    found = compared(
        [
            facts("best", 5.0, macs=30),
            facts("middle", 5.1, macs=20),
            facts("also", 5.3, macs=10),
            facts("small", 5.2, macs=10),
        ]
    )
    assert found is not None
    assert (
        found.finding
        == "also, middle and small cannot be told from it on these 1,000 images, of which small is the cheapest;"
        " compared as if on different images"
    )
    found = compared([facts("best", 5.0, macs=30), facts("small", 5.2, macs=10)])
    assert found is not None
    assert "images and is cheaper; compared" in found.finding


def test_errors_on_different_data_and_untested_runs_are_not_compared() -> None:
    found = compared([facts("a", 5.0), facts("b", 50.0, data="cats")])
    assert found is not None
    assert (found.headline, found.best) == ("2 runs on different data", None)
    assert found.points == ()
    found = compared([facts("a", 5.0, split="validation"), facts("b", 4.0, split="validation"), facts("c", None)])
    assert found is not None
    assert found.finding == "the lowest validation error is that of b, 4.0 %"


def test_the_chart_has_exact_intervals_where_depths_differ_and_is_none_where_not() -> None:
    found = compared([facts("a", 0.0, n=100), facts("b", 5.0, depth=56)])
    assert found is not None
    (first, second) = found.points
    assert (first.depth, first.low, first.high) == (20, 0.0, pytest.approx(3.6217, abs=1e-3))
    assert (second.depth, second.error_percent) == (56, 5.0)
    alike = compared([facts("a", 5.0), facts("b", 6.0)])
    assert alike is not None
    assert alike.points == ()


def test_rows_are_by_family_and_depth_and_columns_that_nobody_knows_are_left_out() -> None:
    found = compared([facts("c", 5.0, depth=56), facts("b", None), facts("a", 7.0, family="plain", depth=110)])
    assert found is not None
    table = comparison_table(found)
    rows = table.rows
    assert [row[0] for row in rows] == ["a", "b", "c"]
    assert table.heads == ["network", "layers", "MACs", "error", "95 % interval", "above the best, 95 %"]
    assert rows[1] == ["b", "20", "10", "–", "–", "–"]
    assert [row[-1] for row in rows] == ["+2.0 (−0.2 to +4.2)", "–", "–"]


def test_runs_of_one_network_carry_their_folders() -> None:
    named = told_apart([(facts("a", 1.0), "x"), (facts("b", 1.0), "y"), (facts("a", 2.0), "z")])
    assert [one.name for one in named] == ["a (x)", "b", "a (z)"]


def test_the_page_compares_first_and_tells_of_each_run_under_its_name(tmp_path: Path) -> None:
    places = [cases.run_folder(tmp_path / "one"), cases.run_folder(tmp_path / "two", "cifar_resnet8", wrong=50)]
    page = page_of(collect(places), "howdeep report")
    assert page.comparison is not None
    assert page.comparison.finding == (
        "cifar_resnet20 has the lowest test error; it is better than cifar_resnet8 by more than chance,"
        " compared as if on different images."
    )
    assert len(page.comparison.charts) == 1
    assert [part.heading for part in page.parts] == ["cifar_resnet20", "cifar_resnet8"]
    assert [section.heading for section in page.parts[0].sections] == ["Training", "Evaluation"]


@pytest.mark.usefixtures("undrawn")
def test_runs_of_a_folder_are_compared_and_only_their_own_records_are_told(tmp_path: Path) -> None:
    cases.run_folder(tmp_path / "all" / "one")
    other = cases.run_folder(tmp_path / "all" / "two", "cifar_resnet8")
    cases.written(other / "lesion.json", "lesion", cases.lesion((1.0, 2.0, 3.0)))
    page = page_of(collect([tmp_path / "all"]), "howdeep report")
    assert page.comparison is not None
    assert [(part.heading, [one.heading for one in part.sections]) for part in page.parts] == [
        ("cifar_resnet8", ["Lesion: each unit taken out"])
    ]
