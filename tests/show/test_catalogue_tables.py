"""Tables of networks and recipes: as many rows as parts differ, legible on a terminal of 80 columns."""

import io
import json
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from howdeep import cli
from howdeep.networks import LITERATURE, spec_of
from howdeep.networks.counting import Description, describe
from howdeep.show.catalogue_tables import networks_table, units_table
from howdeep.show.tables import Table
from howdeep.training.recipes import RECIPES, Recipe, recipe_of

WIDE = ("cifar_plain110", "cifar_resnet1202", "cifar_wideresnet28_10", "densenet264", "preresnet200", "resnet200")
"""Networks with the longest numbers of every family; the others are tried by hand."""


@cache
def described(name: str) -> Description:
    return describe(spec_of(name))


def printed(table: Table) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=80).print(table)
    lines = screen.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in "".join(lines)
    return lines


def test_the_table_of_networks_fits_a_terminal() -> None:
    longest = max(LITERATURE, key=len)
    lines = printed(networks_table([described(name) for name in {*WIDE, longest}]))
    assert len(lines) == 1 + len({*WIDE, longest})
    row = next(line for line in lines if line.startswith("cifar_resnet1202 ")).split()
    assert row == ["cifar_resnet1202", "resnet", "1,202", "600", "19,421,274", "2.83", "G"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in WIDE)) for name in LITERATURE]
)
def test_the_table_of_units_fits_a_terminal(name: str) -> None:
    network = described(name)
    assert len(network.parts) > network.units == sum(spec_of(name).units)
    assert len(printed(units_table(network))) == len(units_table(network).rows) + 2


def test_equal_units_share_a_row() -> None:
    rows = units_table(described("cifar_resnet56")).rows
    firsts = [row[0] for row in rows if row[0].startswith("unit")]
    assert firsts == ["units 1–9", "unit 10", "units 11–18", "unit 19", "units 20–27"]
    assert ("units 1–9", "16×32×32", "identity", "add+ReLU", "4,672", "4.72 M") in rows
    assert rows[-1] == ("in all", "", "", "", "853,018", "125 M")


def test_only_units_share_a_row() -> None:
    rows = units_table(describe(spec_of("cifar_preresnet20", shortcut="C"))).rows
    assert [row[0] for row in rows if row[0] == "link"] == ["link"] * 9


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
    assert record.keys() == {"schema", "record", "versions", *(field.name for field in fields(Recipe))}
    assert record["schedule"] == {"kind": "Cosine", "peak": 1e-3, "rise": 0.1}
    assert record["weight_decay"] == recipe_of("finetune").weight_decay


def test_an_unknown_recipe_is_refused_with_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["recipes", "finetun"]) == 2
    assert capsys.readouterr().err == "howdeep: unknown recipe 'finetun'; did you mean finetune?\n"
