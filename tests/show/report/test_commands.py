"""What commands write is told: every measuring command says what its record is, and a report reads it back."""

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from howdeep import cli
from howdeep.analysis.evaluation import Answers, Evaluation
from howdeep.data import open_data
from howdeep.runs.folder import open_run
from howdeep.runtime.timing import threads_of
from howdeep.show.report.gallery import galleries_of
from howdeep.show.report.page import html_of, page_of
from howdeep.show.report.reading import collect
from howdeep.util.text import counted

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


def test_the_surest_mistakes_and_what_a_cut_lost_are_shown(run: Path, tmp_path: Path) -> None:
    (record,) = [subject.test for subject in collect([run]).subjects]
    assert record is not None
    evaluation: Evaluation = record.value
    (sure,) = galleries_of(open_run(run), evaluation, "test")
    names, first = [one.name for one in evaluation.classes], evaluation.mistakes[0]
    wrong = round(evaluation.n * evaluation.error_percent / 100)
    said = f"{names[first.true]} taken for {names[first.given]}, {first.confidence_percent:.0f} % sure"
    assert (sure.says, sure.images[0].caption) == (f"The 24 surest of {wrong} mistakes", said)
    digits = open_data("digits").split("test")
    shown = Image.open(io.BytesIO(base64.b64decode(sure.images[0].source.removeprefix("data:image/png;base64,"))))
    assert list(shown.tobytes()) == digits.pixels(torch.tensor([first.image])).flatten().tolist()
    text = html_of(page_of(collect([run]), "x"))
    assert text.count('<img src="data:image/png;base64,') == 24
    # A network that gets everything wrong has lost what the one before it got right.
    cut = tmp_path / "cut"
    shutil.copytree(run, cut)
    about = json.loads((cut / "run.json").read_text())
    (cut / "run.json").write_text(json.dumps(about | {"removed": [1], "cut_from": str(run)}))
    assert evaluation.answers is not None
    after = Answers.of(evaluation.answers.images, torch.ones(evaluation.n, dtype=torch.bool))
    _, lost = galleries_of(open_run(cut), replace(evaluation, answers=after), "test")
    right = evaluation.n - wrong
    more = ", the first 24" * (right > 24)
    assert lost.says == f"{counted(right, 'image')} that the network before the cut got right{more}"
    few = replace(evaluation, mistakes=evaluation.mistakes[:2], error_percent=200 / evaluation.n)
    assert galleries_of(open_run(run), few, "test")[0].says == "All 2 mistakes, the surest first"
    others = replace(evaluation, answers=replace(after, images="others"))
    assert galleries_of(open_run(cut), others, "test") == ()


def test_costs_say_what_they_are(tmp_path: Path) -> None:
    place = tmp_path / "cost.json"
    options = ["--scale", "4x8", "--rate", "10TFLOP/s", "--images", "1000", "--json", str(place)]
    assert cli.run(["cost", "cifar_resnet8", *options]) == 0
    page = page_of(collect([place]), "howdeep report cost.json")
    assert page.parts[0].sections[0].heading == "Cost by depth"
    assert page.answer.sentence.startswith("cifar_resnet8 on 32 devices: ")
