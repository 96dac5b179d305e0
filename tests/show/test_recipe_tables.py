"""``howdeep recipes``: all of them on a terminal of 80 columns, and every value of one."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from howdeep import cli
from howdeep.training.recipes import RECIPES, Recipe, recipe_of


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_every_recipe_is_a_row_that_fits_a_terminal(capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    firsts = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert firsts == ["recipe", *RECIPES]
    row = next(line for line in lines if line.startswith("finetune")).split()
    assert row == ["finetune", "adamw", "8", "epochs", "32", "0.001", "for", "given", "weights"]


def test_every_value_of_one_recipe_is_said(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert cli.run(["recipes", "finetune", "--json", str(tmp_path / "recipe.json")]) == 0
    said = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert ["layer", "decay", "0.85"] in [[*line[:2], line[2].strip()] for line in said if len(line) == 3]
    record = json.loads((tmp_path / "recipe.json").read_text())
    assert record.keys() == {field.name for field in fields(Recipe)}
    assert record["schedule"] == {"kind": "Cosine", "peak": 1e-3, "rise": 0.1}
    assert record["weight_decay"] == recipe_of("finetune").weight_decay


def test_an_unknown_recipe_is_refused_with_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["recipes", "finetun"]) == 2
    assert capsys.readouterr().err == "howdeep: unknown recipe 'finetun'; did you mean finetune?\n"
