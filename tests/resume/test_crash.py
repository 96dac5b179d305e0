"""Whatever happens to a run, the next start resumes, or says in one line why it cannot."""

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.processes import Watch, bits, differences, finish, watched

from howdeep import cli
from howdeep.runs.checkpoints import list_checkpoints, load
from howdeep.training import loop


def command(out: Path, *more: str) -> list[str]:
    return [
        *("train", "cifar_resnet8", "--data", "digits", "--limit", "160", "--batch-size", "32", "--epochs", "2"),
        *("--survival", "linear:0.5", "--precision", "fp32", "--memory-format", "contiguous", "--device", "cpu"),
        *("--checkpoint-every", "1", "--out", str(out), *more),
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never interrupted."""
    place = tmp_path_factory.mktemp("uninterrupted") / "whole"
    assert cli.run(command(place)) == 0
    return place


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "train_step", watched(loop.train_step, Watch(signal_at=(6, signal.SIGTERM))))
        assert cli.run(command(place)) == 143
    return place


@pytest.fixture
def checkpoints(_stopped: Path, tmp_path: Path) -> list[Path]:
    """Those of a copy of it that was stopped after six steps of ten."""
    shutil.copytree(_stopped, tmp_path / "run")
    found = list_checkpoints(tmp_path / "run/checkpoints")
    assert [path.name for path in found] == ["step-00000005", "step-00000006"]
    return found


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_at_the_same_bits(kills: int, tmp_path: Path) -> None:
    """Moments are file operations, about twelve a step, and not times, in which a fast machine finishes the run.

    Eight of them, by hand, add more places in a save where a process can end.
    """
    longer = ["--epochs", str(kills)]
    assert cli.run(command(tmp_path / "whole", *longer)) == 0
    run, said = tmp_path / "run", tmp_path / "said.txt"
    for moment in random.Random(0).sample(range(1, 50), kills):
        status, told = finish(command(run, *longer), said, watch=Watch(killed_at=(moment, run)))
        assert (status, "damaged" in told) == (-9, False)
    status, told = finish(command(run, *longer), said)
    assert (status, "damaged" in told) == (0, False), told
    assert differences(bits(tmp_path / "whole"), bits(run)) == []


@pytest.mark.parametrize("leftover", ["nothing", "folder", "half a record"])
def test_a_run_killed_before_it_had_a_record_starts_again(leftover: str, tmp_path: Path) -> None:
    if leftover != "nothing":
        (tmp_path / "run").mkdir()
    if leftover == "half a record":
        (tmp_path / "run/.partial-run.json").write_text('{"comm')
    assert cli.run(command(tmp_path / "run", "--epochs", "0.2")) == 0
    assert not (tmp_path / "run/.partial-run.json").exists()


@pytest.mark.usefixtures("checkpoints")
def test_what_a_crash_left_half_written_is_cleaned_away(whole: Path, tmp_path: Path) -> None:
    partial = tmp_path / "run/checkpoints/.partial-00000007"
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(b"half")
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"event": "epoch", "step": 10, "tr')
    assert cli.run(command(tmp_path / "run")) == 0
    assert not partial.exists()
    assert len(list_checkpoints(tmp_path / "run/checkpoints")) == 2
    assert differences(bits(whole), bits(tmp_path / "run")) == []


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "flipped bit": lambda path: _flip(path / "weights.safetensors"),
    "flipped bit of the momentum": lambda path: _flip(path / "momentum.safetensors"),
    "flipped bit of the state": lambda path: _flip(path / "state.json"),
    "short file": lambda path: os.truncate(path / "weights.safetensors", 1000),
    "lying header": lambda path: (path / "weights.safetensors").write_bytes(
        (2**62).to_bytes(8, "little") + (path / "weights.safetensors").read_bytes()[8:]
    ),
    "missing file": lambda path: (path / "momentum.safetensors").unlink(),
    "missing manifest": lambda path: (path / "manifest.json").unlink(),
    "manifest that is not JSON": lambda path: (path / "manifest.json").write_text("{"),
    "manifest that is a list": lambda path: (path / "manifest.json").write_text("[]"),
    "manifest without a step": lambda path: (path / "manifest.json").write_text('{"files": {}}'),
    "manifest of another step": lambda path: (path / "manifest.json").write_text(
        (path / "manifest.json").read_text().replace('"step": 6', '"step": 7')
    ),
    "manifest that is not text": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe"),
    "empty folder": lambda path: [file.unlink() for file in path.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    damage, whole: Path, checkpoints: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = checkpoints[-1]
    damage(newest)
    assert cli.run(command(tmp_path / "run")) == 0
    said = capsys.readouterr().err
    assert f"damaged checkpoint {newest}: " in said
    assert "resumed from step 5" in said
    assert differences(bits(whole), bits(tmp_path / "run")) == []


def test_a_run_whose_checkpoints_are_all_damaged_says_so(checkpoints: list[Path], tmp_path: Path, capsys) -> None:
    for path in checkpoints:
        _flip(path / "weights.safetensors")
    assert cli.run(command(tmp_path / "run")) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"howdeep: every checkpoint in {tmp_path / 'run/checkpoints'} is damaged")
    assert "Traceback" not in "".join(said)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1.5 MB: two checkpoints of the network fit, a third beside them does not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk without the right to mount one: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_an_error_that_names_the_last_good_checkpoint(small_disk: Path, whole, tmp_path, capsys) -> None:
    run = small_disk / "run"
    assert cli.run(command(run)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    good = list_checkpoints(run / "checkpoints")
    assert last.startswith("howdeep: step 3 was not saved: No space left on device")
    assert last.endswith(f"the last good checkpoint is {good[-1]}")
    assert [load(path).step for path in good] == [1, 2]
    assert [path for path in (run / "checkpoints").iterdir() if path not in good] == []
    shutil.copytree(run, tmp_path / "larger")
    assert cli.run(command(tmp_path / "larger")) == 0
    assert differences(bits(whole), bits(tmp_path / "larger")) == []


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_disk_that_fills_up_while_metrics_are_written_is_an_error(small_disk: Path, capsys) -> None:
    run = small_disk / "run"
    filler = small_disk / "filler"

    def full(*given, **options):
        if not filler.exists():
            _fill(filler)
        return step(*given, **options)

    step, loop.train_step = loop.train_step, full
    try:
        assert cli.run([*command(run), "--checkpoint-every", "99"]) == 1
    finally:
        loop.train_step = step
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{run / 'metrics.jsonl'} was not written: No space left on device; there is no checkpoint yet" in last


def test_a_checkpoint_larger_than_a_file_may_be_is_an_error(tmp_path: Path) -> None:
    asked = command(tmp_path / "run", "--epochs", "0.4")
    status, said = finish(asked, tmp_path / "said.txt", watch=Watch(file_bytes=200_000))
    assert status == 1
    last = said.splitlines()[-1]
    assert last.startswith("howdeep: step 1 was not saved: File too large")
    assert last.endswith("there is no checkpoint yet")
    assert "Traceback" not in said
    assert cli.run(asked) == 0


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be written, not even by root."""
    place = tmp_path / "read-only"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no read-only folder without the right to mount one: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_folder_that_cannot_be_written_is_named(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(command(read_only / "run")) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"howdeep: --out {read_only / 'run'} cannot be written: Read-only file system"


def test_a_folder_below_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert cli.run(command(tmp_path / "file/run")) == 2
    assert f"--out {tmp_path / 'file/run'} cannot be written: Not a directory" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("every", [["--checkpoint-every", "1"], []])
def test_a_loss_that_is_not_finite_stops_with_step_rate_and_last_checkpoint(every, tmp_path: Path, capsys) -> None:
    arguments = command(tmp_path / "run", "--lr", "1e30")
    place = arguments.index("--checkpoint-every")
    arguments[place : place + 2] = every
    assert cli.run(arguments) == 1
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert "the loss is not finite at step " in last
    assert "learning rate " in last
    found = list_checkpoints(tmp_path / "run/checkpoints")
    told = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
    assert last.endswith(told)
    assert "Traceback" not in said
    assert bool(found) == bool(every)
    for path in found:
        tensors = load(path).tensors("weights") | load(path).tensors("momentum")
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, monkeypatch, capsys) -> None:
    step = loop.train_step

    def breaking(engine, *given, **options):
        found = step(engine, *given, **options)
        next(engine.parameters()).data[0] = float("inf")
        return found

    monkeypatch.setattr(loop, "train_step", breaking)
    assert cli.run(command(tmp_path / "run", "--epochs", "4")) == 1
    assert "a weight is not finite at step 1, learning rate 0.02; there is no checkpoint yet" in capsys.readouterr().err
    assert list_checkpoints(tmp_path / "run/checkpoints") == []


def test_metrics_are_strict_json(whole: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (whole / "metrics.jsonl").read_text().splitlines()
    assert lines
    assert all(json.loads(line, parse_constant=refuse)["event"] for line in lines)
