"""Wilson's interval: what Wilson's equation says, exact at its ends; differences that are more than chance."""

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdeep.intervals import apart, wilson

QUANTILE = NormalDist().inv_cdf(0.975)


@given(n=st.integers(1, 10**7), data=st.data())
def test_the_ends_solve_wilsons_equation(n: int, data: st.DataObject) -> None:
    """The ends are the shares p from which the counted one is 1.96 standard errors √(p(1−p)/n) away."""
    share = data.draw(st.integers(0, n)) / n
    low, high = wilson(share, n)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        assert abs(share - end) == pytest.approx(QUANTILE * math.sqrt(end * (1 - end) / n), rel=1e-6, abs=1e-9)


def test_nothing_and_everything_wrong_are_exact_at_their_end_and_not_empty() -> None:
    assert wilson(0.0, 100) == (0.0, pytest.approx(0.036994, abs=1e-5))
    assert wilson(1.0, 100) == (pytest.approx(0.963006, abs=1e-5), 1.0)


@pytest.mark.parametrize(("share", "n"), [(-0.1, 10), (1.1, 10), (float("nan"), 10), (0.5, 0)])
def test_what_has_no_interval_is_refused(share: float, n: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson(share, n)


def test_two_shares_are_apart_beyond_196_standard_errors_of_their_difference() -> None:
    """√(2 · 0.25/200) = 0.05: 0.5 ± 0.049 each are 0.098 = 1.96 · 0.05 apart, a little less in truth (p(1−p) < ¼)."""
    assert not apart((0.45, 200), (0.547, 200))
    assert apart((0.45, 200), (0.549, 200))
    assert not apart((0.3, 50), (0.3, 50))
