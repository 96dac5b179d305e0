"""Given weights trained on: where they begin, norms, what is frozen, what a run stands for, and resume to the bit."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.processes import Watch, bits, differences, watched

from howdeep import build, cli, spec_of
from howdeep.runs import checkpoints
from howdeep.runs.folder import open_run
from howdeep.training import loop
from howdeep.training.recipes import RECIPES, Cosine, recipe_of

ALL = ["--survival", "linear:0.5", "--ema", "0.9", "--weight-decay", "0.05"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the weights of a network for the images of the digits."""
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save_file(build(spec_of("cifar_resnet8", channels=1)).state_dict(), path)
    return path


def command(out: Path, weights: Path, *more: str) -> list[str]:
    """Ten steps, five an epoch."""
    return [
        *("train", "cifar_resnet8", "--weights", str(weights), "--classifier", "new", "--data", "digits"),
        *("--limit", "160", "--epochs", "2", "--precision", "fp32", "--memory-format", "channels_last"),
        *("--threads", "1", "--device", "cpu", "--out", str(out), *more),
    ]


def test_a_new_classifier_begins_as_regression_and_epoch_0_takes_part(weights: Path, tmp_path: Path, capsys) -> None:
    """With steps that move nothing, the run stands for what it began with; all but the classifier was given."""
    out = tmp_path / "run"
    assert cli.run(command(out, weights, "--lr", "1e-30", "--weight-decay", "0")) == 0
    said, run = capsys.readouterr().err, open_run(out)
    found, given, new = run.chain().state_dict(), load_file(weights), ("head.linear.weight", "head.linear.bias")
    assert {name for name, tensor in found.items() if not torch.equal(tensor, given[name])} == set(new)
    began, *epochs = [line for line in run.metrics() if line["event"] in ("start", "epoch")]
    regression = run.record["start"]["regression"]
    assert (regression["features"], regression["images"]) == (64, 160)
    assert began["validation_error_percent"] == pytest.approx(regression["validation_error_percent"], abs=0.6)
    assert began["validation_error_percent"] < 25  # of 179 digits, with random weights before the classifier
    assert {line["validation_error_percent"] for line in epochs} == {began["validation_error_percent"]}
    assert f"epoch 0/2  val err {began['validation_error_percent']:.1f} %  nothing trained yet" in said
    assert "kept: epoch 0, as none had fewer errors, validation error " in said


def test_the_classifier_alone_ends_where_it_begins(weights: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    assert cli.run(command(out, weights, "--tune", "classifier")) == 0
    run = open_run(out)
    result = run.result()
    assert result is not None
    assert (result["steps"], run.record["ends"]) == (0, [0])
    assert result["test"]["error_percent"] < 25
    assert not [line for line in run.metrics() if line["event"] == "epoch"]
    assert cli.run(command(out, weights, "--tune", "classifier")) == 0
    assert "is finished; nothing to do" in capsys.readouterr().err


def test_norms_move_their_statistics_where_that_is_asked_for(weights: Path, tmp_path: Path) -> None:
    assert cli.run(command(tmp_path / "run", weights, "--norm-statistics", "batch", "--keep", "last")) == 0
    found, given = open_run(tmp_path / "run").chain().state_dict(), load_file(weights)
    assert not torch.equal(found["body.0.branch.norm1.running_mean"], given["body.0.branch.norm1.running_mean"])


@pytest.mark.parametrize(
    "options",
    [
        [*ALL, "--freeze", "1"],
        pytest.param([*ALL, "--optimizer", "muon", "--dropped", "frozen"], marks=pytest.mark.slow),
        pytest.param([*ALL, "--optimizer", "sgd", "--lr", "0.1", "--norm-statistics", "batch"], marks=pytest.mark.slow),
        pytest.param(
            ["--checkpointing", "--dropped", "frozen", "--keep", "last", "--freeze", "2"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_fine_tuning_that_was_stopped_twice_ends_at_the_same_bits(
    options: list[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(command(tmp_path / "whole", weights, *options)) == 0
    parts = command(tmp_path / "parts", weights, *options)
    for steps in (1, 6):
        with monkeypatch.context() as patched:
            patched.setattr(loop, "train_step", watched(loop.train_step, Watch(signal_at=(steps, signal.SIGTERM))))
            assert cli.run(parts) == 143
    assert cli.run(parts) == 0
    assert differences(bits(tmp_path / "whole"), bits(tmp_path / "parts")) == []
    if "--freeze" in options:
        given, saved = load_file(weights), checkpoints.newest(open_run(tmp_path / "whole").checkpoints, print)
        assert saved is not None
        same = {name for name, tensor in saved.tensors("weights").items() if torch.equal(tensor, given[name])}
        units = [name.split(".")[1] for name in given if name.startswith("body.")]
        frozen = {*list(dict.fromkeys(units))[: int(options[options.index("--freeze") + 1])]}
        assert {name for name in given if name.startswith("stem.") or name.split(".")[1] in frozen} <= same
        assert not {name for name in given if name.endswith("conv2.weight") and name.split(".")[1] not in frozen} & same
    one, two = (open_run(tmp_path / name).chain().state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_stands_for_the_average_of_its_best_epoch(tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    options = ["--limit", "160", "--epochs", "3", "--batch-size", "32", "--ema", "0.9", "--device", "cpu"]
    forced = ["--precision", "fp32", "--memory-format", "channels_last", "--threads", "1"]
    assert cli.run(["train", "cifar_resnet8", "--data", "digits", "--out", str(out), *options, *forced]) == 0
    said = capsys.readouterr().err
    best = min(open_run(out).metrics(), key=lambda line: (line["validation_error_percent"], line["validation_loss"]))
    error = f"{best['validation_error_percent']:.1f} %"
    assert f"kept: epoch {best['epoch']:g}, validation error {error}, uncertain with n = 179: 95 % from " in said
    for split, expected in (
        ("val", best["validation_error_percent"]),
        ("test", json.loads((out / "result.json").read_text())["test"]["error_percent"]),
    ):
        place = tmp_path / f"{split}.json"
        assert cli.run(["evaluate", str(out), "--data", "digits", "--split", split, "--json", str(place)]) == 0
        assert json.loads(place.read_text())["error_percent"] == pytest.approx(expected)


def test_the_last_average_stands_for_a_run_that_keeps_the_last(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert cli.run(command(out, weights, "--ema", "0.9", "--keep", "last")) == 0
    run = open_run(out)
    saved = checkpoints.newest(run.checkpoints, print)
    assert saved is not None
    assert not run.best.exists()
    found, average, last = run.chain().state_dict(), saved.tensors("ema"), saved.tensors("weights")
    assert all(torch.equal(found[name], tensor) for name, tensor in average.items())
    assert not torch.equal(average["head.linear.weight"], last["head.linear.weight"])


def test_a_recipe_is_said_in_lines_of_80_columns() -> None:
    recipe = replace(recipe_of("finetune"), optimizer="muon", ema=0.999, survival="linear:0.5")
    assert recipe.lines == [
        "recipe finetune: 8 epochs, batch 32, muon at 0.001 (Cosine)",
        "  weight decay 0.05 on matrices, layer decay 0.85, clip 1.0, ema 0.999,",
        "  smoothing 0.1, survival linear:0.5, norms auto, best epoch kept",
    ]
    assert all(len(line) <= 80 for name in RECIPES for line in recipe_of(name).lines)


def test_half_a_cosine_falls_from_the_peak_to_nothing() -> None:
    schedule = Cosine(peak=2.0, rise=0.25)
    assert [schedule.at(step, 4) for step in range(4)] == pytest.approx([1.0, 1.8660254, 1.0, 0.1339746])
    assert schedule.scaled(1.0).at(1, 4) == pytest.approx(1.8660254 / 2)
