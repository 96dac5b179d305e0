"""Rounds use the time that they are given; promotion keeps the better half, and the best one's larger neighbours."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdeep.search import study
from howdeep.search.study import SEARCH_SHARE, Standing, final_share, promoted, round_ends


def spent(networks: int, rounds: tuple[float, ...]) -> float:
    """Seconds of all networks on all rounds, counted one by one."""
    total, alive, before = 0.0, networks, 0.0
    for seconds in rounds:
        total += alive * (seconds - before)
        before, alive = seconds, math.ceil(alive / 2)
    return total


@given(networks=st.integers(2, 60), seconds=st.floats(1, 1e6))
def test_the_search_takes_its_share_whatever_the_number_of_networks(networks: int, seconds: float) -> None:
    rounds = round_ends(networks, seconds)
    assert spent(networks, rounds) == pytest.approx(SEARCH_SHARE * seconds)
    assert all(late == pytest.approx(2 * early) for early, late in pairwise(rounds))


@pytest.mark.parametrize(("networks", "rounds"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4)])
def test_halving_goes_on_until_one_is_left(networks: int, rounds: int) -> None:
    assert len(round_ends(networks, 100.0)) == rounds


@pytest.mark.parametrize(("afresh", "share"), [(True, 0.5), (False, 0.75)])
def test_two_networks_have_a_quarter_each_and_the_winner_learns_in_the_other_half_or_in_both(
    afresh: bool, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "AFRESH", afresh)
    assert round_ends(2, 100.0) == (25.0,)
    assert final_share(2) == pytest.approx(share)
    assert final_share(1) == 1.0


def standing(depth: int, error: float, loss: float = 1.0, family: str = "resnet", width: int = 1) -> Standing:
    return Standing(family, depth, width, error, loss)


def depths(kept: list[Standing]) -> list[int]:
    return sorted(one.depth for one in kept)


def test_the_better_half_goes_on_rounded_up() -> None:
    five = [standing(depth, error) for depth, error in ((8, 9.0), (14, 7.0), (20, 6.0), (32, 8.0), (56, 30.0))]
    assert depths(promoted(five, last=False)) == [14, 20, 32]
    assert depths(promoted(five, last=True)) == [20]


def test_the_next_deeper_relative_of_the_best_goes_on_instead_of_the_worst() -> None:
    four = [standing(8, 5.0), standing(14, 6.0), standing(20, 9.0), standing(32, 12.0)]
    assert depths(promoted(four, last=False)) == [8, 14]
    four = [standing(8, 6.0), standing(14, 5.0), standing(20, 9.0), standing(32, 12.0)]
    assert depths(promoted(four, last=False)) == [14, 20]
    other = [standing(8, 6.0), standing(14, 5.0), standing(20, 9.0, family="densenet"), standing(32, 12.0)]
    assert depths(promoted(other, last=False)) == [14, 32]


def test_the_next_wider_network_of_the_same_depth_goes_on_too() -> None:
    """In place of the worst of the better half: 8, of width 1, is second."""
    best, deeper, wider = standing(14, 5.0, width=2), standing(20, 9.0, width=2), standing(14, 12.0, width=4)
    others = [standing(8, 6.0), standing(14, 7.0), standing(14, 11.0, width=8)]
    assert promoted([*others, best, deeper, wider], last=False) == [best, deeper, wider]
    # Where there is room for one of them alone, the better one.
    assert promoted([others[0], best, deeper, wider], last=False) == [best, deeper]
    assert promoted([others[0], best, standing(20, 13.0, width=2), wider], last=False) == [best, wider]


def test_between_equal_errors_the_loss_decides_and_then_the_cheaper_network() -> None:
    assert promoted([standing(8, 5.0, 0.4), standing(14, 5.0, 0.3)], last=True)[0].depth == 14
    assert promoted([standing(14, 5.0, 0.3), standing(8, 5.0, 0.3)], last=True)[0].depth == 8


@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.floats(0, 100), st.floats(0, 9)),
        min_size=2,
        max_size=30,
        unique_by=lambda one: one[0],
    )
)
def test_the_best_always_goes_on_and_nobody_twice(found: list[tuple[int, float, float]]) -> None:
    everyone = [standing(*one, width=one[0] % 3 + 1) for one in found]
    kept = promoted(everyone, last=False)
    assert len(kept) == math.ceil(len(everyone) / 2) == len(set(kept))
    assert min(one.error_percent for one in kept) == min(one.error_percent for one in everyone)
