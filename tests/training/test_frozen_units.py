"""How many units are frozen, by the time of a step."""

from dataclasses import replace

import pytest
import torch
from tests.oracles import small_network

from howdeep.chain import Chain
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.ranks import Ranks
from howdeep.survival import Survival
from howdeep.training import frozen_units
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


def test_auto_takes_the_fewest_units_that_save_enough_of_a_step() -> None:
    """0.45 of a step is at 5.5 units: the smallest whole number is 6."""
    said: list[str] = []
    assert Timed(NINE, *GIVEN).settled("auto", said.append) == {"units": 6, "seconds": 0.4, "whole_seconds": 1.0}
    assert said == ["freeze: the stem and 6 of 9 units, a step takes 0.40 of the whole network's (400 of 1000 ms)"]


def test_where_no_number_saves_enough_none_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_units, "FROZEN_STEP", 0.05)
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
