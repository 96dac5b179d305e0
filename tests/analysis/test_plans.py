"""What a lesion study changes: which units, how many, drawn from a seed alone."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from tests.analysis.cases import Fixed, twenty
from tests.oracles import Scale, images, linear_chain, small_network

from howdeep.analysis.lesion import Change, changes_of, removable
from howdeep.analysis.options import LesionOptions
from howdeep.analysis.routes import baseline, places, without
from howdeep.chain import Chain, Replace, Unit
from howdeep.util.errors import UserError

ALIKE = [{1, 2, 3}, {5, 6}, {8, 9}]
"""Units of the 20-layer network that return what they read, by stage; 4 and 7 open stages."""


def planned(chain: Chain, **options) -> list[Change]:
    """Return what a study changes."""
    return changes_of(chain, images(2), LesionOptions(**options))


def mixed() -> Chain:
    """Return a plain chain of five units, of which the second and the fourth cannot be taken out."""
    units = [Unit(Scale(2.0), Scale(1.0), Replace(1, stride=1, removable=n not in (1, 3))) for n in range(5)]
    return Chain(torch.nn.Identity(), units, torch.nn.Identity())


def test_every_removable_unit_is_deleted_alone() -> None:
    chain = mixed()
    assert removable(chain) == [0, 2, 4]
    changes = planned(chain)
    assert [(change.units, change.k, change.draw) for change in changes] == [((n,), 1, 0) for n in (1, 3, 5)]
    assert [change.route for change in changes] == [without(baseline(chain), [place]) for place in (0, 2, 4)]


def test_links_shift_places_and_not_numbers() -> None:
    chain = Chain(torch.nn.Identity(), [Scale(1.0), *linear_chain([0.5, 0.25]).units], torch.nn.Identity())
    first, second = planned(chain)
    assert (first.units, second.units) == ((1,), (2,))
    assert first.route == ((0, 1.0), (1, None), (2, 1.0))
    assert second.route == ((0, 1.0), (1, 1.0), (2, None))


def test_a_lesion_keeps_the_survival_of_the_other_units() -> None:
    chain = linear_chain([0.5, 0.25, 0.125])
    chain.rule = Fixed(0.9, 0.8, 0.7)
    assert planned(chain)[1].route == ((0, 0.9), (1, None), (2, 0.7))


def test_k_units_at_random_are_k_different_removable_ones() -> None:
    changes = planned(mixed(), kind="random", max_k=3, draws=20, seed=0)
    assert [(change.k, change.draw) for change in changes] == [(k, draw) for k in (1, 2, 3) for draw in range(20)]
    for change in changes:
        assert len(set(change.units)) == change.k
        assert set(change.units) <= {1, 3, 5}
        assert [place + 1 for place, gate in change.route if gate is None] == list(change.units)
    chosen = Counter(unit for change in changes if change.k == 1 for unit in change.units)
    assert set(chosen) == {1, 3, 5}


def test_draws_depend_on_seed_k_and_number_alone() -> None:
    chain = linear_chain([0.5] * 30)
    few, many = (planned(chain, kind="random", max_k=k, draws=n, seed=7) for k, n in ((2, 3), (5, 9)))
    assert few == [change for change in many if change.k <= 2 and change.draw < 3]
    assert planned(chain, kind="random", max_k=2, draws=3, seed=8) != few
    assert len({change.units for change in many if change.k == 5}) == 9


def test_more_units_than_there_are_cannot_be_taken_out() -> None:
    with pytest.raises(UserError, match=r"^k 4 is not allowed: 3 of 5 units can be taken out$"):
        planned(mixed(), kind="random", max_k=4, draws=1, seed=0)
    assert planned(mixed(), kind="random", max_k=3, draws=1, seed=0)[-1].units == (1, 3, 5)


@pytest.mark.parametrize("sample", [None, 45, 1000])
def test_all_pairs_are_each_two_units_once(sample: int | None) -> None:
    pairs = planned(linear_chain([0.5] * 10), kind="pairs", sample=sample, seed=0)
    assert [change.units for change in pairs] == list(combinations(range(1, 11), 2))
    assert {change.k for change in pairs} == {2}
    assert all(sum(gate is None for _, gate in change.route) == 2 for change in pairs)


def test_a_sample_of_pairs_is_a_part_of_them_drawn_from_the_seed() -> None:
    chain = linear_chain([0.5] * 10)
    few = [change.units for change in planned(chain, kind="pairs", sample=12, seed=3)]
    assert len(set(few)) == 12
    assert set(few) < set(combinations(range(1, 11), 2))
    assert few == [change.units for change in planned(chain, kind="pairs", sample=12, seed=3)]
    assert few != [change.units for change in planned(chain, kind="pairs", sample=12, seed=4)]
    assert [change.units for change in planned(mixed(), kind="pairs", sample=None, seed=0)] == [(1, 3), (1, 5), (3, 5)]


def swaps(order: tuple[int, ...]) -> int:
    """Return the fewest swaps that lead to an order: units minus cycles."""
    cycles, seen = 0, set()
    for start in range(len(order)):
        cycles += start not in seen
        while start not in seen:
            seen.add(start)
            start = order[start] - 1
    return len(order) - cycles


def test_only_units_of_one_stage_and_equal_shape_change_places() -> None:
    changes = planned(twenty(), kind="permute", max_k=6, draws=10, seed=0)
    assert [(change.k, change.draw) for change in changes] == [(k, draw) for k in range(1, 7) for draw in range(10)]
    for change in changes:
        assert sorted(change.units) == list(range(1, 10))
        assert all({change.units[number - 1] for number in alike} == alike for alike in ALIKE)
        fewest = swaps(change.units)
        assert fewest <= change.k
        assert (change.k - fewest) % 2 == 0
    assert {swaps(change.units) for change in changes if change.k == 1} == {1}
    assert len({change.units for change in changes}) > 10
    assert changes == planned(twenty(), kind="permute", max_k=6, draws=10, seed=0)
    assert changes != planned(twenty(), kind="permute", max_k=6, draws=10, seed=1)


def test_a_new_order_is_the_route_through_the_units_in_that_order() -> None:
    chain = twenty()
    chain.rule = Fixed(*(1 - number / 20 for number in range(9)))
    at = places(chain)
    for change in planned(chain, kind="permute", max_k=2, draws=4, seed=0):
        route = [step for step in change.route if step[0] in at]
        assert route == [(at[unit - 1], 1 - (unit - 1) / 20) for unit in change.units]
        links = [step for step in change.route if step[0] not in at]
        assert links == [step for step in baseline(chain) if step[0] not in at]


def test_units_of_different_shapes_cannot_change_places() -> None:
    for chain in (small_network("densenet"), linear_chain([0.5])):
        with pytest.raises(UserError, match="no two units of this network have equal shapes"):
            planned(chain, kind="permute", max_k=1, draws=1, seed=0)


def test_units_that_return_what_they_read_run_twice() -> None:
    chain = twenty()
    at, changes = places(chain), planned(chain, kind="duplicate")
    assert [change.units for change in changes] == [(n,) for n in (1, 2, 3, 5, 6, 8, 9)]
    for change in changes:
        place = at[change.units[0] - 1]
        route = list(baseline(chain))
        route.insert(place, (place, 1.0))
        assert change == Change(tuple(route), change.units, 1, 0)


def test_no_unit_of_a_dense_network_can_run_twice() -> None:
    with pytest.raises(UserError, match=r"no unit of this network can be changed in this way \(duplicate\)"):
        planned(small_network("densenet"), kind="duplicate")
