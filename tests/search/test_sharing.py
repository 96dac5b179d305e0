"""The time of a search among published networks, shared: probing, short trainings, the final one."""

import pytest

from howdeep.search.sharing import (
    FEWEST_STEPS,
    MOST_EPOCHS,
    Images,
    Speed,
    fewest_images,
    images_of,
    steps_in,
    trained_on,
    trainings,
)

FAST = Speed(seconds_per_image=0.01, fit_seconds_per_image=0.01, fixed_seconds=2.0, opening_seconds=4.0, threads=1)
SLOW = Speed(seconds_per_image=0.05, fit_seconds_per_image=0.01, fixed_seconds=3.0, opening_seconds=4.0, threads=1)
THERE = Images(10_000, 1_000)


def test_probing_costs_forward_passes_classifiers_and_what_does_not_depend_on_images() -> None:
    assert FAST.probing(Images(100, 50)) == pytest.approx(2.0 + 1.5 + 1.0)


def test_all_networks_are_probed_on_as_many_images_as_a_quarter_of_the_time_allows() -> None:
    # 301 / 4 − 10 − 5 − 200 · 0.06 s are left for both, which take 0.08 s of every training image: 603.
    assert images_of(301.0, 10.0, [FAST, SLOW], THERE, 10) == Images(603, 200)
    # 601 / 4 − 27 s: 1,540, and beside so many there are more of validation.
    assert images_of(601.0, 10.0, [FAST, SLOW], THERE, 10) == Images(1540 - 185, 385)


def test_no_more_images_are_probed_than_there_are() -> None:
    assert images_of(10_000.0, 10.0, [FAST, SLOW], THERE, 10) == THERE
    assert images_of(301.0, 10.0, [FAST, SLOW], Images(600, 60), 10) == Images(600, 60)


def test_where_a_quarter_is_too_short_half_of_the_time_may_go_for_the_fewest() -> None:
    assert (fewest_images(10), fewest_images(30)) == (50, 150)
    assert images_of(70.0, 10.0, [FAST, SLOW], THERE, 10) == Images(50, 200)


def test_a_budget_of_which_half_is_too_short_is_answered_by_the_smallest() -> None:
    needed = 10.0 + 5.0 + 0.08 * 50 + 0.06 * 200
    assert images_of(2 * needed - 1, 10.0, [FAST, SLOW], THERE, 10) == pytest.approx(2 * needed)
    assert images_of(2 * needed + 0.01, 10.0, [FAST, SLOW], THERE, 10) == Images(50, 200)
    assert images_of(1.0, 0.0, [FAST], Images(8, 5), 2) == pytest.approx(2 * FAST.probing(Images(8, 5)))


def test_finalists_are_trained_on_what_can_be_read_in_a_tenth_of_the_time_and_on_no_less_than_was_probed() -> None:
    probed = Images(200, 60)
    assert trained_on(1001.0, 0.01, probed, THERE) == Images(10_000, 1_000)
    assert trained_on(500.0, 0.1, probed, THERE) == Images(500, 125)
    assert trained_on(10.0, 0.1, probed, THERE) == Images(200, 60)


def test_two_are_trained_where_half_of_the_time_holds_enough_steps_for_both() -> None:
    found = trainings(4 * FEWEST_STEPS, [1.0, 0.5], steps_per_epoch=50)
    assert (found.short, found.final) == ((FEWEST_STEPS, 2 * FEWEST_STEPS), 2 * FEWEST_STEPS)


def test_else_the_best_alone_is_trained_for_all_of_it() -> None:
    found = trainings(4 * FEWEST_STEPS - 1, [1.0, 0.5], steps_per_epoch=50)
    assert (found.short, found.final) == ((), 4 * FEWEST_STEPS - 1)
    assert trainings(4 * FEWEST_STEPS, [1.0], steps_per_epoch=50).final == 4 * FEWEST_STEPS


def test_too_few_steps_are_none_and_more_than_are_of_use_are_not_taken() -> None:
    assert trainings(FEWEST_STEPS - 1, [1.0, 1.0], steps_per_epoch=50).final == 0
    assert steps_in(FEWEST_STEPS, 1.0, 50) == FEWEST_STEPS
    assert steps_in(10**6, 1.0, 50) == 50 * MOST_EPOCHS
    assert steps_in(10**6, 1.0, 2) == FEWEST_STEPS  # an epoch of two steps: 24 of them are too few
