"""How many units are frozen, by the time of a step."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tests.oracles import small_network

from howdeep.chain import Chain
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.ranks import Ranks
from howdeep.survival import Survival
from howdeep.training import frozen_units
from howdeep.training.choices import _passes
from howdeep.training.frozen_units import FrozenUnits
from howdeep.training.recipes import recipe_of

PLAIN = small_network("resnet A")
NINE = Chain(PLAIN.stem, [PLAIN.units[0]] * 9, PLAIN.head, Survival())
RECIPE = replace(recipe_of("finetune").settled(given=True), batch_size=20)
GIVEN = (RECIPE, (20, 3, 8, 8), Ranks(), torch.device("cpu"), Arithmetic("fp32", "contiguous"), False)


class Timed(FrozenUnits):
    """Steps that take 1 s less a tenth for every frozen unit."""

    def _race(self, units: int) -> dict:
        return {"units": units, "seconds": 1 - units / 10, "whole_seconds": 1.0}


@pytest.mark.parametrize(("passes", "units"), [(0.0, 5), (0.3, 6), (0.9, 7), (3.0, 8)])
def test_auto_takes_the_fewest_units_that_halve_the_time_of_steps_and_passes(passes: float, units: int) -> None:
    """A pass takes a third of a step: s + p/3 ≤ (1 + p/3) / 2, and s is asked to be no less than a quarter."""
    said: list[str] = []
    found = Timed(NINE, *GIVEN, passes=passes).settled("auto", said.append)
    step = 1 - units / 10
    assert found == {"units": units, "seconds": pytest.approx(step), "whole_seconds": 1.0}
    takes = f"a step takes {step:.2f} of the whole network's ({1000 * step:.0f} of 1000 ms)"
    assert said == [f"freeze: the stem and {units} of 9 units, {takes}"]
    assert passes == 3 or step + passes / 3 <= (1 + passes / 3) / 2 < step + 0.1 + passes / 3


@pytest.mark.parametrize(("new", "passes"), [(False, 5 * 30), (True, 5 * 30 + 100 + 30)])
def test_passes_are_those_of_validation_and_of_a_classifier_that_is_new(new: bool, passes: int) -> None:
    """Five mini-batches of 20, four epochs, 30 images of validation: epoch 0 is validated too."""
    feed = SimpleNamespace(steps_per_epoch=5, whole=20, validated=30)
    assert _passes(replace(RECIPE, epochs=4), feed, new=new) == pytest.approx(passes / 400)  # type: ignore[arg-type]


def test_where_no_number_saves_enough_none_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_units, "FROZEN_RUN", 0.05)
    monkeypatch.setattr(frozen_units, "LEAST_STEP", 0.0)
    said: list[str] = []
    assert Timed(NINE, *GIVEN).settled("auto", said.append) is None
    assert said == ["freeze: none, since a step takes more than 0.05 of the whole network's in any case"]


def test_a_number_is_timed_against_the_whole() -> None:
    found = FrozenUnits(PLAIN, *GIVEN).settled(2, lambda line: None)
    assert found is not None
    assert found["units"] == 2
    assert found["seconds"] > 0 < found["whole_seconds"]


def test_none_is_not_timed() -> None:
    assert FrozenUnits(PLAIN, *GIVEN).settled(0, lambda line: None) is None
