"""Trials: statistics that are known to be right or wrong; and how many units are frozen, by time."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tests.oracles import small_network

from howdeep.analysis.evaluation import Sums
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.runtime.modes import norms_of
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.ranks import Ranks
from howdeep.survival import Survival
from howdeep.training import trials
from howdeep.training.config import TrainConfig
from howdeep.training.recipes import Recipe, recipe_of
from howdeep.training.trials import Trials, Tried

STEPS = 10
FINETUNE = replace(recipe_of("finetune"), batch_size=20)
CONFIG = TrainConfig(network="cifar_resnet14", data="digits", recipe="finetune")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps are enough where statistics are far off, and where nothing hangs on them."""
    monkeypatch.setattr(trials, "FEWEST", STEPS)


class Patterns:
    """Ten patterns with noise: images of 8×8 whose class is easy to learn."""

    steps_per_epoch, shape, whole = 4, (20, 3, 8, 8), 20

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        labels = torch.arange(160) % 10
        images = torch.randn(10, 3, 8, 8, generator=random)[labels] + torch.randn(160, 3, 8, 8, generator=random) / 3
        self.images, self.labels = images, labels

    def training(self, start: int, stop: int) -> Iterator[Batch]:
        for step in range(start, stop):
            first = 20 * (step % 4)
            yield Batch(self.images[first : first + 20], self.labels[first : first + 20], 20)

    def validation(self) -> Iterator[Batch]:
        yield Batch(self.images[80:], self.labels[80:], 80)

    def plain(self, count: int) -> Iterator[Batch]:
        yield Batch(self.images[:count], self.labels[:count], 80)

    def laid_out(self, *, channels_last: bool) -> "Patterns":
        return self


def trials_of(chain: Chain, recipe: Recipe = FINETUNE, *, total: int = 8 * STEPS, **options) -> Trials:
    chain.rule = Survival()
    config = replace(CONFIG, **options)
    feed, cpu = Patterns(), torch.device("cpu")
    return Trials(chain, recipe, feed, config, Ranks(), cpu, Arithmetic("fp32", "contiguous"), total)


def test_both_statistics_are_tried_and_the_network_is_left_as_it_is() -> None:
    chain, said = small_network("resnet A"), []
    before = copy.deepcopy(chain.state_dict())
    record = trials_of(chain).settle(said.append)
    assert all(torch.equal(tensor, before[name]) for name, tensor in chain.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in chain.parameters())
    tried = record["trials"]
    assert [(one["norm_statistics"], one["steps"], one["n"]) for one in tried] == [
        ("frozen", STEPS, 80),
        ("batch", STEPS, 80),
    ]
    best = tried[1] if tried[1]["error_percent"] < tried[0]["low"] else tried[0]
    assert record["chosen"] == {"norm_statistics": best["norm_statistics"], "freeze": 0}
    assert said[0] == "trials of 10 steps from the same start, validation error with 95 % interval:"
    assert [line.endswith("  selected") for line in said[1:]] == [one is best for one in tried]
    for line, one in zip(said[1:], tried, strict=True):
        assert line.split()[0] == one["norm_statistics"]
        assert f" {one['error_percent']:.1f} %  ({one['low']:.1f} to {one['high']:.1f})" in line


def test_statistics_that_are_far_off_are_not_kept() -> None:
    chain = small_network("plain")  # nothing passes by its norms
    for norm in norms_of(chain):
        assert norm.running_var is not None
        norm.running_var.fill_(1e8)
        norm.momentum = 0.9
    record = trials_of(chain).settle(lambda line: None)
    assert record["chosen"]["norm_statistics"] == "batch"


@pytest.mark.parametrize(("frozen", "batch", "kept"), [(49, 43, "frozen"), (49, 38, "frozen"), (49, 37, "batch")])
def test_frozen_statistics_stay_within_chance(frozen: int, batch: int, kept: str) -> None:
    """49 of 252 are 19.4 %, 14.7 to 24.9 %: the interval begins between 37 and 38 images."""
    tried = [
        Tried(replace(FINETUNE, norm_statistics=kind), 56, Sums(252, wrong, 1.0))
        for kind, wrong in (("frozen", frozen), ("batch", batch))
    ]
    assert trials.chosen(*tried).recipe.norm_statistics == kept


def test_only_what_is_left_open_is_tried() -> None:
    chain, said = small_network("resnet A"), []
    for recipe in (replace(FINETUNE, norm_statistics="batch"), replace(FINETUNE, tune="classifier")):
        record = trials_of(chain, recipe).settle(said.append)
        assert record == {"chosen": recipe.settled(given=True).choice}
    without = small_network("resnet A")
    for unit in without.units:
        unit.branch = torch.nn.Identity()
    without.stem = torch.nn.Conv2d(3, 16, 3, padding=1)
    assert not norms_of(without)
    assert "trials" not in trials_of(without).settle(said.append)
    assert said == []


def test_a_run_too_short_for_trials_keeps_the_statistics_and_says_so() -> None:
    said: list[str] = []
    record = trials_of(small_network("resnet A"), total=79).settle(said.append)
    assert record == {"chosen": {"norm_statistics": "frozen", "freeze": 0}}
    assert said == ["a run of 79 steps is too short for trials: norm statistics are frozen"]


@pytest.mark.parametrize(("total", "steps"), [(319, 0), (320, 40), (480, 60), (10_000, 128)])
def test_two_trials_take_a_quarter_of_the_run(total: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert trials_of(small_network("resnet A"), total=total).steps == steps


class Timed(Trials):
    """Trials whose steps take 1 s less a tenth for every frozen unit, and that have a tenth of their errors."""

    def _race(self, units: int) -> dict:
        return {"units": units, "seconds": 1 - units / 10, "whole_seconds": 1.0}

    def _of(self, recipe: Recipe) -> Tried:
        return Tried(recipe, self.steps, Sums(100, 10 if recipe.norm_statistics == "batch" else 20, 100.0))


def test_freeze_auto_takes_the_fewest_units_that_save_enough_of_a_step_and_trials_freeze_them_too() -> None:
    """0.45 of a step is at 5.5 units: the smallest whole number is 6."""
    plain = trials_of(small_network("resnet A"))
    nine = Chain(plain.chain.stem, [plain.chain.units[0]] * 9, plain.chain.head, Survival())
    recipe = replace(FINETUNE, freeze="auto", norm_statistics="auto")
    said: list[str] = []
    timed = Timed(nine, recipe, plain.feed, plain.config, plain.ranks, plain.device, plain.arithmetic, plain.total)
    record = timed.settle(said.append)
    assert record["chosen"] == {"norm_statistics": "batch", "freeze": 6}
    assert record["freeze"] == {"units": 6, "seconds": 0.4, "whole_seconds": 1.0}
    assert [(one["norm_statistics"], one["freeze"]) for one in record["trials"]] == [("frozen", 6), ("batch", 6)]
    assert said[0] == "freeze: the stem and 6 of 9 units, a step takes 0.40 of the whole network's (400 of 1000 ms)"


def test_a_step_with_frozen_units_is_timed_against_the_whole() -> None:
    found = trials_of(small_network("resnet A"))._race(2)
    assert found["units"] == 2
    assert found["seconds"] > 0 < found["whole_seconds"]
    assert trials.FROZEN_STEP < 1
