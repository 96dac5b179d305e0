"""Signals as Slurm, ``timeout``, a container and a terminal send them: to all processes of a command at once.

Images are large enough that workers decode them. Every test waits for what a command has written, never for a time.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from howdeep import cli
from howdeep.checkpoints import list_checkpoints

QUICK = ("--precision", "fp32", "--device", "cpu")
TRAIN = ("--memory-format", "contiguous", "--threads", "1", "--batch-size", "10", "--workers", "2")
BOTH = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photographs of two classes, too large to be held decoded."""
    root, draws = tmp_path_factory.mktemp("photos") / "data", np.random.default_rng(0)
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = draws.integers(0, 255, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).resize((72, 72)).save(root / name / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained on them."""
    place = tmp_path_factory.mktemp("trained") / "run"
    words = ["train", "cifar_resnet8", "--data", str(photos), "--epochs", "0.1", "--out", str(place)]
    assert cli.run([*words, *QUICK, *TRAIN]) == 0
    return place


class Started:
    """A command in a process group of its own."""

    def __init__(self, words: list[str], said: Path) -> None:
        self.said = said
        with said.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "howdeep", *words], stdout=file, stderr=file, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def wait_for(self, there: Callable[[], bool]) -> "Started":
        while not there():
            assert self.process.poll() is None, self.said.read_text()
            time.sleep(0.01)
        return self

    def signalled(self, signum: int) -> tuple[int, list[str]]:
        """Send a signal to all processes; return the status and what was said."""
        os.killpg(self.process.pid, signum)
        return self.process.wait(), self.said.read_text().splitlines()


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0


def _clean(said: list[str]) -> bool:
    return not any(word in line for line in said for word in ("Traceback", "Exception", "Error"))


@BOTH
def test_a_training_with_workers_saves_and_stops(signum: int, photos: Path, tmp_path: Path) -> None:
    words = ["train", "cifar_resnet8", "--data", str(photos), "--epochs", "10000", "--out", str(tmp_path / "run")]
    running = Started([*words, *QUICK, *TRAIN], tmp_path / "said.txt")
    running.wait_for(lambda: _lines(tmp_path / "run/metrics.jsonl") > 1)
    status, said = running.signalled(signum)
    assert status == 128 + signum
    assert _clean(said), said
    newest = list_checkpoints(tmp_path / "run/checkpoints")[-1]
    step = int(newest.name.partition("-")[2])
    assert said[-1] == f"howdeep: stopped after step {step} and saved; the same command goes on"


def _fit(photos: Path, run: Path, tmp: Path) -> tuple[list[str], Callable[[], bool]]:
    words = ["fit", "--data", str(photos), "--train-budget", "10m", "--depths", "18", "--batch-size", "10"]
    metrics = lambda: any(_lines(path) for path in (tmp / "out/runs").glob("*/metrics.jsonl"))  # noqa: E731
    return [*words, *QUICK, "--out", str(tmp / "out")], metrics


def _cut(photos: Path, run: Path, tmp: Path) -> tuple[list[str], Callable[[], bool]]:
    words = ["cut", str(run), "--data", str(photos), "--remove", "2", "--epochs", "10000", "--out", str(tmp / "out")]
    return [*words, *QUICK, "--statistics-images", "10"], lambda: _lines(tmp / "out/metrics.jsonl") > 1


def _lesion(photos: Path, run: Path, tmp: Path) -> tuple[list[str], Callable[[], bool]]:
    words = ["lesion", str(run), "--data", str(photos), "--kind", "random", "--draws", "200", "--max-k", "2"]
    words += ["--split", "train", "--batch-size", "2", "--json", str(tmp / "found.json")]
    return [*words, *QUICK], lambda: _lines(tmp / "found.json.part0") > 1


def _cost(photos: Path, run: Path, tmp: Path) -> tuple[list[str], Callable[[], bool]]:
    words = ["cost", "cifar_resnet8", "cifar_resnet14", "cifar_resnet20", "--json", str(tmp / "found.json")]
    kept = lambda: any(tmp.glob("found.json.*.part0"))  # noqa: E731
    return [*words, *QUICK, "--batch-size", "16"], kept


def _degradation(photos: Path, run: Path, tmp: Path) -> tuple[list[str], Callable[[], bool]]:
    words = ["degradation", "--data", str(photos), "--families", "resnet", "--depths", "18,34", "--epochs", "10000"]
    metrics = lambda: any(_lines(path) for path in (tmp / "out").glob("*/metrics.jsonl"))  # noqa: E731
    return [*words, "--device", "cpu", "--out", str(tmp / "out")], metrics


@pytest.mark.parametrize(
    ("command", "signum"),
    [
        (_fit, signal.SIGTERM),
        (_cut, signal.SIGINT),
        (_lesion, signal.SIGTERM),
        (_cost, signal.SIGINT),
        (_degradation, signal.SIGTERM),
    ],
)
def test_a_signal_to_all_processes_is_one_line_and_the_same_command_goes_on(
    command: Callable, signum: int, photos: Path, run: Path, tmp_path: Path
) -> None:
    words, working = command(photos, run, tmp_path)
    status, said = Started(words, tmp_path / "said.txt").wait_for(working).signalled(signum)
    assert status == 128 + signum, said
    assert _clean(said), said
    assert said[-1].startswith("howdeep: stopped")
    assert said[-1].endswith("the same command goes on")
    assert not list(tmp_path.rglob("*.partial-*"))


def test_a_fine_tuning_that_was_killed_goes_on_from_the_epoch_before(photos: Path, run: Path, tmp_path: Path) -> None:
    words, _ = _cut(photos, run, tmp_path)
    tuned = lambda: any("step-00000000" not in path.name for path in list_checkpoints(tmp_path / "out/checkpoints"))  # noqa: E731
    running = Started(words, tmp_path / "said.txt").wait_for(tuned)
    assert running.signalled(signal.SIGKILL)[0] == -signal.SIGKILL
    again = Started(words, tmp_path / "again.txt")
    again.wait_for(lambda: "\nepoch " in again.said.read_text())
    status, said = again.signalled(signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    resumed = next(line for line in said if line.startswith("resumed from step "))
    first = next(line for line in said if line.startswith("epoch "))
    assert int(resumed.split()[-1]) >= 1
    assert not first.startswith("epoch 1/")


SHORT_OF_MEMORY = """
import resource, sys
import howdeep.training.loop
from howdeep import cli
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 400_000_000,) * 2)
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_too_little_memory_is_one_line_that_says_what_to_give_and_leaves_nothing(tmp_path: Path) -> None:
    words = ["train", "cifar_resnet20", "--data", "digits", "--size", "64", "--batch-size", "1400", "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, *words, *QUICK, "--threads", "1", "--out", str(tmp_path / "run")],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("howdeep: not enough memory")
    assert last.endswith("give --memory save or a smaller --batch-size")
    assert not (tmp_path / "run").exists()


def test_however_often_it_is_interrupted_a_command_ends_without_a_traceback(photos: Path, tmp_path: Path) -> None:
    words = ["train", "cifar_resnet8", "--data", str(photos), "--epochs", "10000", "--out", str(tmp_path / "run")]
    running = Started([*words, *QUICK, *TRAIN], tmp_path / "said.txt")
    running.wait_for(lambda: _lines(tmp_path / "run/metrics.jsonl") > 0)
    while running.process.poll() is None:
        os.killpg(running.process.pid, signal.SIGINT)
        time.sleep(0.002)
    assert running.process.returncode in (130, -signal.SIGINT)
    assert _clean(running.said.read_text().splitlines())
