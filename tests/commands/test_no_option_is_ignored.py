"""An option that would change nothing is refused in one line, before anything is measured."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from howdeep.cli import run
from howdeep.commands.analysing import Lesion


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("networks --classes 6", "--classes 6 is not allowed without NETWORK"),
        ("networks --channels 1", "--channels 1 is not allowed without NETWORK"),
        ("networks torchvision:resnet18 --channels 1", "--channels 1 is not allowed for torchvision:resnet18"),
        ("evaluate RUN --data digits --seed 3", "--seed 3 is not allowed without --limit"),
        ("lesion RUN --data digits --max-k 3", "--max-k 3 is not allowed with --kind delete"),
        ("lesion RUN --data digits --kind random --sample 3", "--sample 3 is not allowed with --kind random"),
        ("lesion RUN --data digits --kind pairs --draws 3", "--draws 3 is not allowed with --kind pairs"),
        ("paths RUN --data digits --draws 0 --lengths 1 2", "--lengths 1 2 is not allowed with --draws 0"),
        ("flow cifar_resnet8 --data digits --fresh --pretrained", "--pretrained is not allowed with --fresh"),
        ("cut RUN --data digits --units 2 --lr 0.5", "--lr 0.5 is not allowed without --epochs"),
        ("cut RUN --data digits --units 2 --flip yes", "--flip yes is not allowed without --epochs"),
        ("cost cifar_resnet8 --images 3", "--images 3 is not allowed without --scale"),
        ("cost cifar_resnet8 --scale 2x8 --rate 1TFLOP/s --seconds 3", "--seconds 3.0 is not allowed with --rate"),
    ],
)
def test_an_option_without_use_is_refused(command: str, line: str, capsys: pytest.CaptureFixture) -> None:
    assert run(command.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"howdeep: {line}"), said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("split", "run", "warned"), [("val", None, True), ("test", None, False), ("val", {}, False)])
def test_lesions_of_weights_of_elsewhere_may_count_images_that_they_were_trained_on(
    split: str, run: dict | None, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, said = SimpleNamespace(name="x", run=run if run is None else SimpleNamespace(record=run)), []
    monkeypatch.setattr("howdeep.runs.target.open_target", lambda options, report: target)
    Lesion(target="x", split=split).open(said.append)
    assert bool(said) == warned
    assert all(line.endswith("those of val may be among them; --split test counts others") for line in said)


def test_a_network_of_a_library_has_the_classes_that_were_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "network.json"
    assert run(["networks", "torchvision:resnet18", "--classes", "6", "--size", "32", "--json", str(out)]) == 0
    # torchvision's own count has 1,000 classes of 512 weights and a bias each.
    assert json.loads(out.read_text())["parameters"] == 11_689_512 - 994 * 513


def test_an_initial_network_reads_images_as_the_options_say(tmp_path: Path) -> None:
    command = ["flow", "cifar_resnet8", "--data", "digits", "--fresh", "--limit", "20", "--device", "cpu", "--json"]
    streams = []
    for number, options in enumerate(([], ["--mean", "0.5", "--std", "0.01"], ["--size", "16"])):
        out = tmp_path / f"{number}.json"
        assert run([*command, str(out), *options]) == 0
        streams.append(json.loads(out.read_text())["units"][0]["stream_std"])
    assert len(set(streams)) == 3
