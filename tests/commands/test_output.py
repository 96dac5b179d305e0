"""What is measured is in its file, whatever becomes of the terminal."""

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
from PIL import Image

from howdeep import cli
from howdeep.commands.output import Output
from howdeep.runtime.process import Stream
from howdeep.util.errors import UserError
from howdeep.util.files import SaveError, write_whole

NAMES = ("[/b] :cat:", "Äpfel → ≤ ·", "日本")
TRAIN = ("--epochs", "1", "--precision", "fp32", "--memory-format", "contiguous", "--batch-size", "16")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that no ASCII terminal can name, one of them with what a table would take for markup."""
    root, draws = tmp_path_factory.mktemp("names") / "data", np.random.default_rng(0)
    for name in NAMES:
        # A slash cannot stand in the name of a folder; its look-alike can.
        folder = root / name.replace("/", "\N{DIVISION SLASH}")
        folder.mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draws.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained on them."""
    place = tmp_path_factory.mktemp("trained") / "run"
    assert cli.run(["train", "cifar_resnet8", "--data", str(data), "--out", str(place), *TRAIN]) == 0
    return place


def commands(run: Path, data: Path) -> dict[str, list[str]]:
    few = ["--data", str(data), "--split", "train"]
    weights = next((run / "checkpoints").glob("step-*")) / "weights.safetensors"
    return {
        "networks": ["networks", "cifar_resnet8"],
        "import": ["import", str(weights), "--network", "cifar_resnet8"],
        "check": ["check", str(data)],
        "evaluate": ["evaluate", str(run), *few],
        "predict": ["predict", str(run), *map(str, sorted(data.rglob("*.png"))[::12])],
        "lesion": ["lesion", str(run), *few],
        "paths": ["paths", str(run), *few, "--draws", "1"],
        "flow": ["flow", str(run), *few],
        "cut": ["cut", str(run), *few, "--units", "2"],
        "cost": ["cost", "cifar_resnet8", "--scale", "2x8", "--rate", "10TFLOP/s"],
    }


def test_every_command_prints_names_that_a_terminal_does_not_have(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in commands(run, data).items():
        printed = io.BytesIO()
        for stream in ("stdout", "stderr"):
            monkeypatch.setattr(sys, stream, Stream(printed, encoding="ascii", errors="replace"))
        place = tmp_path / f"{name}.json"
        out = ["--out", str(tmp_path / "run")] if name == "import" else []
        assert cli.run([*words, *out, "--json", str(place)]) == 0, printed.getvalue()
        sys.stdout.flush()
        sys.stderr.flush()
        assert b"Traceback" not in printed.getvalue()
        assert printed.getvalue().decode("ascii").strip()
        assert json.loads(place.read_text())
        if name == "evaluate":
            shown = NAMES[0].replace("/", "?")
            assert shown in printed.getvalue().decode("ascii")


class _Full(io.RawIOBase):
    """A disk without room."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(28, "No space left on device")


def finish(output: Output, figure: Path, forgotten: list[bool]) -> None:
    """Write, draw and print a result; note that what was kept meanwhile may be forgotten."""

    def written() -> None:
        forgotten.append(True)

    output.finish({"n": 1}, "a line", figure=figure, draw=lambda place: place.write_bytes(b"drawn"), written=written)


def test_files_come_first_and_none_keeps_another_from_being_written(tmp_path: Path, monkeypatch) -> None:
    """Printing fails here: what was asked for is there, and what was kept meanwhile is forgotten."""
    forgotten: list[bool] = []
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(_Full(), 1), write_through=True))
    output = Output(json=str(tmp_path / "result.json"))
    with pytest.raises(OSError, match="No space"):
        finish(output, tmp_path / "chart.svg", forgotten)
    assert json.loads((tmp_path / "result.json").read_text()) == {"n": 1}
    assert (tmp_path / "chart.svg").read_bytes() == b"drawn"
    assert forgotten == [True]


def test_a_result_whose_folder_is_gone_is_still_drawn_and_printed(tmp_path: Path, capsys) -> None:
    forgotten: list[bool] = []
    output = Output(json=str(tmp_path / "gone" / "result.json"))
    with pytest.raises(SaveError, match=r"result\.json was not saved: No such file or directory"):
        finish(output, tmp_path / "chart.svg", forgotten)
    assert capsys.readouterr().out == "a line\n"
    assert (tmp_path / "chart.svg").exists()
    assert forgotten == [], "blocks that were measured are kept until the result is in its file"


def test_what_could_not_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    one, link = tmp_path / "one.json", tmp_path / "link.json"
    with pytest.raises(UserError, match="is named twice"):
        Output(json=str(one)).check(tmp_path / "two.svg", tmp_path / ".." / tmp_path.name / "one.json")
    with pytest.raises(UserError, match="there is no folder"):
        Output(json=str(tmp_path / "gone" / "one.json")).check()
    one.write_text("precious")
    link.symlink_to(one)
    with pytest.raises(UserError, match="--overwrite"):
        Output(json=str(link)).check()
    Output(json=os.devnull).check()


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    write_whole(Path(os.devnull), b"gone")
    assert Path(os.devnull).is_char_device()
    reading, writing = os.pipe()
    write_whole(Path(f"/dev/fd/{writing}"), b"through")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"through"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def _closed_pipe() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w")


def _status(words: list[str]) -> int | str | None:
    """Return what the installed script ends with, and give its streams back, which pytest would close."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return ended.value.code


@pytest.fixture
def own_signals() -> Iterator[None]:
    """A program handles signals for good: afterwards they are handled as before."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.usefixtures("own_signals")
def test_a_reader_that_left_ends_a_command_as_sigpipe_would_and_without_a_word(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _closed_pipe() as gone, (tmp_path / "stderr").open("w+") as said:
        monkeypatch.setattr(sys, "stdout", gone)
        monkeypatch.setattr(sys, "stderr", said)
        assert _status(["check", str(data), "--json", str(tmp_path / "found.json")]) == 141
        sys.stderr.flush()
    assert (tmp_path / "stderr").read_text() == ""
    assert json.loads((tmp_path / "found.json").read_text())["shape"]


@pytest.mark.usefixtures("own_signals")
def test_a_reader_that_leaves_in_the_middle_ends_it_likewise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pipe holds less than is written, so that the command is still writing when its reader has gone."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    reader = threading.Thread(target=lambda: (os.read(reading, 1), os.close(reading)))
    reader.start()
    with open(writing, "w") as left, (tmp_path / "stderr").open("w+") as said:
        monkeypatch.setattr(sys, "stdout", left)
        monkeypatch.setattr(sys, "stderr", said)
        assert _status(["networks", "cifar_resnet110", "--json", "-"]) == 141
        sys.stderr.flush()
    reader.join()
    table = (tmp_path / "stderr").read_text()
    assert "units 1–18" in table
    assert not any(word in table for word in ("howdeep: ", "Traceback", "Error"))


def test_a_full_disk_behind_standard_output_is_one_line(data: Path, tmp_path: Path) -> None:
    place = tmp_path / "found.json"
    words = [sys.executable, "-m", "howdeep", "check", str(data), "--json", str(place)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    line = "howdeep: standard output was not written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, line)
    assert json.loads(place.read_text())["shape"]


@pytest.mark.usefixtures("own_signals")
def test_a_training_goes_on_when_nobody_reads_its_lines(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "cifar_resnet8", "--data", str(data), "--out", str(tmp_path / "run"), *TRAIN]
    with _closed_pipe() as printed, _closed_pipe() as said:
        monkeypatch.setattr(sys, "stdout", printed)
        monkeypatch.setattr(sys, "stderr", said)
        assert _status(words) == 141
    assert (tmp_path / "run/result.json").is_file()
