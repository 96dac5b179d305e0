"""Given weights trained on: the classifier first, norms as they are, what a run stands for, and resume to the bit."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.oracles import small_network
from tests.processes import Watch, bits, differences, watched

from howdeep import cli
from howdeep.runs import checkpoints
from howdeep.runs.folder import open_run
from howdeep.training import loop
from howdeep.training.recipes import RECIPES, Cosine, recipe_of
from howdeep.training.state import Position, learning_rate

ALL = ["--survival", "linear:0.5", "--ema", "0.9", "--weight-decay", "0.05"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the weights of a network for the images of the digits."""
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save_file(small_network("resnet A", channels=1).state_dict(), path)
    return path


def command(out: Path, weights: Path, *more: str) -> list[str]:
    """Ten steps of five an epoch, of which two are the classifier's."""
    return [
        *("train", "cifar_resnet14", "--weights", str(weights), "--classifier", "new", "--data", "digits"),
        *("--limit", "160", "--epochs", "2", "--precision", "fp32", "--memory-format", "channels_last"),
        *("--threads", "1", "--device", "cpu", "--out", str(out), *more),
    ]


def test_the_classifier_learns_alone_at_first_and_norms_keep_their_statistics(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, states, rates = loop.train_step, [], []

    def seen(engine, *given, **options):
        found = step(engine, *given, **options)
        states.append({name: tensor.clone() for name, tensor in engine.state_dict().items()})
        rates.append(options["lr"])
        return found

    monkeypatch.setattr(loop, "train_step", seen)
    assert cli.run(command(tmp_path / "run", weights)) == 0
    given, new = load_file(weights), ("head.linear.weight", "head.linear.bias")
    learned = {name for name, _ in small_network("resnet A", channels=1).named_parameters()}
    for number, state in enumerate(states):
        same = {name for name, tensor in state.items() if name not in new and torch.equal(tensor, given[name])}
        assert same == given.keys() - set(new) - (learned if number >= 2 else set()), f"step {number}"
    assert len(states) == 10
    assert not torch.equal(states[0][new[0]], states[1][new[0]])
    assert rates == [1e-3, 1e-3, *(recipe_of("finetune").schedule.at(number, 8) for number in range(8))]


def test_norms_move_their_statistics_where_that_is_asked_for(weights: Path, tmp_path: Path) -> None:
    assert cli.run(command(tmp_path / "run", weights, "--norm-statistics", "batch")) == 0
    found, given = open_run(tmp_path / "run").chain().state_dict(), load_file(weights)
    assert not torch.equal(found["body.0.branch.norm1.running_mean"], given["body.0.branch.norm1.running_mean"])


@pytest.mark.parametrize(
    "options",
    [
        ALL,
        pytest.param([*ALL, "--optimizer", "muon", "--dropped", "frozen"], marks=pytest.mark.slow),
        pytest.param([*ALL, "--optimizer", "sgd", "--lr", "0.1", "--norm-statistics", "batch"], marks=pytest.mark.slow),
        pytest.param(["--checkpointing", "--dropped", "frozen", "--keep", "last"], marks=pytest.mark.slow),
    ],
)
def test_a_fine_tuning_that_was_stopped_twice_ends_at_the_same_bits(
    options: list[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(command(tmp_path / "whole", weights, *options)) == 0
    parts = command(tmp_path / "parts", weights, *options)
    for steps in (1, 6):  # within the classifier's steps, and five steps after them
        with monkeypatch.context() as patched:
            patched.setattr(loop, "train_step", watched(loop.train_step, Watch(signal_at=(steps, signal.SIGTERM))))
            assert cli.run(parts) == 143
    assert cli.run(parts) == 0
    assert differences(bits(tmp_path / "whole"), bits(tmp_path / "parts")) == []
    one, two = (open_run(tmp_path / name).chain().state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_stands_for_the_average_of_its_best_epoch(weights: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    assert cli.run(command(out, weights, "--ema", "0.9", "--epochs", "4")) == 0
    said = capsys.readouterr().err
    epochs = [record for record in open_run(out).metrics() if record["event"] == "epoch"]
    best = min(epochs, key=lambda record: (record["validation_error_percent"], record["validation_loss"]))
    error = f"{best['validation_error_percent']:.1f} %"
    assert f"kept: epoch {best['epoch']:g}, validation error {error}, uncertain with n = 179: 95 % from " in said
    assert "recipe finetune: 4 epochs, batch 32, adamw at 0.001 (Cosine)" in said
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


def test_the_schedule_begins_behind_the_steps_of_the_classifier() -> None:
    recipe = recipe_of("finetune")
    rates = [learning_rate(recipe, Position(step=step), (12,), 2) for step in range(12)]
    assert rates == [1e-3, 1e-3, *(recipe.schedule.at(step, 10) for step in range(10))]
