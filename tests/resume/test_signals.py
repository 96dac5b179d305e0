"""Signals as Slurm, ``timeout``, a container and a terminal send them.

What each command does is tested in this process, where a signal arrives at a step or a block that is chosen; that a
signal to all processes of a command, workers included, ends in the same way is tested once with real ones.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.processes import Watch, finish, start, watched

from howdeep import cli
from howdeep.analysis import signals
from howdeep.costs import cost as costing
from howdeep.runs.checkpoints import list_checkpoints
from howdeep.runs.folder import open_run
from howdeep.runs.resume import Journal
from howdeep.runtime import process
from howdeep.runtime.precision import Trial
from howdeep.search import candidates
from howdeep.training import loop, precision

QUICK = "--precision fp32 --device cpu --threads 1"
TRAIN = ("--memory-format", "contiguous", "--threads", "1", "--batch-size", "10", "--workers", "2")
DIGITS = "--data digits --limit 64"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photographs of two classes, too large to be held decoded: workers decode them."""
    root, draws = tmp_path_factory.mktemp("photos") / "data", np.random.default_rng(0)
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = draws.integers(0, 255, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).resize((72, 72)).save(root / name / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network."""
    place = tmp_path_factory.mktemp("trained") / "run"
    words = ["train", "cifar_resnet8", *DIGITS.split(), "--epochs", "0.1", "--memory-format", "contiguous"]
    assert cli.run([*words, *QUICK.split(), "--out", str(place)]) == 0
    return place


@dataclass(frozen=True)
class Asked:
    """A command, and where a signal reaches it."""

    words: str
    """Without the folder or the file."""
    patched: tuple[object, str, Callable]
    """(object, attribute, what gives the replacement for it that lets the signal arrive)."""
    to: str = "--out"
    """The option that says where results go."""
    line: str = "the same command resumes"
    """How its last line ends."""
    saved: str | None = None
    """A folder that is there after the stop."""
    resumes: str | None = ""
    """What the same command says when it resumes; None: that it does is tested elsewhere."""


def _at_step(number: int) -> Callable:
    return lambda step, signum: watched(step, Watch(signal_at=(number, signum)))


def _at_call(number: int) -> Callable:
    """A signal arrives when something is called for the number-th time, before it is done."""

    def given(done: Callable, signum: int) -> Callable:
        left = number

        def call(*args, **options):
            nonlocal left
            left -= 1
            if not left:
                signal.raise_signal(signum)
            return done(*args, **options)

        return call

    return given


STEP = (loop, "train_step", _at_step(3))
SECOND_BLOCK = (Journal, "note", _at_call(4))
"""Precision and threads are noted before the first."""
FEW = "--data digits --limit 12 --batch-size 3"
COMMANDS = {
    "train": Asked(
        f"train cifar_resnet8 --epochs 3 --batch-size 32 --memory-format contiguous {DIGITS} {QUICK}",
        STEP,
        line="stopped after step 3 and saved; the same command resumes",
        saved="checkpoints/step-00000003",
        resumes="resumed from step 3",
    ),
    "fit": Asked(
        f"fit --train-budget 4s --depths 8 --widths 1 --device cpu {DIGITS}",
        (loop, "train_step", _at_step(1)),
        saved="runs/cifar_resnet8-once/checkpoints",
        resumes="take cifar_resnet8",
    ),
    "degradation": Asked(
        f"degradation --families resnet --depths 8,14 --epochs 3 --batch-size 32 --device cpu {DIGITS}",
        STEP,
        saved="cifar_resnet8-seed0/checkpoints/step-00000003",
    ),
    "cut": Asked(
        f"cut RUN --remove 2 --epochs 4 --statistics-images 10 --batch-size 32 {DIGITS} {QUICK}",
        STEP,
        saved="checkpoints/step-00000003",
        resumes="resumed from step 3",
    ),
    "cost": Asked(
        f"cost cifar_resnet8 --batch-size 4 --size 8 {QUICK}",
        (Journal, "note", _at_call(3)),
        to="--json",
        resumes=None,
    ),
    "lesion": Asked(f"lesion RUN {FEW} {QUICK}", SECOND_BLOCK, to="--json"),
    "paths": Asked(f"paths RUN {FEW} --draws 1 {QUICK}", SECOND_BLOCK, to="--json"),
    "flow": Asked(
        f"flow RUN {FEW} {QUICK}",
        (signals, "measure", _at_call(2)),
        to="--json",
        line="interrupted",
        resumes=None,
    ),
}


@pytest.fixture
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits, trainings and a table of costs measure nothing."""
    monkeypatch.setattr(costing, "peak_of_training", lambda *given, **options: 1000)
    trial = Trial("fp32", "contiguous", 0.01, 3, None, 0.0, 1)
    for module in (candidates, precision):
        monkeypatch.setattr(module, "trials_of", lambda *given, **options: [trial])


@pytest.fixture
def _handlers() -> Iterator[None]:
    """The handlers of the command line, which it leaves to the end of its process."""
    before = {signum: signal.getsignal(signum) for signum in process.SIGNALS}
    process.install()
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.usefixtures("_known_speed", "_handlers")
@pytest.mark.parametrize("signum", process.SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_finishes_a_step_saves_and_is_one_line(
    name: str, signum: signal.Signals, run: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, place = COMMANDS[name], tmp_path / "out"
    words = [str(run) if word == "RUN" else word for word in (*asked.words.split(), asked.to, str(place))]
    owner, attribute, given = asked.patched
    with monkeypatch.context() as patched:
        patched.setattr(owner, attribute, given(getattr(owner, attribute), signum))
        assert cli.run(words) == 128 + signum
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("howdeep: ")
    assert said[-1].endswith(asked.line)
    assert sum(line.startswith("howdeep: ") for line in said) == 1
    assert not any(word in line for line in said for word in ("Traceback", "Exception", "Error"))
    assert not list(tmp_path.rglob("*.partial-*"))
    if asked.saved is not None:
        assert (place / asked.saved).is_dir()
    elif name == "flow":
        assert list(tmp_path.iterdir()) == [], "its numbers are sums over all images: part of them is nothing"
    else:
        (kept,) = tmp_path.glob("out*.part0")
        blocks = re.findall(r'"step": "[^"]* \d+"', kept.read_text())
        assert len(blocks) == 2, "the block that was under way is kept"
    if signum == signal.SIGTERM and asked.resumes is not None:
        process.install()
        assert cli.run(words) == 0
        assert asked.resumes in "".join(capsys.readouterr())
        assert not list(tmp_path.glob("out*.part0"))


def _clean(said: list[str]) -> bool:
    return not any(word in line for line in said for word in ("Traceback", "Exception", "Error"))


def test_a_signal_to_the_installed_script_and_its_workers_saves_and_the_same_command_resumes(
    photos: Path, tmp_path: Path
) -> None:
    words = ["train", "cifar_resnet8", "--data", str(photos), "--epochs", "10000", "--out", str(tmp_path / "run")]
    words += ["--precision", "fp32", "--device", "cpu", *TRAIN]
    metrics, told = tmp_path / "run/metrics.jsonl", tmp_path / "said.txt"
    script = [Path(sys.executable).with_name("howdeep"), *words]
    with told.open("w") as file, subprocess.Popen(script, stdout=file, stderr=file, start_new_session=True) as running:
        while not metrics.is_file() or metrics.read_text().count("\n") < 2:
            assert running.poll() is None, told.read_text()
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGTERM)
    said = told.read_text().splitlines()
    assert running.returncode == 128 + signal.SIGTERM
    assert _clean(said), said
    newest = list_checkpoints(tmp_path / "run/checkpoints")[-1]
    step = int(newest.name.partition("-")[2])
    assert said[-1] == f"howdeep: stopped after step {step} and saved; the same command resumes"
    again = start(words, tmp_path / "again.txt")
    while f"resumed from step {step}\n" not in again.output.read_text():
        assert again.process.exitcode is None, again.output.read_text()
        time.sleep(0.01)
    while again.process.exitcode is None:  # however often it and its workers are interrupted
        os.killpg(again.process.pid or 0, signal.SIGINT)
        time.sleep(0.002)
    assert again.process.exitcode in (130, -signal.SIGINT)
    assert _clean(again.output.read_text().splitlines())


def test_a_fine_tuning_that_was_killed_resumes_from_the_epoch_before(run: Path, tmp_path: Path, capsys) -> None:
    """The end of the first epoch is always saved."""
    cut, out = COMMANDS["cut"], tmp_path / "out"
    words = [str(run) if word == "RUN" else word for word in (*cut.words.split(), "--out", str(out))]
    assert finish(words, tmp_path / "said.txt", watch=Watch(signal_at=(3, signal.SIGKILL)))[0] == -signal.SIGKILL
    step = int(list_checkpoints(out / "checkpoints")[-1].name.partition("-")[2])
    (epoch,) = [record["epoch"] for record in open_run(out).metrics() if record.get("step") == step]
    assert epoch >= 1
    capsys.readouterr()
    assert cli.run(words) == 0
    said = capsys.readouterr().err
    assert f"resumed from step {step}\n" in said
    assert next(line.split()[1] for line in said.splitlines() if line.startswith("epoch ")) == f"{epoch + 1:g}/4"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_too_little_memory_is_one_line_that_says_what_to_give_and_leaves_nothing(tmp_path: Path) -> None:
    words = ["train", "cifar_resnet20", "--data", "digits", "--size", "64", "--batch-size", "1400", "--epochs", "1"]
    words += [*QUICK.split(), "--out", str(tmp_path / "run")]
    status, said = start(words, tmp_path / "said.txt", watch=Watch(free_bytes=400_000_000)).finish()
    assert status == 1, said
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("howdeep: not enough memory")
    assert last.endswith("give --checkpointing or a smaller --batch-size")
    assert not (tmp_path / "run").exists()
