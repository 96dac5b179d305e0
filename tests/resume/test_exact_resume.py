"""2N steps = N steps, a signal, and N steps in a fresh process, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import cycle, product
from pathlib import Path

import pytest
import torch
from tests.processes import Watch, bits, differences, finish, watched

from howdeep import cli
from howdeep.data import batches
from howdeep.survival import Survival
from howdeep.training import loop

STEPS = 10
HOWDEEP = Path(sys.executable).with_name("howdeep")


def command(out: Path, *more: str, network: str = "cifar_resnet8") -> list[str]:
    """Ten steps of five an epoch, with everything that is drawn at random."""
    return [
        *("train", network, "--data", "digits", "--limit", "80", "--batch-size", "16", "--epochs", "2"),
        *("--survival", "linear:0.5", "--dropout", "0.2", "--memory-format", "contiguous", "--device", "cpu"),
        *("--out", str(out), *more),
    ]


def stop(arguments: list[str], step: int, signum: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command in this process until a signal arrives during a step; return its exit status."""
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", watched(loop.train_step, Watch(signal_at=(step, signum))))
        return cli.run(arguments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stops."""
    place = tmp_path_factory.mktemp("uninterrupted") / "whole"
    assert cli.run(command(place, "--precision", "fp32")) == 0
    return place


@pytest.fixture
def stopped(_stopped: Path, tmp_path: Path) -> list[str]:
    """The command of a copy of it that was stopped after five steps."""
    shutil.copytree(_stopped, tmp_path / "parts")
    return command(tmp_path / "parts", "--precision", "fp32")


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stopped") / "parts"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert stop(command(place, "--precision", "fp32"), 5, signal.SIGTERM, monkeypatch) == 143
    return place


@pytest.mark.parametrize("augmentation", ["none", "standard", "strong"])
def test_stopped_and_resumed_equals_uninterrupted_with_every_augmentation(
    tmp_path: Path, augmentation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--precision", "fp32", "--augmentation", augmentation)
    whole, parts = command(tmp_path / "whole", *more), command(tmp_path / "parts", *more)
    assert cli.run(whole) == 0
    assert stop(parts, 3, signal.SIGTERM, monkeypatch) == 143
    assert cli.run(parts) == 0
    assert bits(tmp_path / "parts") == bits(tmp_path / "whole")


CHOICES = (("batch", "sample"), ("momentum", "frozen"), ("--no-checkpointing", "--checkpointing"), ("bf16", "fp32"))
"""The second of each stands in four of the five fast tests: bfloat16, which is emulated, in two."""
MOMENTS = cycle([3, 5, 8])


def ways() -> list:
    """Return every combination; those of the fast tests hold every pair of choices: no fewer than five can."""
    found = []
    for numbers, step in zip(product((0, 1), repeat=4), MOMENTS, strict=False):
        names = (choice[number] for choice, number in zip(CHOICES, numbers, strict=True))
        found.append(pytest.param(*names, step, marks=[] if sum(numbers) in (0, 3) else pytest.mark.slow))
    return found


@pytest.mark.parametrize(("mode", "dropped", "checkpointing", "precision", "step"), ways())
def test_a_resumed_run_ends_at_the_same_bits(
    mode: str,
    dropped: str,
    checkpointing: str,
    precision: str,
    step: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--survival-mode", mode, "--dropped", dropped, checkpointing, "--precision", precision]
    whole, parts = command(tmp_path / "whole", *options), command(tmp_path / "parts", *options)
    assert cli.run(whole) == 0
    assert stop(parts, step, signal.SIGTERM, monkeypatch) == 143
    assert max(path.name for path in (tmp_path / "parts/checkpoints").iterdir()) == f"step-{step:08d}"
    status, said = finish(parts, tmp_path / "said.txt")
    assert status == 0, said
    assert f"resumed from step {step}" in said
    assert differences(bits(tmp_path / "whole"), bits(tmp_path / "parts")) == []


def test_a_resumed_dense_network_ends_at_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = command(tmp_path / "whole", "--precision", "fp32", network="cifar_densenet10_k4")
    parts = command(tmp_path / "parts", "--precision", "fp32", network="cifar_densenet10_k4")
    assert cli.run(whole) == 0
    assert stop(parts, 4, signal.SIGINT, monkeypatch) == 130
    assert finish(parts, tmp_path / "said.txt")[0] == 0
    assert differences(bits(tmp_path / "whole"), bits(tmp_path / "parts")) == []


def test_two_equal_runs_are_compared_by_what_they_learned(whole: Path) -> None:
    found = bits(whole)
    assert found["step"] == f"step-{STEPS:08d}"
    assert set(found["files"]) == {"weights.safetensors", "momentum.safetensors"}
    assert found["state"]["step"] == STEPS
    assert [record["step"] for record in found["metrics"]] == [5, 10]
    assert found["result"]["test"]["n"] == 179


def _other_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Survival.draw
    monkeypatch.setattr(Survival, "draw", lambda self, units, **how: drawn(self, units, **{**how, "seed": 7}))


def _other_order(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = batches.draw_epoch
    monkeypatch.setattr(
        batches, "draw_epoch", lambda count, how, *, seed, epoch: drawn(count, how, seed=seed + 1, epoch=epoch)
    )


def _other_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seeded(seed // 2))


@pytest.mark.parametrize("tampered", [_other_gates, _other_order, _other_dropout])
def test_a_run_whose_draws_are_tampered_with_after_the_stop_differs(
    tampered, whole: Path, stopped: list[str], tmp_path: Path, monkeypatch
) -> None:
    tampered(monkeypatch)
    assert cli.run(stopped) == 0
    assert {"files", "metrics"} <= set(differences(bits(whole), bits(tmp_path / "parts")))


def test_a_run_that_forgets_its_momentum_differs(
    whole: Path, stopped: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = loop.prepare

    def forgetful(*given):
        session = read(*given)
        session.optimizer.state.clear()
        return session

    monkeypatch.setattr(loop, "prepare", forgetful)
    assert cli.run(stopped) == 0
    assert "files" in differences(bits(whole), bits(tmp_path / "parts"))


@pytest.mark.slow
def test_the_installed_script_stops_at_a_signal_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Adds the installed script to the bits of a fresh process; that it stops and resumes, test_signals tells."""
    whole, parts = (command(tmp_path / name, "--precision", "fp32", "--epochs", "40") for name in ("whole", "parts"))
    assert cli.run(whole) == 0
    with subprocess.Popen([HOWDEEP, *parts], stderr=subprocess.PIPE, text=True, env=_one_thread_each()) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("epoch 2/40"):
                running.send_signal(signal.SIGTERM)
                break
        said = running.stderr.read()
    assert running.returncode == 143, said
    assert "saved" in said
    done = json.loads((max((tmp_path / "parts/checkpoints").iterdir()) / "state.json").read_text())["step"]
    assert 10 <= done < 200
    again = subprocess.run([HOWDEEP, *parts], env=_one_thread_each(), capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
    assert differences(bits(tmp_path / "whole"), bits(tmp_path / "parts")) == []


def _one_thread_each() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_options_that_change_nothing_may_differ_when_a_run_resumes(
    whole: Path, stopped: list[str], tmp_path: Path
) -> None:
    assert cli.run([*stopped, "--workers", "0", "--checkpoint-every", "3"]) == 0
    assert differences(bits(whole), bits(tmp_path / "parts")) == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (["--seed", "1"], "--seed was 0 and is now 1"),
        (["--lr", "0.05"], "--lr was None and is now 0.05"),
        (["--dropped", "frozen", "--seed", "1"], "--dropped was momentum and is now frozen"),
        (["--no-norm"], "--norm was True and is now False"),
    ],
)
def test_a_run_with_other_options_is_refused_with_the_first_difference(
    other: list[str], told: str, stopped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path / "parts")
    capsys.readouterr()
    assert cli.run([*stopped, *other]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert contents(tmp_path / "parts") == before


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("thing", ["folder", "file"])
def test_a_place_that_is_not_a_run_is_refused_and_untouched(thing: str, tmp_path: Path, capsys) -> None:
    if thing == "folder":
        (tmp_path / "place").mkdir()
        (tmp_path / "place/thesis.tex").write_text("the only copy")
    else:
        (tmp_path / "place").write_text("the only copy")
    before = contents(tmp_path)
    assert cli.run(command(tmp_path / "place", "--precision", "fp32")) == 2
    said = capsys.readouterr().err
    assert f"--out {tmp_path / 'place'} is not empty and is not a run of howdeep; nothing was changed" in said
    assert said.count("\n") == 1
    assert contents(tmp_path) == before


def test_a_finished_run_says_so_and_stays_as_it_is(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path / "run", "--precision", "fp32")
    shutil.copytree(whole, tmp_path / "run")
    before = contents(tmp_path / "run")
    capsys.readouterr()
    assert cli.run(arguments) == 0
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


def test_a_run_that_was_stopped_before_the_test_split_was_read_reads_it(
    whole: Path, tmp_path: Path, monkeypatch
) -> None:
    parts = command(tmp_path / "parts", "--precision", "fp32")
    assert stop(parts, STEPS, signal.SIGTERM, monkeypatch) == 143
    assert not (tmp_path / "parts/result.json").exists()
    assert cli.run(parts) == 0
    assert differences(bits(whole), bits(tmp_path / "parts")) == []


def test_a_run_folder_may_be_moved_and_resumes(whole: Path, stopped: list[str], tmp_path: Path) -> None:
    shutil.move(tmp_path / "parts", tmp_path / "there")
    assert cli.run(command(tmp_path / "there", "--precision", "fp32")) == 0
    assert differences(bits(whole), bits(tmp_path / "there")) == []
