"""Paths drawn one by one, and counted beyond the range of floats."""

from collections import Counter
from dataclasses import replace
from math import comb

import pytest
from tests.show.cases import binomial, paths_of
from tests.show.figures.test_strip import marks

from howdeep.show import figures
from howdeep.show.figures.paths import count_text
from howdeep.show.sentences import paths_finding


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5])
def test_all_paths_are_drawn_each_through_its_own_branches(units: int) -> None:
    chart = figures.unravelled(paths_of(units)).to_dict()
    (wires,), (boxes,) = marks(chart, "rule"), marks(chart, "rect")
    lines = wires["data"]["values"]
    assert len({row["y"] for row in lines}) == 2**units
    assert Counter(row["length"] for row in lines) == binomial(units)
    through = {row["y"]: set() for row in lines}
    for box in boxes["data"]["values"]:
        through[box["y"]].add((box["from"] + box["to"]) / 2)
    assert len({frozenset(passed) for passed in through.values()}) == 2**units
    assert all(len(through[row["y"]]) == row["length"] for row in lines)


def test_beside_the_paths_stand_their_number_and_their_gradient() -> None:
    (side,) = marks(figures.unravelled(paths_of(2)).to_dict(), "text")
    # 1, 2 · 0.3 and 0.09 of 1.69
    assert [row["text"] for row in side["data"]["values"]] == [
        "length 0: 1 path, 59 % of the gradient",
        "length 1: 2 paths, 36 % of the gradient",
        "length 2: 1 path, 5.3 % of the gradient",
    ]


def test_only_small_networks_with_all_paths_can_be_unravelled() -> None:
    assert figures.can_unravel(paths_of(5))
    assert not figures.can_unravel(paths_of(6))
    assert not figures.can_unravel(replace(paths_of(3), path_count=("0", "1", "2", "1")))  # a plain unit among them
    with pytest.raises(AssertionError, match="6 units are too many"):
        figures.unravelled(paths_of(6))


def bars(chart: dict) -> dict[int, float]:
    (layer,) = marks(chart, "bar")
    return {row["length"]: row["share"] for row in layer["data"]["values"]}


def test_lengths_that_are_left_are_shares_beside_those_of_the_intact_network() -> None:
    chart = figures.path_lengths(binomial(2), binomial(3)).to_dict()
    assert bars(chart) == {0: 25.0, 1: 50.0, 2: 25.0, 3: 0.0}
    (line,) = marks(chart, "line")
    assert [row["share"] for row in line["data"]["values"]] == [12.5, 37.5, 37.5, 12.5]
    assert chart["title"]["text"] == ["4 of 8 paths are left"]


def test_the_gradient_of_the_baseline_lies_over_its_paths_where_a_record_has_it() -> None:
    record, source = paths_of(3, exact=False), "paths.json: val, n = 10"
    chart = figures.path_lengths(binomial(2), binomial(3), record, source).to_dict()
    line = [row["share"] for row in list(marks(chart, "line"))[1]["data"]["values"]]
    assert line == pytest.approx([100 * comb(3, k) * 0.3**k / 1.3**3 for k in range(4)])
    assert " ".join(chart["title"]["subtitle"]).endswith(f"green: its gradient ({source})")


@pytest.mark.parametrize("units", [600, 1200])  # 2^1200 is beyond the range of floats
def test_numbers_of_paths_are_exact(units: int) -> None:
    chart = figures.path_lengths(binomial(units - 1), binomial(units)).to_dict()
    assert chart["title"]["text"] == [f"{count_text(2 ** (units - 1))} of {count_text(2**units)} paths are left"]
    found = bars(chart)
    assert sum(found.values()) == pytest.approx(100, abs=0.1)
    assert found[units // 2] == found[units // 2 - 1] == max(found.values())
    assert len(found) < 200  # lengths that no bar could show are left out


@pytest.mark.parametrize(
    ("now", "title"), [({}, "No path is left"), ({0: 0}, "No path is left"), (binomial(3), "All 8 paths are there")]
)
def test_the_ends_of_the_range_are_said_in_words(now: dict[int, int], title: str) -> None:
    assert figures.path_lengths(now, binomial(3)).to_dict()["title"]["text"] == [title]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (99_999, "99,999"),
        (2**17, "2¹⁷"),
        (2**1200, "2¹²⁰⁰"),
        (3**400, "7.0 × 10¹⁹⁰"),
        pytest.param(10**600, "1.0 × 10⁶⁰⁰", id="10^600"),
    ],
)
def test_numbers_of_any_size_can_be_read(count: int, text: str) -> None:
    assert count_text(count) == text


def test_the_effective_range_is_shaded_in_all_three_panels() -> None:
    chart = figures.paths(paths_of(4)).to_dict()
    assert len(chart["hconcat"]) == 3
    for panel in chart["hconcat"]:
        (band,) = marks(panel, "rect")
        assert [(row["from"], row["to"]) for row in band["data"]["values"]] == [(-0.5, 1.5)]
    assert " ".join(chart["title"]["text"]) == paths_finding(paths_of(4))


def test_sampled_lengths_are_told_over_all_lengths_or_not_in_percent() -> None:
    """Three panels on one axis, with a band over the draws; of an old record of some lengths there are two."""
    some = replace(paths_of(8, exact=False), sampled=paths_of(8, exact=False).sampled[::4])
    some = replace(some, sampled=tuple(replace(one, standard_error=one.mean / 9, draws=5) for one in some.sampled))
    panels = figures.paths(some).to_dict()["hconcat"]
    scales = [layer["encoding"]["x"]["scale"]["domain"] for panel in panels for layer in panel["layer"]]
    assert scales == [[-0.5, 8.5]] * len(scales)
    (band,) = marks(panels[2], "area")
    (line,) = marks(panels[2], "line")
    rows = list(zip(band["data"]["values"], line["data"]["values"], strict=True))
    assert [row["length"] for row, _ in rows] == list(range(9))
    # 8 choose k times 0.3 to the k; Student's of five draws is 2.776.
    assert [told["value"] for _, told in rows] == pytest.approx([100 * comb(8, k) * 0.3**k / 1.3**8 for k in range(9)])
    assert all(row["high"] == pytest.approx(told["value"] * (1 + 2.776 / 9), rel=1e-3) for row, told in rows)
    assert paths_finding(some).endswith("of all paths (between 3 sampled lengths interpolated)")
    old = replace(some, effective_by_sample=None)
    assert len(figures.paths(old).to_dict()["hconcat"]) == 2
    assert paths_finding(old) == "3 lengths of paths were sampled, too few for shares of the gradient"


def test_the_product_of_the_first_two_panels_is_the_third() -> None:
    panels = figures.paths(paths_of(4)).to_dict()["hconcat"]
    counts, single, shares = (
        [row["value"] for layer in marks(panel, "line") for row in layer["data"]["values"]] for panel in panels
    )
    products = [10 ** (count + one) for count, one in zip(counts, single, strict=True)]
    assert shares == pytest.approx([100 * product / sum(products) for product in products])
    sampled = figures.paths(paths_of(4, exact=False)).to_dict()["hconcat"][2]
    assert [row["value"] for layer in marks(sampled, "line") for row in layer["data"]["values"]] == pytest.approx(
        shares
    )
