"""What commands write is told: every measuring command says what its record is, and a report reads it back."""

import json
from pathlib import Path

import pytest

from howdeep import cli
from howdeep.runtime.timing import threads_of
from howdeep.show.report.page import page_of
from howdeep.show.report.reading import collect

COMMANDS = {
    "lesion": ["--limit", "20"],
    "paths": ["--limit", "20", "--draws", "1"],
    "flow": ["--limit", "20"],
    "evaluate": ["--limit", "20"],
    "cut": ["--units", "2", "--calibration-images", "50", "--statistics-images", "50"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder into which every command has written."""
    run = tmp_path_factory.mktemp("commands") / "run"
    quick = ["--epochs", "1", "--limit", "128", "--precision", "fp32", "--memory-format", "contiguous"]
    with threads_of(1):
        assert cli.run(["train", "cifar_resnet8", "--data", "digits", *quick, "--out", str(run)]) == 0
        for command, options in COMMANDS.items():
            place = ["--data", "digits", "--json", str(run / f"{command}.json")]
            assert cli.run([command, str(run), *place, *options]) == 0
    return run


def test_every_record_in_a_run_folder_says_what_it_is(run: Path) -> None:
    kinds = {command: json.loads((run / f"{command}.json").read_text())["record"] for command in COMMANDS}
    assert kinds == {command: command for command in COMMANDS} | {"evaluate": "evaluation"}


def test_a_report_tells_of_all_of_them_and_asks_for_nothing_more(run: Path) -> None:
    page = page_of(collect([run]), "howdeep report run")
    assert page.left_out == ()
    assert page.further == ()
    assert [section.heading for section in page.parts[0].sections] == [
        "Training",
        "Evaluation",
        "Cut: a shallower network",
        "Evaluation",
        "Lesion: each unit taken out",
        "Paths of the gradient",
        "Signal and gradient through the depth",
    ]
    assert all(section.command for section in page.parts[0].sections)
    assert "n = 179" in page.answer.sentence  # the test of all images, not the evaluation of 20


def test_costs_say_what_they_are(tmp_path: Path) -> None:
    place = tmp_path / "cost.json"
    options = ["--scale", "4x8", "--rate", "10TFLOP/s", "--images", "1000", "--json", str(place)]
    assert cli.run(["cost", "cifar_resnet8", *options]) == 0
    page = page_of(collect([place]), "howdeep report cost.json")
    assert page.parts[0].sections[0].heading == "Cost by depth"
    assert page.answer.sentence.startswith("cifar_resnet8 on 32 devices: ")
