"""A finished run of the extendable recipe resumes where it was, whatever happens on the way."""

import signal
from pathlib import Path

import pytest
from tests.processes import Watch, bits, differences, watched

from howdeep import cli
from howdeep.runs.folder import open_run
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.training.recipes import recipe_of
from howdeep.training.state import Position, learning_rate
from howdeep.util.errors import UserError


def command(out: Path, epochs: str, recipe: str = "extendable") -> list[str]:
    """Five mini-batches an epoch."""
    return [
        *("train", "cifar_resnet8", "--data", "digits", "--limit", "160", "--batch-size", "32", "--recipe", recipe),
        *("--precision", "fp32", "--memory-format", "contiguous", "--device", "cpu", "--epochs", epochs),
        *("--out", str(out)),
    ]


def test_an_extended_run_that_was_killed_ends_at_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for epochs in ("1", "3"):
        capsys.readouterr()
        assert cli.run(command(tmp_path / "whole", epochs)) == 0
    assert "resumed from step 5" in capsys.readouterr().err
    assert cli.run(command(tmp_path / "parts", "1")) == 0
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", watched(loop.train_step, Watch(signal_at=(4, signal.SIGTERM))))
        assert cli.run(command(tmp_path / "parts", "3")) == 143
    assert open_run(tmp_path / "parts").result() is None  # the result of the shorter run is not that of this one
    assert cli.run(command(tmp_path / "parts", "3")) == 0
    assert differences(bits(tmp_path / "whole"), bits(tmp_path / "parts")) == []
    assert open_run(tmp_path / "whole").record["ends"] == [5, 15]
    assert open_run(tmp_path / "whole").record["config"]["epochs"] == 3


def test_every_leg_of_the_schedule_rises_again_and_falls_to_nothing() -> None:
    recipe = recipe_of("extendable")
    rates = [learning_rate(recipe, Position(step=step), (40, 120)) for step in range(120)]
    assert rates[18] == rates[70] == recipe.schedule.peak
    assert rates[39] == pytest.approx(0.1 * 0.5 / 40 / 0.5)
    assert rates[39] < rates[40] < rates[41] < rates[45]
    assert rates[119] == pytest.approx(0.1 * 0.5 / 80 / 0.5)


def test_a_run_cut_short_by_new_epochs_keeps_its_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", watched(loop.train_step, Watch(signal_at=(4, signal.SIGTERM))))
        assert cli.run(command(tmp_path / "run", "3")) == 143
    assert cli.run(command(tmp_path / "run", "2")) == 0
    assert open_run(tmp_path / "run").record["ends"] == [10]


def test_a_run_cannot_be_made_shorter_than_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(command(tmp_path / "run", "2")) == 0
    assert cli.run(command(tmp_path / "run", "1")) == 2
    assert "has done 10 steps" in capsys.readouterr().err


def test_other_schedules_cannot_be_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(command(tmp_path / "run", "1", "fast")) == 0
    assert cli.run(command(tmp_path / "run", "2", "fast")) == 2
    assert "--epochs was 1.0 and is now 2.0" in capsys.readouterr().err


def test_advance_leaves_the_test_split_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    config = TrainConfig(
        network="cifar_resnet8",
        data="digits",
        limit=160,
        batch_size=32,
        recipe="extendable",
        epochs=1,
        device="cpu",
        precision="fp32",
        memory_format="contiguous",
    )
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: pytest.fail("the test split was read"))
    phase = loop.advance(config, tmp_path / "run", console=Console(quiet=True))
    assert (phase.epochs, open_run(tmp_path / "run").result()) == (1.0, None)
    assert phase.validation_error_percent is not None


def test_epochs_that_were_computed_from_steps_give_those_steps() -> None:
    from dataclasses import replace

    recipe = recipe_of("extendable")
    for steps in range(1, 400):
        assert replace(recipe, epochs=steps / 12).total(12) == steps


def test_an_unknown_recipe_lists_the_extendable_one() -> None:
    with pytest.raises(UserError, match="extendable"):
        recipe_of("extend")
