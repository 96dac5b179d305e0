"""`howdeep fit` on real digits: an answer, within its budgets, that a stop does not change."""

import base64
import html
import io
import json
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from urllib.parse import quote

import numpy as np
import optuna
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.search.servers import PASSWORD, Server

from howdeep import cli
from howdeep.analysis.evaluation import exchanged
from howdeep.runs.folder import open_run
from howdeep.runtime.precision import Trial
from howdeep.search import candidates, sides
from howdeep.search import fit as fits
from howdeep.search import phases as phases
from howdeep.search.fit import Fit
from howdeep.search.options import FitOptions
from howdeep.search.storage import open_study, storage_of
from howdeep.training import loop
from howdeep.util.records import from_json

STEP_SECONDS = 0.04
FLIPPED = ("--flip", "yes")


@pytest.fixture(autouse=True, scope="module")
def _known_speed() -> Iterator[None]:
    """Networks train at a speed that is known and the clock stands still, so that every run has the same steps."""

    def trials(config, steps, tried=None) -> list[Trial]:
        return [Trial("fp32", "contiguous", STEP_SECONDS * len(steps.chain) / 3, 3, None, 0.0, 1)]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "trials_of", trials)
        patched.setattr(candidates, "STEPS_OF_A_TRIAL", 0)  # all are timed, however short the time is
        patched.setattr(phases, "_pace", lambda candidate, done: candidate.seconds_per_step)
        patched.setattr(fits.Clock, "spent", 1.0)
        yield


@dataclass(frozen=True)
class Whole:
    """A search that nothing stopped, and what its command printed."""

    out: Path
    printed: str
    said: str

    def again(self, folder: Path) -> list[str]:
        """Return the same command, on a copy of its folder."""
        shutil.copytree(self.out, folder / "fit")
        return command(folder / "fit", *FLIPPED)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out, printed, said = tmp_path_factory.mktemp("whole") / "fit", io.StringIO(), io.StringIO()
    files = ("--json", str(out.parent / "fit.json"), "--figure", str(out.parent / "fit.svg"))
    with redirect_stdout(printed), redirect_stderr(said):
        assert cli.run(command(out, *FLIPPED, *files)) == 0
    return Whole(out, printed.getvalue(), said.getvalue())


def command(out: Path, *more: str, budget: str = "6s") -> list[str]:
    return [
        *("fit", "--data", "digits", "--train-budget", budget, "--depths", "8,14", "--widths", "1", "--limit", "160"),
        *("--batch-size", "32", "--device", "cpu", "--out", str(out), *more),
    ]


def answer(out: Path) -> Fit:
    return from_json(Fit, json.loads((out / "answer.json").read_text()))


def test_an_answer_holds_everything_that_it_says(whole: Whole) -> None:
    found = answer(whole.out)
    assert from_json(Fit, json.loads((whole.out.parent / "fit.json").read_text())) == found
    assert json.loads((whole.out / "answer.json").read_text())["record"] == "fit"
    assert [one.costs.network for one in found.candidates] == ["cifar_resnet8", "cifar_resnet14"]
    chosen = next(one for one in found.candidates if one.costs.network == found.network)
    other = next(one for one in found.candidates if one is not chosen)
    assert (len(other.rounds), len(chosen.rounds)) == (1, 1)
    assert chosen.rounds[0].validation_error_percent <= other.rounds[0].validation_error_percent
    for each in (*chosen.rounds, *other.rounds, found.final):
        wrong = sum(byte.bit_count() for byte in base64.b64decode(each.answers.wrong))
        assert 100 * wrong / found.validation_images == pytest.approx(each.validation_error_percent)
    assert exchanged(chosen.rounds[0].answers, other.rounds[0].answers) is not None
    assert found.final.validation_error_percent == found.validation_error_percent
    result = open_run(Path(found.run)).result()
    assert found.test is not None
    assert result is not None
    assert result["test"]["error_percent"] == found.test.error_percent
    assert not (whole.out / "runs" / other.costs.network / "result.json").exists()  # its test split was never read
    assert whole.printed.startswith(f"take {found.network}: {found.depth} layers\n")
    assert f"test error {found.test.error_percent:.2f} %" in whole.printed
    assert (whole.out.parent / "fit.svg").read_text().startswith("<svg")


def test_the_same_command_again_has_nothing_to_do_and_another_is_refused(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = whole.again(tmp_path)
    assert cli.run(asked) == 0
    again = capsys.readouterr()
    assert (again.out, "has its answer; nothing to do" in again.err) == (whole.printed, True)
    assert cli.run([*asked, "--seed", "1"]) == 2
    assert "seed was 0 and is now 1; use those, or name another --out" in capsys.readouterr().err
    place = tmp_path / "fit" / "answer.json"
    record = json.loads(place.read_text())
    for name in ("device", "torch", "howdeep"):
        other = {**record["surroundings"], name: "another"}
        place.write_text(json.dumps({**record, "surroundings": other}))
        assert cli.run(asked) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith(f"howdeep: {tmp_path / 'fit'} belongs to another {name} (another, now ")


def test_flips_are_said_once_and_those_of_every_network_and_of_the_same_command(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole.said.count("augmentation: shifts by up to 1 pixel, flips\n") == 1
    record = json.loads((whole.out / "answer.json").read_text())
    assert record["augmentation"]["flip"]
    assert record["augmentation"]["asked"] == {"augmentation": "auto", "flip": "yes"}
    trained = [open_run(place.parent).record["augmentation"] for place in (whole.out / "runs").glob("*/run.json")]
    assert trained == [record["augmentation"]] * 3  # the chosen one twice
    assert cli.run([*whole.again(tmp_path), "--flip", "auto"]) == 2
    assert "flip was yes and is now auto; use those, or name another --out" in capsys.readouterr().err


@pytest.mark.parametrize("moment", [pytest.param(3, marks=pytest.mark.slow), 30])
def test_a_stopped_search_resumes_to_the_same_network(
    moment: int, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        steps = iter(range(1, 10**6))
        step = loop.train_step

        def interrupted(*args, **options):
            if next(steps) == moment:
                signal.raise_signal(signal.SIGINT)
            return step(*args, **options)

        patched.setattr(loop, "train_step", interrupted)
        assert cli.run(command(tmp_path / "parts", *FLIPPED)) == 130
        assert "the same command resumes" in capsys.readouterr().err
    assert cli.run(command(tmp_path / "parts", *FLIPPED)) == 0
    found, parts = answer(whole.out), answer(tmp_path / "parts")
    for name in ("network", "validation_error_percent", "test"):
        assert getattr(found, name) == getattr(parts, name)


def test_the_study_can_be_read_by_others(whole: Whole) -> None:
    study = optuna.load_study(study_name="howdeep", storage=f"sqlite:///{whole.out / 'study.db'}")
    found = answer(whole.out)
    assert study.best_params == {"family": "resnet", "depth": found.depth, "width": 1}
    assert study.best_value == found.validation_error_percent


def test_a_shared_study_is_answered_by_whoever_has_the_winner(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = shutil.copy(whole.out / "study.db", tmp_path)
    asked = command(tmp_path / "two", *FLIPPED, "--storage", f"sqlite:///{shared}")
    assert cli.run(asked) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"the process with --out {whole.out} on {socket.gethostname()}" in printed.err
    assert "trains it to the end" in printed.err
    assert cli.run([*asked, "--limit", "200"]) == 2
    assert "study 'howdeep' belongs to a fit with other options: limit was 160" in capsys.readouterr().err


def test_a_search_outlives_a_restart_of_its_server_and_the_password_stays_in_the_command(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written, page = tmp_path / "fit.json", tmp_path / "report.html"
    asked = command(tmp_path / "fit", "--storage", server.url, "--json", str(written), budget="3s")
    monkeypatch.setattr(sys, "argv", ["howdeep", *asked])
    steps, step = iter([False]), loop.train_step
    restarts: list[str] = []

    def restarting(*given, **options):
        if next(steps, True) and not restarts:
            restarts.append("restarted")
            server.stop()
            server.start()
        return step(*given, **options)

    monkeypatch.setattr(loop, "train_step", restarting)
    assert cli.run(asked) == 0
    assert restarts
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert out.startswith("take cifar_resnet")
    assert cli.run(["report", str(tmp_path), "--out", str(page)]) == 0
    assert cli.run([*asked, "--no-such-option"]) == 2
    texts = [out, err, *capfd.readouterr()]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"answer.json", "fit.json", "report.html", "run.json"} <= {path.name for path in files}
    assert "howdeep:***@127.0.0.1" in json.loads(written.read_text())["command"]
    for secret in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), html.escape(PASSWORD)):
        assert not any(secret in text for text in texts)
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    study = optuna.load_study(study_name="howdeep", storage=storage_of(server.url))
    assert "127.0.0.1" not in str((study.user_attrs, study.get_trials()))


def test_what_a_process_that_died_was_to_measure_for_all_is_measured_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the time that it was waited for is nobody's."""
    excused: list[float] = []
    monkeypatch.setattr(fits.Clock, "excuse", lambda clock, seconds: excused.append(seconds))
    monkeypatch.setattr(fits, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(fits, "SHORTEST_SILENCE", 0.3)
    monkeypatch.setattr(fits, "SILENT_SHARE", 0.0)
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    study, made = open_study(storage, "howdeep")
    assert made
    study.set_user_attr(fits.PLANNER, "gone")
    assert cli.run(command(tmp_path / "here", "--storage", storage, budget="3s")) == 0
    said = capsys.readouterr().err
    assert "nothing is heard from gone: costs are measured here instead\nwhat networks cost here (2 networks" in said
    assert answer(tmp_path / "here").network == "cifar_resnet8"
    assert [seconds > 0.3 for seconds in excused] == [True]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--latency-budget", "5 parsecs"), "--latency-budget '5 parsecs' is not allowed: it must be a number"),
        (("--latency-budget", "0ms"), "--latency-budget 0ms is not allowed: it must be above 0"),
        (("--latency-budget", "1us"), "the smallest network, needs 0."),
        (("--families", "resnet,alexnet"), "unknown family 'alexnet'"),
        (("--families", ","), "--families ',' is empty"),
        (("--depths", "8,nine"), "--depths '8,nine' is not allowed"),
        (("--depths", "9"), "cifar_resnet has no depth 9; the nearest are cifar_resnet8"),
        (("--widths", "0,2"), "--widths '0,2' is not allowed: it must be whole numbers above 0"),
        (("--depths", "50", "--widths", "2"), "cifar_resnet50_w2 has the units of resnet50; the nearest are"),
        (("--size", "80", "--depths", "18", "--widths", "2"), "networks for large images have width 1 only"),
        (("--lr", "-1"), "lr -1.0 is not allowed"),
        (("--batch-size", "0"), "batch-size 0 is not allowed"),
    ],
)
def test_bad_options_are_one_line(
    options: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(command(tmp_path / "fit", *options)) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert line in complaint


def test_photos_are_read_at_the_largest_side_for_which_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step of the smallest network at 64 pixels takes as long as it is said to."""
    monkeypatch.setattr(sides, "trials_of", candidates.trials_of)
    random = np.random.default_rng(0)
    for label, number in product("ab", range(40)):
        place = tmp_path / "d" / label / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (100, 100, 3), np.uint8)).save(place)
    asked = ["fit", "--data", str(tmp_path / "d"), "--train-budget", "3.5s", "--widths", "1", "--device", "cpu"]
    assert cli.run([*asked, "--out", str(tmp_path / "fit")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert "networks that begin with published weights usually get half as many wrong" in said[0]
    assert said[1].startswith("images are read at 32×32: at 100×100 time is too short to compare depths")
    (run, *_) = (tmp_path / "fit" / "runs").glob("cifar_resnet*")
    assert open_run(run).record["data"]["height"] == 32


def test_nothing_is_recommended_that_is_no_better_than_guessing(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = whole.again(tmp_path)
    (tmp_path / "fit" / "answer.json").unlink()
    monkeypatch.setattr(fits, "guessing_percent", lambda labels: 5.0)
    assert cli.run(asked) == 2
    assert "always saying the most frequent class 5.0 %: a larger" in capsys.readouterr().err.splitlines()[-1]


def test_few_images_get_small_mini_batches_at_the_same_rate() -> None:
    options = FitOptions(data="digits", out=Path("fit"), train_budget="60s")
    chosen = {images: options.training(images) for images in (50_000, 3_840, 3_839, 1_437, 40)}
    assert [one.batch_size for one in chosen.values()] == [128, 128, 64, 32, 16]
    assert [one.lr for one in chosen.values()] == [0.1] * 5
    assert replace(options, batch_size=256).training(50_000).lr == 0.2


def test_a_finished_fit_does_not_answer_for_other_images(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    values, labels = load_digits(return_X_y=True)
    for number, (pixels, label) in enumerate(zip(values[:160].reshape(-1, 8, 8), labels[:160], strict=True)):
        place = tmp_path / "d" / str(label) / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((15 * pixels).astype("uint8")).save(place)
    asked = [
        "fit",
        "--data",
        str(tmp_path / "d"),
        "--train-budget",
        "3s",
        "--depths",
        "8",
        "--widths",
        "1",
        "--device",
        "cpu",
    ]
    asked += ["--out", str(tmp_path / "fit")]
    assert cli.run(asked) == 0
    moved = [word.replace(str(tmp_path / "d"), str(tmp_path / "moved")) for word in asked]
    shutil.copytree(tmp_path / "d", tmp_path / "moved")
    capsys.readouterr()
    assert cli.run(moved) == 0
    assert "has its answer; nothing to do" in capsys.readouterr().err
    shutil.copytree(tmp_path / "moved/9", tmp_path / "moved/x")
    for finished in (True, False):
        if not finished:
            (tmp_path / "fit/answer.json").unlink()
        assert cli.run(moved) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert "was begun with other data: class 'x' added" in said[0]
