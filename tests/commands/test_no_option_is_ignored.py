"""An option that would change nothing is refused in one line, before anything is measured."""

import json
from pathlib import Path

import pytest
import torch

from howdeep.cli import run
from howdeep.networks import build, spec_of


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(build(spec_of("cifar_resnet8", channels=1)).state_dict(), file)
    return file


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


@pytest.mark.parametrize(
    ("command", "warned"),
    [
        ("lesion", True),
        ("lesion --split test", False),
        ("evaluate", False),
        ("evaluate --split val", True),
        ("cut --units 1 --calibration-images 20 --statistics-images 20", True),
        ("cut --first 1", False),
    ],
)
def test_weights_of_elsewhere_may_know_the_images_that_count(
    command: str, warned: bool, weights: Path, capsys: pytest.CaptureFixture
) -> None:
    name, *options = command.split()
    given = ["--weights", str(weights), "--data", "digits", "--mean", "0.3", "--std", "0.4", "--device", "cpu"]
    assert run([name, "cifar_resnet8", *given, "--limit", "50", *options]) == 0
    may = "those of val may be among them, and have fewer errors than others"
    said = f"cifar_resnet8 does not say which images it was trained on: {may}\n"
    assert (said in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    "command", ["evaluate RUN", "lesion RUN", "probe RUN", "cut RUN --units 1", "explore RUN", "export RUN --out x.pt2"]
)
def test_a_split_that_is_not_there_is_refused_before_anything_is_read(
    command: str, capsys: pytest.CaptureFixture
) -> None:
    assert run([*command.split(), "--data", "nowhere", "--split", "tst"]) == 2
    assert capsys.readouterr().err == "howdeep: unknown split 'tst'; did you mean test?\n"


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
