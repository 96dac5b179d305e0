"""Only one process at a time writes into a folder; a lock dies with its process and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from tests.processes import FORKS, fork, start

from howdeep import cli
from howdeep.util.errors import UserError
from howdeep.util.files import NAME, file_locked, folder_locked


@contextmanager
def holder(locked: Callable, place: Path) -> Iterator[int]:
    """Let another process hold a lock until it is killed; yield its number."""
    ready, held = FORKS.Pipe(duplex=False)
    process = fork(_hold, locked, place, held)
    assert ready.recv() == "held"
    assert process.pid is not None
    yield process.pid
    process.kill()
    process.join()


def _hold(locked: Callable, place: Path, held: Connection) -> None:
    with locked(place):
        held.send("held")
        signal.pause()


def test_a_second_process_is_told_who_writes_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    with holder(folder_locked, tmp_path / "run") as pid:
        told = f"run is being written by another process (pid {pid} on host {socket.gethostname()})"
        for same in (tmp_path / "run", tmp_path / "x" / ".." / "run"):
            (tmp_path / "x").mkdir(exist_ok=True)
            with pytest.raises(UserError, match=re.escape(told)), folder_locked(same):
                pass
    assert (tmp_path / "run" / NAME).exists()
    with folder_locked(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / NAME).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / NAME).exists()


def test_what_was_locked_is_left_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyError), folder_locked(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with folder_locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result"]
    with file_locked(tmp_path / "found.json"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_work_may_lock_again_what_it_holds_and_another_thread_may_not(tmp_path: Path) -> None:
    refused: list[Exception] = []

    def other() -> None:
        try:
            with folder_locked(tmp_path):
                pass
        except UserError as error:
            refused.append(error)

    with folder_locked(tmp_path):
        with folder_locked(tmp_path):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "is being written by another process" in str(*refused)


def test_where_nothing_can_be_made_nothing_is_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with folder_locked(tmp_path / "file"), folder_locked(Path("/proc/nowhere/run")), file_locked(Path("/proc/x/y")):
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


TRAIN = ["train", "cifar_resnet8", "--data", "digits", "--epochs", "1", "--limit", "32"]
DIGITS = ["--data", "digits", "--device", "cpu"]
WRITERS = {
    "train": TRAIN,
    "cut": ["cut", "cifar_resnet8", "--weights", "w.safetensors", *DIGITS, "--remove", "1"],
    "fit": ["fit", *DIGITS, "--train-budget", "4s", "--depths", "8", "--widths", "1"],
    "degradation": ["degradation", *DIGITS, "--depths", "8,14", "--epochs", "1"],
    "demo": ["demo"],
    "import": ["import", "w.safetensors", "--network", "cifar_resnet8"],
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("held") / "run"
    with holder(folder_locked, out) as pid:
        yield out, pid


@pytest.mark.parametrize("name", WRITERS)
def test_commands_do_not_write_where_another_process_does(
    name: str, held: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    import safetensors.torch

    import howdeep

    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file(howdeep.build("cifar_resnet8").state_dict(), "w.safetensors")
    out, pid = held
    assert cli.run([*WRITERS[name], "--out", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        f"howdeep: {out} is being written by another process (pid {pid} on host {socket.gethostname()})"
    )
    assert [path.name for path in out.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "asked",
    [
        ["lesion", "cifar_resnet8", "--weights", "w.safetensors", *DIGITS],
        ["paths", "cifar_resnet8", "--weights", "w.safetensors", *DIGITS],
        ["cut", "cifar_resnet8", "--weights", "w.safetensors", *DIGITS, "--remove", "1"],
        ["cost", "cifar_resnet8"],
    ],
    ids=lambda asked: asked[0],
)
def test_measurements_into_one_file_wait_for_nobody(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import safetensors.torch

    import howdeep

    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file(howdeep.build("cifar_resnet8").state_dict(), "w.safetensors")
    with holder(file_locked, tmp_path / "found.json") as pid:
        assert cli.run([*asked, "--json", "found.json"]) == 2
    assert f"found.json is being written by another process (pid {pid} on" in capsys.readouterr().err


def test_two_commands_that_resume_one_run_at_once_are_one_that_trains_and_one_that_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The bug report: a run that was stopped, then resumed twice by mistake."""
    asked = [*TRAIN, "--epochs", "2000", "--out", str(tmp_path / "run")]
    asked += ["--precision", "fp32", "--memory-format", "contiguous", "--threads", "1"]
    first = start(asked, tmp_path / "said.txt")
    while "epoch 1" not in first.output.read_text():
        assert first.process.exitcode is None, first.output.read_text()
        time.sleep(0.01)
    assert cli.run(asked) == 2
    told = f"run is being written by another process (pid {first.process.pid} on host {socket.gethostname()})"
    assert capsys.readouterr().err.splitlines()[-1].endswith(told)
    os.kill(first.process.pid or 0, signal.SIGINT)
    assert first.finish()[0] == 130
    assert not (tmp_path / "run" / NAME).exists()
