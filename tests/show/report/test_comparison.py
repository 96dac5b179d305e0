"""Several runs: the best one, which differences are more than chance, and the chart where depths differ."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.show import cases

from howdeep.analysis.evaluation import Answers
from howdeep.costs.runs import latencies_of
from howdeep.runs.folder import Run, open_run
from howdeep.show.report.comparison import Comparison, compared, comparison_table
from howdeep.show.report.page import Timed, html_of, page_of
from howdeep.show.report.reading import collect
from howdeep.show.report.sections import TIMED
from howdeep.show.report.summary import Error, RunSummary, summary_of, told_apart


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
    trained: str = "",
    little: bool = False,
) -> RunSummary:
    error = None if percent is None else Error(percent, n if split == "test" else None, split, answers)
    return RunSummary(
        name=name,
        network=name,
        family=family,
        depth=depth,
        macs=macs,
        error=error,
        data=data,
        trained=trained,
        learned_little=little,
    )


def found(*rows: RunSummary) -> Comparison:
    comparison = compared(rows)
    assert comparison is not None
    return comparison


def test_one_run_is_no_comparison() -> None:
    assert compared([facts("a", 5.0)]) is None


def test_how_deep_is_the_cheapest_that_is_not_significantly_worse() -> None:
    """Of 1,000 images 5.0 and 6.9 % are 1.79 standard errors apart, 5.0 and 7.9 % are 2.7."""
    one = found(
        facts("a", 7.9, depth=8, macs=5), facts("b", 6.9, depth=20, macs=10), facts("c", 5.0, depth=56, macs=30)
    )
    assert one.headline == (
        "20 layers are enough here: 6.9 % test error (95 %: 5.4–8.7);"
        " 56 layers, 5.0 % (3.7–6.5), are not significantly better on 1,000 images"
    )
    assert one.finding == "1 of 2 other networks is significantly worse than 56 layers"
    assert one.details == (
        "significantly worse: 8 layers",
        "compared with the best as if on different images, 2 comparisons corrected (Holm)",
    )
    assert [point.enough for point in one.points] == [False, True, False]
    deep = found(facts("a", 9.0, depth=8, macs=5), facts("b", 5.0, depth=56, macs=30))
    assert deep.headline == (
        "56 layers are worth it here: 5.0 % test error (95 %: 3.7–6.5), significantly better than every cheaper"
        " network on 1,000 images"
    )
    cheap = found(facts("a", 5.0, depth=8, macs=5), facts("b", 5.0, depth=56, macs=30, family="plain"))
    assert cheap.headline.startswith("8 layers (residual) are enough here: 5.0 % test error (95 %: 3.7–6.5), the low")


def test_what_may_be_much_worse_is_not_enough() -> None:
    """Of 100 images 16 and 9 % may be equal, and may be 17 points apart."""
    one = found(facts("a", 16.0, depth=8, macs=5, n=100), facts("b", 9.0, depth=56, macs=30, n=100))
    assert one.headline == (
        "56 layers: 9.0 % test error (95 %: 4.2–16.4); whether 8 layers, 16.0 % (9.4–24.7), are enough is not settled"
        " on 100 images: up to 17 points worse, or none"
    )
    assert one.finding == "the other network is not significantly worse than 56 layers"
    assert one.details[0] == "not settled, more than 10 points are open: 8 layers"
    assert (one.enough, [point.enough for point in one.points]) == (None, [False, False])
    some = ((14.0, 8, 5), (9.5, 20, 10), (9.0, 56, 30))
    three = found(*(facts(str(depth), percent, depth=depth, macs=macs, n=200) for percent, depth, macs in some))
    assert three.headline.startswith("20 layers are enough here: 9.5 %")
    assert three.details[0] == "not settled, more than 10 points are open: 8 layers"


def test_several_comparisons_are_corrected() -> None:
    """5.0 and 7.2 % of 1,000 images: p = 0.04 alone, and no more than chance among three such comparisons."""
    best, others = facts("best", 5.0, macs=40), [facts(name, 7.2, macs=50) for name in "abc"]
    assert found(best, others[0]).finding == "the other network is significantly worse than best"
    alike = found(best, *others)
    assert alike.finding == "none of 3 other networks is significantly worse than best"
    assert alike.details[0] == "not significantly worse: a, b and c"


def test_seeds_of_one_network_are_a_group_and_never_another_network() -> None:
    one = found(facts("a (x)", 4.0, trained="so"), facts("a (y)", 5.0, trained="so"))
    two = [replace(row, network="a") for row in one.rows]
    one = found(*two)
    assert one.headline == "a: 4.5 % test error (95 %: 3.3–6.0), mean of 2 seeds, on 1,000 images"
    assert (len(one.groups), one.differences) == (1, (None,))
    assert len(found(*two, replace(two[0], trained="longer")).groups) == 2
    (mean,) = found(*two, facts("b", 4.4, depth=56, macs=5)).points[:1]
    assert (mean.error_percent, mean.runs, mean.enough) == (4.5, (4.0, 5.0), False)
    far = [replace(two[0], error=Error(percent, 1000, "test")) for percent in (0.0, 20.0)]
    assert found(*far).best.interval == (0.0, 20.0)  # type: ignore[union-attr]
    three = found(*far, two[1]).best
    assert three is not None
    assert three.interval.low == 0.0  # Student's of 0, 5 and 20 % begins at −17


def test_networks_that_learned_little_are_said_to_be_and_a_best_one_that_did_is_no_verdict() -> None:
    rows = [facts("a", 70.0, depth=8, macs=5, little=True), facts("b", 5.0, depth=56, macs=30)]
    assert found(*rows).details[1] == (
        "8 layers have learned little (more than half of what guessing gets wrong: undertrained, or training fails)"
    )
    none = found(rows[0], facts("b", 69.0, depth=56, macs=30, little=True))
    assert none.headline == (
        "No verdict: the best of them has learned little; 56 layers: 69.0 % test error (95 %: 66.0–71.9)"
        " on 1,000 images"
    )
    assert none.enough is None


def test_a_cut_is_compared_with_its_parent_alone() -> None:
    cut = replace(facts("a cut", 5.5, depth=16, macs=5), cut=cases.cut(9, 2))
    one = found(facts("a", 5.0), cut)
    assert one.headline == "a: 5.0 % test error (95 %: 3.7–6.5) on 1,000 images"
    assert one.finding == "only a was tested"
    assert one.cuts == ("a cut, against its parent: test 5.0 → 5.5 %, +0.5 points (95 %: −0.5 to +1.5); 2 → 1 ms",)
    assert [row[-1] for row in comparison_table(one).rows] == ["+0.5 (−0.5 to +1.5) to its parent", "best, enough"]
    dear = replace(cut, cut=cases.cut(9, 2, change=3.0))
    assert found(facts("a", 5.0), dear).cuts[0].endswith("; 2 → 1 ms, significantly worse")
    assert found(cut, dear).finding == "1 of 2 cuts is significantly worse than the whole network"
    assert found(dear, dear).finding == "both cuts are significantly worse than the whole network"


def answered(wrong: set[int], images: str = "these", n: int = 1000) -> Answers:
    bits = np.packbits([number in wrong for number in range(n)])
    return Answers(images, base64.b64encode(bits.tobytes()).decode())


def test_runs_on_the_same_images_are_compared_image_by_image() -> None:
    """50 and 66 of 1,000 images wrong: within chance for two samples of images, beyond it where the 66 hold the 50."""
    few, many = answered(set(range(50))), answered(set(range(66)))
    best, other = facts("best", 5.0, answers=few), facts("other", 6.6, answers=many)
    paired = found(best, other)
    assert paired.finding == "the other network is significantly worse than best"
    assert paired.details == ("significantly worse: other", "compared with the best image by image")
    for strange in (facts("other", 6.6), facts("other", 6.6, answers=answered(set(range(66)), "others"))):
        one = found(best, strange)
        assert one.finding == "the other network is not significantly worse than best"
        assert one.details == (
            "not significantly worse: other",
            "compared with the best as if on different images",
        )
    seeds = [
        facts(name, percent, answers=answered(set(range(round(10 * percent))), images), trained=name)
        for images in ("these", "others")
        for name, percent in (("best", 5.0), ("other", 6.6))
    ]
    apart = found(*seeds)  # a seed draws images of its own, so that two seeds of four pairs saw the same ones
    assert apart.details == ("significantly worse: other, 2 seeds", "compared with the best image by image")
    assert found(*seeds[:3]).details[-1] == "compared with the best as if on different images"
    mixed = found(best, other, facts("third", 5.1)).details[-1]
    assert "image by image where both records say which were wrong" in mixed


def test_none_wrong_of_179_is_not_significantly_better_than_four_wrong() -> None:
    for answers in (None, answered(set(range(4)), n=179)):
        none = answers and answered(set(), n=179)
        one = found(facts("none", 0.0, n=179, answers=none), facts("four", 400 / 179, n=179, answers=answers, macs=5))
        assert one.enough is not None
        assert one.enough.label == "four"


def test_of_equal_errors_the_cheaper_network_is_best() -> None:
    one = found(facts("a dear one", 5.0, macs=20), facts("cheap", 5.0, macs=10))
    assert one.best is one.enough
    assert one.best is not None
    assert one.best.label == "cheap"


def test_errors_on_different_data_and_untested_runs_are_not_compared() -> None:
    one = found(facts("a", 5.0), facts("b", 50.0, data="cats"))
    assert (one.headline, one.best, one.points) == ("2 runs on different data", None, ())
    one = found(facts("a", 5.0, split="validation"), facts("b", 4.0, split="validation"), facts("c", None))
    assert one.finding == "the lowest validation error is that of b, 4.0 %"


def test_the_chart_has_exact_intervals_where_depths_differ_and_is_none_where_not() -> None:
    (first, second) = found(facts("a", 0.0, n=100), facts("b", 5.0, depth=56)).points
    assert (first.depth, first.low, first.high) == (20, 0.0, pytest.approx(3.6217, abs=1e-3))
    assert (second.depth, second.error_percent) == (56, 5.0)
    assert found(facts("a", 5.0), facts("b", 6.0)).points == ()


def test_rows_are_by_family_and_depth_and_columns_that_nobody_knows_are_left_out() -> None:
    one = found(facts("c", 5.0, depth=56), facts("b", None), facts("a", 7.0, family="plain", depth=110))
    table = comparison_table(one)
    rows = table.rows
    assert [row[0] for row in rows] == ["a", "b", "→ c"]
    assert '<td class="t"><strong>→ c</strong></td>' in table.html()
    assert '<th scope="col" class="t">remarks</th>' in table.html()
    assert table.heads == ["network", "layers", "MACs", "error", "95 % interval", "above the best, 95 %", ""]
    assert rows[1] == ["b", "20", "10", "–", "–", "–", "–"]
    assert [row[-2:] for row in rows] == [["+2.0 (−0.2 to +4.2)", "–"], ["–", "–"], ["–", "best, enough"]]


def test_runs_of_one_network_carry_their_folders() -> None:
    named = told_apart([(facts("a", 1.0), "x"), (facts("b", 1.0), "y"), (facts("a", 2.0), "z")])
    assert [one.name for one in named] == ["a (x)", "b", "a (z)"]
    named = told_apart([(facts("a", 1.0), place) for place in ("all/x", "all/y", "more/y")])
    assert [one.name for one in named] == ["a (x)", "a (all/y)", "a (more/y)"]


def test_run_folders_that_differ_in_their_seed_alone_are_seeds_of_one_network(tmp_path: Path) -> None:
    places = []
    for seed, epochs, last in ((0, 10, 1.0), (1, 10, 40.0), (2, 20, 1.0)):
        place = cases.run_folder(tmp_path / str(seed), errors=((last, 30.0),))
        record = json.loads((place / "run.json").read_text())
        record["config"] = {"size": None, "epochs": epochs, "seed": seed, "threads": 1 + seed}
        (place / "run.json").write_text(json.dumps(record))
        places.append(place)
    one, other, longer = (summary_of(subject) for subject in collect(places).runs)
    assert one.trained == other.trained != longer.trained
    assert [len(group.runs) for group in found(one, other, longer).groups] == [2, 1]
    # Of two classes guessing gets half of the images wrong: 40 and 30 % are little, 1 % of training images is not.
    assert [run.learned_little for run in (one, other, longer)] == [False, True, False]


def test_the_page_compares_first_and_tells_of_each_run_under_its_name(tmp_path: Path) -> None:
    places = [cases.run_folder(tmp_path / "one"), cases.run_folder(tmp_path / "two", "cifar_resnet8", wrong=50)]
    page = page_of(collect(places), "howdeep report")
    assert page.comparison is not None
    assert page.comparison.finding == ""
    assert page.comparison.points == (
        "Significantly worse: 8 layers.",
        "Compared with the best as if on different images.",
    )
    assert page.answer.verdict == "The other network is significantly worse than 20 layers."
    lesion = f"howdeep lesion {places[0]} --json {places[0]}/lesion.json"
    assert page.next == (lesion, "what every unit is worth")
    assert html_of(page).count('aria-describedby="comparison-t1"') == 2  # of both charts, the table of runs
    assert page.answer.sentence.startswith("20 layers are worth it here: 5.0 % test error")
    assert page.answer.chart is not None
    assert len(page.comparison.charts) == 1  # of both trainings: that of depth stands on the first screen
    assert [part.heading for part in page.parts] == ["cifar_resnet20", "cifar_resnet8"]
    assert [section.heading for section in page.parts[0].sections] == ["Training", "Evaluation"]


@pytest.mark.usefixtures("undrawn")
def test_where_nothing_is_settled_the_page_goes_on_with_the_best_network(tmp_path: Path) -> None:
    places = [cases.run_folder(tmp_path / "one"), cases.run_folder(tmp_path / "two", "cifar_resnet8", wrong=10)]
    page = page_of(collect(places), "howdeep report")
    assert page.answer.sentence.startswith("20 layers: 5.0 % test error")
    assert "whether 8 layers, 10.0 % (4.9–17.6), are enough is not settled" in page.answer.sentence
    assert page.next == (f"howdeep lesion {places[0]} --json {places[0]}/lesion.json", "what every unit is worth")


@pytest.mark.usefixtures("undrawn")
def test_runs_of_a_folder_are_compared_and_only_their_own_records_are_told(tmp_path: Path) -> None:
    cases.run_folder(tmp_path / "all" / "one")
    other = cases.run_folder(tmp_path / "all" / "two", "cifar_resnet8")
    cases.written(other / "lesion.json", "lesion", cases.lesion((1.0, 2.0, 3.0)))
    cut = cases.run_folder(tmp_path / "all" / "cut", "cifar_resnet14", wrong=None, errors=(), removed=(1,))
    cases.written(cut / "cut.json", "cut", cases.cut(6, 1))
    paths = cases.run_folder(tmp_path / "all" / "first", "cifar_resnet32")
    cases.written(paths / "paths.json", "paths", cases.paths_of(3))
    page = page_of(collect([tmp_path / "all"]), "howdeep report")
    assert page.comparison is not None
    # In the order of the story: which units matter, why, and so some can go.
    assert [(part.heading, [one.heading for one in part.sections]) for part in page.parts] == [
        ("cifar_resnet8", ["Lesion: each unit taken out"]),
        ("cifar_resnet32", ["Paths of the gradient"]),
        ("cifar_resnet14 cut to 5 units", ["Cut: a shallower network"]),
    ]


@pytest.mark.usefixtures("undrawn")
def test_latencies_of_all_runs_are_measured_where_a_record_leaves_one_out(tmp_path: Path) -> None:
    runs = [cases.run_folder(tmp_path / str(depth), f"cifar_resnet{depth}") for depth in (8, 14)]
    cases.written(runs[0] / "cut.json", "cut", cases.cut(3, 1))  # says 2 ms of the first
    asked = []

    def timed(of: Sequence[Run]) -> list[float | None]:
        asked.append([run.path for run in of])
        return [3.0, None]

    def told(timed: Timed | None) -> tuple[list[str], tuple[str, ...]]:
        section = page_of(collect(runs), "x", timed).comparison
        assert section is not None
        (table,) = section.tables
        return [row[table.heads.index("latency")] for row in table.rows], section.notes

    assert told(None) == (["2 ms", "–"], ())
    assert told(timed) == (["3 ms", "–"], (TIMED,))
    assert asked == [runs]
    cases.written(runs[1] / "cut.json", "cut", cases.cut(6, 1))
    assert told(timed) == (["2 ms", "2 ms"], ())


def test_runs_are_timed_by_turns_and_those_without_weights_are_not(tmp_path: Path) -> None:
    with_weights, without = cases.run_folder(tmp_path / "a", "cifar_resnet8"), cases.run_folder(tmp_path / "b")
    run = open_run(with_weights)
    chain = run.untrained()
    run.save(0, tensors={"weights": chain.state_dict()}, state={})
    first, second = latencies_of([run, open_run(without)])
    assert first is not None
    assert first > 0
    assert second is None
