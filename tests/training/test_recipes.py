"""Recipes against the numbers that the papers print."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import untimed

from howdeep.data import NORMALIZATIONS, steps_per_epoch
from howdeep.survival import Survival
from howdeep.training.recipes import RECIPES, OneCycle, Recipe, Steps, Warmup, recipe_of
from howdeep.training.state import Position, learning_rate, watch_warmup
from howdeep.util.errors import UserError

CIFAR_TRAIN, CIFAR_ALL = 45_000, 50_000


def rates(name: str, images: int) -> dict[int, float]:
    """Return the learning rates of a recipe's run by the step from which each holds."""
    recipe = recipe_of(name)
    total = recipe.total(steps_per_epoch(images, recipe.batch_size))
    changes, before = {}, None
    for step in range(total):
        rate = recipe.schedule.at(step, total)
        if rate != before:
            changes[step] = rate
        before = rate
    return changes | {total: 0.0}


def test_he2015_drops_at_32k_and_48k_and_stops_at_64k() -> None:
    assert rates("he2015", CIFAR_TRAIN) == {0: 0.1, 32_000: 0.01, 48_000: 0.001, 64_000: 0.0}


def test_identity2016_drops_at_32k_and_48k_and_stops_at_64k() -> None:
    assert rates("identity2016", CIFAR_TRAIN) == {0: 0.1, 32_000: 0.01, 48_000: 0.001, 64_000: 0.0}


def test_stochastic_depth2016_drops_after_250_and_375_of_500_epochs() -> None:
    epoch = 352  # 45,000 images in mini-batches of 128, the last one smaller
    assert rates("stochastic_depth2016", CIFAR_TRAIN) == {0: 0.1, 250 * epoch: 0.01, 375 * epoch: 0.001, 500 * epoch: 0}


def test_densenet2016_drops_after_150_and_225_of_300_epochs() -> None:
    epoch = 782  # 50,000 images in mini-batches of 64
    assert rates("densenet2016", CIFAR_ALL) == {0: 0.1, 150 * epoch: 0.01, 225 * epoch: 0.001, 300 * epoch: 0.0}


PRINTED = {
    # name: batch, momentum, Nesterov, weight decay, on all parameters, pixels, survival
    "he2015": (128, 0.9, False, 1e-4, True, "per_pixel_mean", "constant"),
    "identity2016": (128, 0.9, False, 1e-4, True, "per_pixel_mean", "constant"),
    "stochastic_depth2016": (128, 0.9, True, 1e-4, True, "per_pixel_mean_scalar_std", "linear:0.5"),
    "densenet2016": (64, 0.9, True, 1e-4, True, "per_channel", "constant"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_recipe_of_the_literature_has_the_numbers_of_its_paper(name: str) -> None:
    recipe = recipe_of(name)
    assert PRINTED[name] == (
        recipe.batch_size,
        recipe.momentum,
        recipe.nesterov,
        recipe.weight_decay,
        recipe.decay_all,
        recipe.normalization,
        recipe.survival,
    )
    assert recipe.label_smoothing == 0
    assert not recipe.zero_init


def test_warmups_are_those_of_the_papers() -> None:
    assert recipe_of("he2015").warmup == Warmup(rate=0.01, steps=2_000, until_error=0.8, window=20, from_depth=110)
    assert recipe_of("identity2016").warmup == Warmup(rate=0.01, steps=400, until_error=None, from_depth=0)
    assert [name for name, recipe in RECIPES.items() if recipe.warmup] == ["he2015", "identity2016"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_a_normalization_and_a_survival_rule_that_exist(name: str) -> None:
    recipe = recipe_of(name)
    assert recipe.name == name
    assert recipe.normalization in NORMALIZATIONS
    assert Survival.parse(recipe.survival)
    assert (recipe.epochs is None) != (recipe.steps is None)


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown recipe 'he2016'; did you mean he2015"):
        recipe_of("he2016")


def warmup_run(recipe: Recipe, errors: list[float], total: int) -> tuple[Position, list[float], list[str]]:
    """Return position, learning rates and lines of a run whose mini-batches have these training errors."""
    position, used, said = Position(), [], []
    for error in errors:
        used.append(learning_rate(recipe, position, (total,)))
        position.step += 1
        if line := watch_warmup(recipe, position, error, total):
            said.append(line)
    return position, used, said


def test_he2015_warmup_ends_when_the_mean_error_of_twenty_mini_batches_falls_below_80_percent() -> None:
    errors = [0.9] * 30 + [0.6] * 30
    position, used, said = warmup_run(recipe_of("he2015"), errors, 64_000)
    # (20 − k)·0.9 + k·0.6 < 16 at k = 7
    assert position.warmup_ended == 37
    assert used == [0.01] * 37 + [0.1] * 23
    assert said == ["warm-up at 0.01 ended at step 37: training error 79.5 %"]


def test_a_lucky_first_mini_batch_does_not_end_the_warmup() -> None:
    position, _, _ = warmup_run(recipe_of("he2015"), [0.1] * 19, 64_000)
    assert position.warmup_ended is None


def test_a_mean_error_just_above_80_percent_does_not_end_the_warmup() -> None:
    position, _, _ = warmup_run(recipe_of("he2015"), [0.75, 0.86] * 30, 64_000)
    assert position.warmup_ended is None


def test_the_warmup_has_a_hard_cap_for_networks_that_do_not_learn() -> None:
    position, used, said = warmup_run(recipe_of("he2015"), [0.9] * 2_100, 64_000)
    assert position.warmup_ended == 2_000
    assert used == [0.01] * 2_000 + [0.1] * 100
    assert said == ["warm-up at 0.01 ended at step 2000: its cap of 2000 steps"]


def test_the_cap_is_never_more_than_a_tenth_of_the_run() -> None:
    position, _, said = warmup_run(recipe_of("identity2016"), [0.1] * 100, 300)
    assert position.warmup_ended == 30
    assert len(said) == 1


def test_identity2016_runs_400_steps_at_a_hundredth_whatever_the_error() -> None:
    _, used, _ = warmup_run(recipe_of("identity2016"), [0.0] * 410, 64_000)
    assert used == [0.01] * 400 + [0.1] * 10


def test_a_warmup_is_where_it_was_after_a_resume() -> None:
    errors = [0.9] * 30 + [0.6] * 30
    whole, _, _ = warmup_run(recipe_of("he2015"), errors, 64_000)
    first, _, _ = warmup_run(recipe_of("he2015"), errors[:33], 64_000)
    resumed = Position.from_json(first.to_json())
    for error in errors[33:]:
        resumed.step += 1
        watch_warmup(recipe_of("he2015"), resumed, error, 64_000)
    assert resumed == whole


def test_another_learning_rate_scales_schedule_and_warmup_alike() -> None:
    recipe = recipe_of("he2015").scaled(0.02)
    assert isinstance(recipe.schedule, Steps)
    assert [rate for _, rate in recipe.schedule.rates] == pytest.approx([0.02, 0.002, 0.0002], rel=1e-12)
    assert recipe.warmup is not None
    assert recipe.warmup.rate == pytest.approx(0.002, rel=1e-12)
    assert recipe_of("fast").scaled(0.02) == replace(recipe_of("fast"), schedule=OneCycle(0.02, 0.25))


@untimed
@given(total=st.integers(4, 5000), rise=st.floats(0.05, 0.95), peak=st.floats(1e-3, 10))
def test_one_cycle_rises_to_its_peak_and_falls_towards_nothing(total: int, rise: float, peak: float) -> None:
    found = [OneCycle(peak, rise).at(step, total) for step in range(total)]
    top = found.index(max(found))
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in found)
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert abs((top + 0.5) / total - rise) <= 1 / total


def test_one_cycle_by_hand() -> None:
    # four steps, their middles at 1/8, 3/8, 5/8, 7/8 of the run
    found = [OneCycle(peak=0.2, rise=0.25).at(step, 4) for step in range(4)]
    assert found == pytest.approx([0.1, 0.2 * 5 / 6, 0.2 * 3 / 6, 0.2 / 6])
