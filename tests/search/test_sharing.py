"""The time of a search among published networks, shared: probing, short trainings, the final one."""

import pytest

from howdeep.search.sharing import (
    FEWEST_STEPS,
    MOST_EPOCHS,
    SHORT_EPOCHS,
    Images,
    Pace,
    Speed,
    Trainings,
    ending,
    fewest_images,
    images_of,
    steps_in,
    trained_on,
    trainings,
)

KNOWN = {"fit_seconds_per_image": 0.01, "opening_seconds": 4.0, "depths": 4, "threads": 1}
FAST = Speed(seconds_per_image=0.01, fixed_seconds=2.0, **KNOWN)
SLOW = Speed(seconds_per_image=0.05, fixed_seconds=3.0, **KNOWN)
BOTH = {"fast": [FAST], "slow": [SLOW]}
THERE = Images(10_000, 1_000)


def test_probing_costs_forward_passes_classifiers_and_what_does_not_depend_on_images() -> None:
    assert FAST.probing(Images(100, 50)) == pytest.approx(2.0 + 1.5 + 1.0)


def test_all_networks_are_probed_on_as_many_images_as_a_quarter_of_the_time_allows() -> None:
    # 301 / 4 − 10 − 5 − 200 · 0.06 s are left for both, which take 0.08 s of every training image: 603.
    assert images_of(301.0, 10.0, BOTH, THERE, 10, 0) == Images(603, 200)
    # 601 / 4 − 27 s: 1,540, and beside so many there are more of validation.
    assert images_of(601.0, 10.0, BOTH, THERE, 10, 0) == Images(1540 - 185, 385)


def test_no_more_images_are_probed_than_there_are() -> None:
    assert images_of(10_000.0, 10.0, BOTH, THERE, 10, 0) == THERE
    assert images_of(301.0, 10.0, BOTH, Images(600, 60), 10, 0) == Images(600, 60)


def test_where_a_quarter_is_too_short_half_of_the_time_may_go_for_the_fewest() -> None:
    assert (fewest_images(10), fewest_images(30)) == (50, 150)
    assert images_of(70.0, 10.0, BOTH, THERE, 10, 0) == Images(50, 200)


def test_after_the_trainings_every_network_and_two_that_were_trained_read_the_test_split() -> None:
    # Two classifiers of each of two networks; two are opened again, and one is timed, once unmeasured.
    fitted, opened, timed = 2 * 2 * (0.1 + 0.01 * 400 / 4), 2 * 4.0, 2 * 20 * 0.05
    assert ending(BOTH, 400, 100) == pytest.approx(1.0 + 5.0 + 2 * 5.0 + fitted + opened + timed)
    # Of one network for images of two sizes the slower counts.
    assert ending({"one": [FAST, SLOW]}, 400, 100) == pytest.approx(3 * 5.0 + fitted / 2 + opened + timed)


def test_a_budget_that_is_too_short_is_answered_by_the_smallest() -> None:
    needed = 10.0 + 5.0 + 0.08 * 50 + 0.06 * 200
    for test, smallest in (
        (0, 2 * needed),  # half of it is for probing
        (1000, (needed + SLOW.beginning(Images(50, 200)) + ending(BOTH, 50, 1000)) / 0.95),  # and all of it for all
    ):
        assert images_of(smallest - 1, 10.0, BOTH, THERE, 10, test) == pytest.approx(smallest)
        assert images_of(smallest + 0.01, 10.0, BOTH, THERE, 10, test) == Images(50, 200)


def test_finalists_are_trained_on_what_can_be_read_in_a_tenth_of_the_time_and_on_no_less_than_was_probed() -> None:
    probed = Images(200, 60)
    assert trained_on(1001.0, 0.01, probed, THERE) == Images(10_000, 1_000)
    assert trained_on(500.0, 0.1, probed, THERE) == Images(500, 125)
    assert trained_on(10.0, 0.1, probed, THERE) == Images(200, 60)


STEPS, SLOWER, FASTER = FEWEST_STEPS, Pace(10.0, 1.0), Pace(10.0, 0.5)


def test_two_are_trained_where_half_of_the_time_holds_enough_steps_for_both() -> None:
    found = trainings(4 * (STEPS + 10), [SLOWER, FASTER], steps_per_epoch=50)
    assert (found.both, found.steps) == (True, (STEPS, 2 * STEPS))


def test_a_short_cycle_is_no_longer_than_that_of_the_recipe() -> None:
    assert trainings(10**6, [SLOWER, FASTER], steps_per_epoch=50).steps == (50 * SHORT_EPOCHS, 50 * SHORT_EPOCHS)


def test_else_one_alone_is_trained_the_faster_one_where_the_other_would_not_have_the_epochs_of_the_recipe() -> None:
    seconds = 4 * (STEPS + 10) - 1
    assert trainings(seconds, [SLOWER, FASTER], steps_per_epoch=50).steps == (seconds - 10, 0)
    assert trainings(seconds, [SLOWER, FASTER], steps_per_epoch=100).steps == (0, 2 * (seconds - 10))
    assert trainings(4 * STEPS, [SLOWER], steps_per_epoch=50) == Trainings((4 * STEPS - 10,))
    assert trainings(4 * STEPS, [SLOWER], steps_per_epoch=50).alone == 0


def test_too_few_steps_are_none_and_more_than_are_of_use_are_not_taken() -> None:
    assert trainings(STEPS + 9, [SLOWER, SLOWER], steps_per_epoch=50) == Trainings((0, 0))
    assert trainings(STEPS + 9, [SLOWER, SLOWER], steps_per_epoch=50).alone is None
    assert steps_in(STEPS + 10, SLOWER, 50) == STEPS
    assert steps_in(10**6, SLOWER, 50) == 50 * MOST_EPOCHS
    assert steps_in(10**6, SLOWER, 2) == STEPS  # an epoch of two steps: 24 of them are too few
