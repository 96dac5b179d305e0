"""The command line: every mistake is one line and status 2, every result is where it was asked for."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from howdeep import cli
from howdeep.commands import COMMANDS
from howdeep.commands.overview import example, overview
from howdeep.commands.parsing import parse

GOLDEN = Path(__file__).parent / "golden"
SHORT = ["--families", "resnet", "--precision", "fp32", "--device", "cpu", "--train-budget", "1us"]


TRAINED = ["--epochs", "1", "--precision", "fp32", "--memory-format", "contiguous", "--threads", "1"]


def howdeep(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "howdeep", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["netwroks"], "unknown command 'netwroks'; did you mean networks?"),
        (["networks", "cifar_resnet21"], "cifar_resnet20"),
        (["networks", "resnet51"], "resnet50"),
        (["networks", "cifar_resnett20"], "did you mean cifar_resnet20"),
        (["networks", "densenet121", "--size", "8"], "densenet121"),
        (["train", "cifar_resnet20", "--data", "digitz", "--out", "x"], "did you mean digits"),
        (["train", "cifar_resnet20", "--data", "digits", "--out", "x", "--recipe", "fats"], "fast"),
        (["train", "cifar_resnet20", "--data", "digits", "--out", "x", "--epochs", "0"], "above 0"),
        (["train", "cifar_resnet20", "--data", "digits", "--out", "x", "--epochs", "nan"], "above 0"),
        (["train", "cifar_resnet20", "--data", "digits", "--out", "x", "--survival", "linear:2"], "at most 1"),
        (["train", "cifar_resnet20", "--data", "digits", "--out", "x", "--survival", "linaer:0.5"], "linear"),
        (["train", "cifar_resnet20", "--data", "digits", "--out", "x", "--device", "cuda:99"], "cuda:99"),
        (["train", "cifar_plain20", "--data", "digits", "--out", "x", "--shortcut", "B"], "shortcut"),
        (["train", "densenet121", "--data", "digits", "--out", "x"], "8×8"),
        (["evaluate", "nowhere/run", "--data", "digits"], "no run folder 'nowhere/run'"),
        (["evaluate", "nowhere"], "no folder or network 'nowhere'; howdeep runs lists runs"),
        (["evaluate", "cifar_resnett20"], "no folder or network 'cifar_resnett20'; did you mean cifar_resnet20"),
        (["flow", "cifar_resnet20", "--fresh"], "--fresh needs --data"),
        (["evaluate", "cifar_resnet20", "--data", "digits"], "--weights"),
        (["evaluate", "cifar_resnet20", "--data", "digits", "--weights", "nothing.th"], "nothing.th"),
        (["predict", "cifar_resnet20", "cat.png"], "--weights"),
        (["import", "nothing.pth", "--network", "cifar_resnet20", "--out", "x"], "nothing.pth"),
        (["check", "nowhere"], "nowhere"),
        (["lesion", "cifar_resnet20", "--data", "digits", "--figure", "chart.gif"], ".svg"),
        (["lesion", "cifar_resnet20", "--data", "digits", "--limit", "0"], "at least 1"),
        (["lesion", "torchvision:resnet19", "--data", "digits", "--weights", "x.pth"], "x.pth"),
        (["lesion", "torchvision:resnet18", "--data", "digits"], "--pretrained"),
        (["paths", "cifar_resnet20", "--data", "digits", "--precision", "bf16"], "fp64"),
        (["flow", "timm:resnet5", "--fresh", "--data", "digits"], "did you mean"),
        (["flow", "cifar_resnet20", "--fresh", "--weights", "x.pth", "--data", "digits"], "--fresh"),
        (["networks", "torchvision:resnet19"], "resnet18"),
        (["evaluate", "cifar_resnet20", "--pretrained", "--data", "digits"], "torchvision:NAME"),
        (["degradation", "--data", "digits", "--out", "x", "--train-budget", "5 parsecs"], "2ms, 45s, 30m or 1.5h"),
        (["degradation", "--data", "digits", "--out", "x", "--train-budget", "0s"], "above 0"),
        (["degradation", "--data", "digits", "--out", "x", "--train-budget", "-5m"], "above 0"),
        (["degradation", "--data", "digits", "--out", "x", "--train-budget", "1ns"], "2ms, 45s, 30m or 1.5h"),
        (["degradation", "--data", "digits", "--out", "x", "--depths", "8,14", "--limit", "32", *SHORT], "one step"),
        (["degradation", "--data", "digits", "--out", "x", "--train-budget", "5m", "--epochs", "2"], "--epochs"),
        (["degradation", "--data", "digits", "--out", "x", "--epochs", "0"], "above 0"),
        (["degradation", "--data", "digits", "--out", "x", "--families", "plain,resnett"], "did you mean"),
        (["degradation", "--data", "digits", "--out", "x", "--families", ""], "name at least one"),
        (["degradation", "--data", "digits", "--out", "x", "--depths", "8,21"], "cifar_plain20"),
        (["degradation", "--data", "digits", "--out", "x", "--depths", "8;20"], "8,20,56"),
        (["degradation", "--data", "digits", "--out", "x", "--depths", "20,20"], "two depths"),
        (["degradation", "--data", "digits", "--out", "x", "--seeds", "0"], "at least 1"),
        (["degradation", "--data", "digits", "--out", "x", "--limit", "7"], "fewer than its 10 classes"),
        (["degradation", "--data", "digits", "--out", "x", "--figure", "chart.gif"], ".svg"),
    ],
)
def test_a_mistake_is_one_line_with_status_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    status = cli.run(arguments)
    printed = capsys.readouterr()
    assert status == 2
    complaint = printed.err.strip().splitlines()[-1]
    assert complaint.startswith("howdeep: ")
    assert said in complaint
    assert "Traceback" not in printed.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train x --data digits --epoch 3", "unknown option --epoch; did you mean --epochs?"),
        ("train x --data digits --wibble=3", "unknown option --wibble; howdeep train --help lists all"),
        ("--versoin", "unknown option --versoin; howdeep --help lists all"),
        ("train x --epochs abc --data d --out y", "--epochs 'abc' is not allowed: it must be a number"),
        ("train x --seed=1.5 --data d --out y", "--seed '1.5' is not allowed: it must be a whole number"),
        ("train x --batch_size few --data d --out y", "--batch-size 'few' is not allowed: it must be a whole number"),
        (
            "train x --precision fp8 --data d --out y",
            "--precision 'fp8' is not allowed: it must be auto or bf16 or fp32",
        ),
        ("cut x --data d --first six", "--first 'six' is not allowed: it must be a whole number or auto"),
        ("cut x --data d --remove 3 seven", "--remove '3 seven' is not allowed: it must be whole numbers"),
        ("export x --data d --out y --format onx", "--format 'onx' is not allowed: it must be onnx or torch"),
        ("train x --epochs", "--epochs needs a value"),
        ("train", "train needs NETWORK, --out and --data"),
        ("completion tcsh", "unknown shell 'tcsh'; did you mean zsh or fish or bash?"),
        ("help trian", "unknown command 'trian'; did you mean train?"),
        ("evaluate x y", "'y' is too much: evaluate takes TARGET and options"),
        ("train x --data digits --out y --epochs 3 4", "'4' is too much: train takes NETWORK and options"),
        ("demo now", "'now' is too much: demo takes options"),
    ],
)
def test_words_that_are_not_understood_are_one_line(arguments: str, said: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(arguments.split()) == 2
    assert capsys.readouterr().err == f"howdeep: {said}\n"


def test_help_and_the_list_of_runs_do_not_import_torch(run: Path) -> None:
    commands = f"cli.run(['--help']); cli.run(['runs', {str(run)!r}])"
    program = f"import sys; from howdeep import cli; {commands}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_help_groups_all_commands_and_an_example_of_each_is_understood(capsys: pytest.CaptureFixture) -> None:
    assert [cli.run(words) for words in ([], ["--help"], ["help"])] == [0, 0, 0]
    assert capsys.readouterr().out == (GOLDEN / "help" / "overview.txt").read_text() * 3
    assert all(len(line) <= 80 for line in overview().splitlines())
    for name, command in COMMANDS.items():
        words = shlex.split(example(command))
        assert words[:2] == ["howdeep", name]
        assert isinstance(parse(words[1:]), command)
    assert [cli.run(words) for words in (["help", "check"], ["check", "--help"], ["-v"], ["--version"])] == [0] * 4
    printed = capsys.readouterr().out
    assert printed.count("usage: howdeep check") == 2
    assert printed.endswith(f"howdeep {version('howdeep')}\nhowdeep {version('howdeep')}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands_and_options(shell: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "--latency-budget" in script or "-l latency-budget" in script
    assert "degradation" in script


@pytest.mark.slow
def test_help_answers_in_half_a_second() -> None:
    howdeep("--help")
    started = time.perf_counter()
    assert howdeep("--help").returncode == 0
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_are_the_reviewed_ones(
    command: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The golden files are the public surface; a change of it is a change of them: ``python tests/golden/help.py``."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.run([command, "--help"]) == 0
    assert capsys.readouterr().out == (GOLDEN / "help" / f"{command}.txt").read_text()


def test_json_alone_goes_to_standard_output(capfd: pytest.CaptureFixture) -> None:
    assert cli.run(["networks", "cifar_resnet20", "--json", "-"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert (record["parameters"], record["macs"], record["units"]) == (269_722, 40_551_040, 9)


def test_a_file_is_not_overwritten_without_being_asked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    place = tmp_path / "mine.json"
    place.write_text("precious")
    assert cli.run(["networks", "cifar_resnet20", "--json", str(place)]) == 2
    assert place.read_text() == "precious"
    assert "--overwrite" in capsys.readouterr().err
    assert cli.run(["networks", "cifar_resnet20", "--json", str(place), "--overwrite"]) == 0
    assert json.loads(place.read_text())["name"] == "cifar_resnet20"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as a user trains it, who reads its folder on standard output."""
    run = tmp_path_factory.mktemp("trained") / "run"
    with redirect_stdout(io.StringIO()) as printed:
        assert cli.run(["train", "cifar_resnet8", "--data", "digits", "--out", str(run), *TRAINED]) == 0
    assert printed.getvalue() == f"{run}\n"
    return run


def test_train_evaluate_and_import_as_a_user_types_them(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    weights = tmp_path / "weights.safetensors"
    test = json.loads((run / "result.json").read_text())["test"]
    assert cli.run(["evaluate", str(run), "--data", "digits", "--json", "-"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["error_percent"] == pytest.approx(test["error_percent"])
    assert said["answers"] == test["answers"]
    checkpoint = next((run / "checkpoints").glob("step-*"))
    weights.write_bytes((checkpoint / "weights.safetensors").read_bytes())
    known = ["--mean", "0.3", "--std", "0.4", "--size", "8"]
    imported = tmp_path / "imported"
    assert cli.run(["import", str(weights), "--network", "cifar_resnet8", "--out", str(imported), *known]) == 0
    capfd.readouterr()
    assert cli.run(["evaluate", str(imported), "--data", "digits", "--limit", "50", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["n"] == 50


def test_a_run_of_another_version_is_one_line_that_names_what_is_missing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Whatever its record lacks: a command does without it, or says so."""
    whole, other = json.loads((run / "run.json").read_bytes()), tmp_path / "run"
    shutil.copytree(run, other)
    commands = ["evaluate", str(other), "--limit", "10"], ["train", "cifar_resnet8", "--out", str(other), *TRAINED]
    for holder in ("", "network", "survival", "data", "normalization", "config", "choices"):
        for name in whole[holder] if holder else whole:
            record = json.loads(json.dumps(whole))
            del (record[holder] if holder else record)[name]
            (other / "run.json").write_text(json.dumps(record))
            for command in commands:
                if cli.run([*command, "--data", "digits"]) != 0:
                    line = capsys.readouterr().err.splitlines()[-1]
                    assert re.search("another version of howdeep|imported weights|other options", line), line


def test_predict_names_classes_and_probabilities(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    image = tmp_path / "digit.png"
    Image.new("L", (8, 8), 128).save(image)
    assert cli.run(["predict", str(run), str(image), "--top", "10", "--json", "-"]) == 0
    (prediction,) = json.loads(capfd.readouterr().out)["predictions"]
    assert sorted(prediction["classes"]) == [str(digit) for digit in range(10)]
    assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-5)
    broken = tmp_path / "broken.png"
    broken.write_text("not an image")
    os.mkfifo(tmp_path / "pipe")
    files = [broken, image, tmp_path / "missing.png", tmp_path, tmp_path / "pipe", image]
    assert cli.run(["predict", str(run), *map(str, files), "--top", "10", "--json", "-"]) == 1
    printed = capfd.readouterr()
    assert printed.err.splitlines()[-1] == "howdeep: 4 of 6 files cannot be used"
    found = json.loads(printed.out)["predictions"]
    assert [one["image"] for one in found] == list(map(str, files))
    assert [one["unusable"] is None for one in found] == [False, True, False, False, False, True]
    assert found[1] == {**prediction, "probabilities": pytest.approx(prediction["probabilities"])} == found[5]
    assert "No such file" in found[2]["unusable"]


def test_an_initial_network_of_a_library_has_the_classes_of_the_data(capsys: pytest.CaptureFixture) -> None:
    options = ["--fresh", "--size", "32", "--statistics", "running", "--data", "digits", "--limit", "8"]
    assert cli.run(["flow", "torchvision:resnet18", *options]) == 0
    assert "layer1.0" in capsys.readouterr().out
