"""A recorded run that is resumed has the record of the uninterrupted one, each moment once."""

import signal
from pathlib import Path

import pytest
from tests.processes import Watch, bits, differences, finish, watched

from howdeep import cli
from howdeep.analysis.signals import recorded_flow
from howdeep.runs.folder import open_run
from howdeep.training import loop


def command(out: Path) -> list[str]:
    """Ten steps of five an epoch."""
    return [
        *("train", "cifar_resnet8", "--data", "digits", "--limit", "80", "--batch-size", "16", "--epochs", "2"),
        *("--survival", "linear:0.5", "--dropout", "0.2", "--precision", "fp32", "--memory-format", "contiguous"),
        *("--device", "cpu", "--record", "flow", "--out", str(out)),
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stops."""
    place = tmp_path_factory.mktemp("recorded") / "whole"
    assert cli.run(command(place)) == 0
    return place


def stop(arguments: list[str], step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", watched(loop.train_step, Watch(signal_at=(step, signal.SIGTERM))))
        assert cli.run(arguments) == 143


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_a_resumed_run_has_the_bits_and_the_record_of_the_uninterrupted_one(
    step: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = command(tmp_path / "parts")
    stop(parts, step, monkeypatch)
    status, said = finish(parts, tmp_path / "said.txt")
    assert status == 0, said
    assert differences(bits(whole), bits(tmp_path / "parts")) == []
    assert [step for step, _ in recorded_flow(open_run(tmp_path / "parts"))] == [0, 5, 10]


def test_a_start_that_was_killed_before_its_first_checkpoint_is_not_recorded_twice(tmp_path: Path) -> None:
    arguments, said = command(tmp_path / "run"), tmp_path / "said.txt"
    assert finish(arguments, said, watch=Watch(signal_at=(1, signal.SIGKILL)))[0] == -9
    assert [step for step, _ in recorded_flow(open_run(tmp_path / "run"))] == [0]
    assert cli.run(arguments) == 0
    assert [step for step, _ in recorded_flow(open_run(tmp_path / "run"))] == [0, 5, 10]


def test_a_run_cannot_begin_or_stop_recording_when_it_resumes(tmp_path: Path, monkeypatch, capsys) -> None:
    arguments = command(tmp_path / "run")
    stop(arguments, 3, monkeypatch)
    assert cli.run([*arguments, "--record", "none"]) == 2
    assert "--record was flow and is now none" in capsys.readouterr().err
