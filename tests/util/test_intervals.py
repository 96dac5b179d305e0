"""Intervals hold: coverage summed exactly over all counts that can happen, and what the textbooks' numbers are."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from howdeep.util.intervals import (
    Interval,
    chance_of,
    chance_of_change,
    of_change,
    of_difference,
    of_several,
    of_share,
    worse_of,
)

SHARES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.1)
IMAGES = (100, 179, 1000, 10_000)
PROMISED = 0.93
RARE = 1e-7
"""Probability of the counts on either side that are left out of a sum: they count as not covered."""


def chance(first: int, last: int, n: int, share: float) -> float:
    """Return the probability of first to last of n images at a share."""
    return float(stats.binom.cdf(last, n, share) - stats.binom.cdf(first - 1, n, share))


def counts(n: int, share: float) -> range:
    """Return the counts that happen, at a share of n images."""
    return range(int(stats.binom.ppf(RARE, n, share)), int(stats.binom.ppf(1 - RARE, n, share)) + 1)


def ends(numbers: range, holds: Callable[[int], bool]) -> int:
    """Return the first of some numbers for which something holds that holds for all later ones too."""
    low, high = numbers.start, numbers.stop
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def covered(numbers: range, interval: Callable[[int], Interval], truth: float) -> tuple[int, int]:
    """Return first and last of the counts whose interval holds the truth; both ends rise with the count."""
    first = ends(numbers, lambda count: interval(count).high >= truth - 1e-9)
    return first, ends(numbers, lambda count: interval(count).low > truth + 1e-9) - 1


def coverage_of_share(n: int, share: float) -> float:
    first, last = covered(counts(n, share), lambda count: of_share(100 * count / n, n), 100 * share)
    return chance(first, last, n, share)


def coverage_of_change(n: int, worse: float, better: float) -> float:
    """Return how often the interval holds the change, over newly wrong and newly right images."""
    total = 0.0
    for right in counts(n, better):
        happens = chance(right, right, n, better)
        rest, left = worse / (1 - better), n - right
        first, last = covered(
            counts(left, rest), lambda wrong, right=right: of_change(wrong, right, n), 100 * (worse - better)
        )
        total += happens * chance(first, last, left, rest)
    return total


def coverage_of_difference(n: int, share: float, other_n: int, other: float) -> float:
    total = 0.0
    for count in counts(other_n, other):
        first, last = covered(
            counts(n, share),
            lambda wrong, count=count: of_difference(100 * wrong / n, n, 100 * count / other_n, other_n),
            100 * (share - other),
        )
        happens = chance(count, count, other_n, other)
        total += happens * chance(first, last, n, share)
    return total


@pytest.mark.parametrize("n", IMAGES)
def test_the_interval_of_a_share_holds_it_nineteen_times_in_twenty(n: int) -> None:
    found = {share: coverage_of_share(n, share) for share in SHARES}
    assert min(found.values()) >= 0.95 - 4 * RARE, found


@pytest.mark.parametrize("n", IMAGES)
def test_the_interval_of_a_paired_change_holds_it_where_few_images_or_none_change(n: int) -> None:
    """Changes to one side, with a third of them the other way, and with as many the other way."""
    backs = {"none": 0.0, "a third": 1 / 3, "as many": 1.0}
    found = {
        (share, name): coverage_of_change(n, share, share * back) for share in SHARES for name, back in backs.items()
    }
    assert min(found.values()) >= PROMISED, found


@pytest.mark.parametrize(("n", "other_n"), [(100, 100), (179, 179), (1000, 1000), (100, 1000)])
def test_the_interval_of_a_difference_on_other_images_holds_it(n: int, other_n: int) -> None:
    pairs = [(share, other) for share in SHARES for other in SHARES]
    found = {pair: coverage_of_difference(n, pair[0], other_n, pair[1]) for pair in pairs}
    assert min(found.values()) >= 0.95 - 4 * RARE, found


@given(n=st.integers(1, 10**6), data=st.data())
def test_the_interval_of_a_share_is_the_exact_one_of_the_library(n: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, n))
    expected = stats.binomtest(wrong, n).proportion_ci(method="exact")
    found = of_share(100 * wrong / n, n)
    assert found == pytest.approx((100 * expected.low, 100 * expected.high), rel=1e-6, abs=1e-9)
    assert 0 <= found.low <= 100 * wrong / n <= found.high <= 100


def test_nothing_and_everything_wrong_are_exact_at_their_end_and_not_empty() -> None:
    """At 0 of n the upper end p solves (1 − p)^n = 0.025."""
    upper = 100 * (1 - 0.025 ** (1 / 100))
    assert of_share(0.0, 100) == (0.0, pytest.approx(upper))
    assert of_share(100.0, 100) == (pytest.approx(100 - upper), 100.0)


@pytest.mark.parametrize(("percent", "n"), [(-0.1, 10), (100.1, 10), (float("nan"), 10), (50.0, 0)])
def test_what_has_no_interval_is_refused(percent: float, n: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        of_share(percent, n)


@given(n=st.integers(1, 10**5), data=st.data())
def test_a_change_lies_in_its_interval_which_is_never_empty_and_turns_with_its_sign(
    n: int, data: st.DataObject
) -> None:
    wrong = data.draw(st.integers(0, n))
    right = data.draw(st.integers(0, n - wrong))
    found, turned = of_change(wrong, right, n), of_change(right, wrong, n)
    assert -100 <= found.low <= 100 * (wrong - right) / n <= found.high <= 100
    assert found.low < found.high
    assert turned == (pytest.approx(-found.high), pytest.approx(-found.low))


@given(n=st.integers(1, 10**4), data=st.data())
def test_one_image_more_that_became_wrong_lowers_neither_end(n: int, data: st.DataObject) -> None:
    """What the sums of this file rest on."""
    wrong = data.draw(st.integers(0, n - 1))
    right = data.draw(st.integers(0, n - 1 - wrong))
    before, after = of_change(wrong, right, n), of_change(wrong + 1, right, n)
    assert after.low >= before.low - 1e-9
    assert after.high >= before.high - 1e-9


def test_an_interval_of_a_change_is_little_wider_than_agresti_and_mins() -> None:
    """Agresti and Min (2005) count half an image more in each of the four cells; theirs covers 86 % in places."""
    for n, most in ((179, 1.15), (1000, 1.05), (10_000, 1.01)):
        wrong = round(0.02 * n)
        share = (wrong + 0.5) / (n + 2), 0.5 / (n + 2)
        theirs = 2 * 1.959964 * ((sum(share) - (share[0] - share[1]) ** 2) / (n + 2)) ** 0.5
        own = of_change(wrong, 0, n)
        assert own.high - own.low <= most * 100 * theirs


def test_four_of_179_against_none_are_not_more_than_chance_and_ten_are() -> None:
    assert stats.fisher_exact([[4, 175], [0, 179]]).pvalue == pytest.approx(0.12, abs=0.005)  # type: ignore[attr-defined]
    assert not of_difference(100 * 4 / 179, 179, 0.0, 179).beyond_chance
    assert of_difference(100 * 10 / 179, 179, 0.0, 179).beyond_chance
    assert not of_change(4, 0, 179).beyond_chance
    assert not of_change(0, 4, 179).beyond_chance
    assert of_change(10, 0, 179).beyond_chance
    assert of_change(0, 10, 179).beyond_chance
    assert not of_change(0, 0, 179).beyond_chance


@pytest.mark.parametrize(("worse", "better", "n"), [(9, 1, 100), (3, 2, 40), (0, 12, 300), (20, 5, 200), (6, 1, 500)])
def test_a_change_is_no_chance_where_its_interval_leaves_out_zero(worse: int, better: int, n: int) -> None:
    chance = chance_of_change(worse, better, n)
    assert (chance < 0.05) == of_change(worse, better, n).beyond_chance
    assert chance_of_change(better, worse, n) == chance
    # Read from the interval alone it is the same, and so it is for two samples where the interval ends at 0.
    low, high = of_change(worse, better, n)
    assert chance_of((low + high) / 2, Interval(low, high)) == pytest.approx(chance)
    apart = of_difference(100 * worse / n, n, 100 * better / n, n)
    assert (chance_of(100 * (worse - better) / n, apart) < 0.05) == apart.beyond_chance
    assert chance_of(3.0, Interval(0.0, 7.0)) == pytest.approx(0.05)


def test_several_comparisons_are_held_to_more_the_more_they_are() -> None:
    """Holm 1979: the smallest of four times 4, the next times 3 and no smaller than the one before, and so on."""
    assert of_several([0.02, 0.01, 0.5, 0.015]) == pytest.approx([0.045, 0.04, 0.5, 0.045])
    assert of_several([0.9, 0.8]) == [1.0, 1.0]
    assert of_several([]) == []


def test_of_several_units_those_count_as_costly_that_are_beyond_chance_together() -> None:
    """10 of 1,000 newly wrong are beyond chance alone (p = 0.003), and 6 (p = 0.03) not beside another."""
    ten, six, better = of_change(10, 0, 1000), of_change(6, 0, 1000), of_change(0, 40, 1000)
    assert worse_of([six]) == [True]
    assert worse_of([ten, six, six]) == [True, False, False]
    assert worse_of([better, ten]) == [False, True]
    assert worse_of([]) == []
