"""`howdeep fit --from`: which published network, how much of it, trained within the budget."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import SHARED
from tests.show.cases import depth

from howdeep import cli
from howdeep.analysis import depth_costs
from howdeep.chain import run
from howdeep.networks import build, spec_of
from howdeep.runs.folder import open_run
from howdeep.runs.resume import Journal
from howdeep.runtime.timing import Timing
from howdeep.search import entrants, finalists, pacing, phases, sharing
from howdeep.search.options import FitOptions
from howdeep.search.sharing import Speed
from howdeep.search.transfer import Transfer
from howdeep.training import loop
from howdeep.transform.truncation import cut_points
from howdeep.util.records import from_json

NAMES = ("cifar_resnet8", "cifar_resnet14")
STEP_SECONDS, FEWEST = 0.5, 6


@pytest.fixture(autouse=True, scope="module")
def _known_speed() -> Iterator[None]:
    """Steps, images and passes take times that are known and the clock stands still; a training may be short.

    And every difference may be chance, so that there are two finalists, of which one is the fastest of all.
    """

    def times(chains, images, *where, **how) -> list[Timing]:
        return [Timing(1.0 + len(chain.body), (1.0, 9.0), 20) for chain in chains]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(phases.Clock, "spent", 1.0)
        patched.setattr(sharing, "FEWEST_STEPS", FEWEST)
        patched.setattr(finalists, "worse", lambda change: False)
        patched.setattr(entrants.Entrant, "speed", lambda entrant, device: Speed(0.001, 0.001, 0.1, 0.0, 9, 1))
        patched.setattr(entrants, "latencies", times)
        patched.setattr(depth_costs, "latencies", times)
        patched.setattr(pacing, "speed_of", lambda *given: pacing.TrainingSpeed("fp32", "contiguous", STEP_SECONDS))
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with weights of two networks."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        save_file(build(spec_of(name), seed=0).state_dict(), folder / f"{name}.safetensors")
    shutil.copy(folder / "cifar_resnet8.safetensors", folder / "cifar_resnet32.safetensors")  # those of another one
    return folder


def command(published: Path, out: Path, *more: str, budget: str = "46s") -> list[str]:
    return [
        *("fit", "--data", "digits", "--from", ",".join(NAMES), "--weights", str(published), "--sizes", "8"),
        *("--train-budget", budget, "--limit", "160", "--device", "cpu", "--out", str(out), *more),
    ]


def answer(out: Path) -> Transfer:
    return from_json(Transfer, json.loads((out / "answer.json").read_text()))


@dataclass(frozen=True)
class Whole:
    """A search that nothing stopped, and what its command printed."""

    out: Path
    printed: str
    said: str


@pytest.fixture(scope="module")
def whole(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out, printed, said = tmp_path_factory.mktemp("whole") / "fit", StringIO(), StringIO()
    files = ("--json", str(out.parent / "fit.json"), "--figure", str(out.parent / "fit.svg"))
    with redirect_stdout(printed), redirect_stderr(said):
        assert cli.run(command(published, out, *files)) == 0
    return Whole(out, printed.getvalue(), said.getvalue())


def test_two_finalists_are_trained_for_as_long_and_the_better_one_goes_on_from_its_weights(whole: Whole) -> None:
    found = answer(whole.out)
    assert (found.finalists[1].whole, found.finalists[1].units) == (False, 0)
    first, second, last = found.trainings
    assert {first.start, second.start} == set(found.finalists)
    assert first.steps == second.steps >= FEWEST
    assert second.validation_error_percent <= first.validation_error_percent
    assert (last.start, last.before_percent) == (second.start, second.validation_error_percent)
    assert open_run(Path(last.run)).record["config"]["from_run"] == second.run
    assert found.chosen == second.start
    assert f"training {found.chosen.text} on from its weights: {last.steps} steps" in whole.said


def test_the_answer_is_the_network_of_its_run_and_the_test_split_was_read_once(whole: Whole) -> None:
    found = answer(whole.out)
    run = open_run(Path(found.run))
    result = run.result()
    assert result is not None
    assert result["test"]["error_percent"] == found.test.error_percent
    depth = next(depth for one in found.probed for depth in one.probe.depths if one.start(depth) == found.chosen)
    assert sum(one.numel() for one in found.chain.parameters()) == depth.parameters == found.parameters
    read = {path.parent.name for path in (whole.out / "runs").glob("*/result.json")}
    # A whole finalist that was not taken is a comparison.
    lost = next(one for one in found.trainings if one.start != found.chosen)
    assert read == {run.path.name} | ({Path(lost.run).name} if lost.start.whole else set())
    assert found.validation_error_percent == found.trainings[-1].validation_error_percent


def test_every_whole_network_is_compared_on_the_test_split(whole: Whole) -> None:
    found = answer(whole.out)
    whole_ones = {f"{name} at 8, whole, a classifier alone" for name in NAMES}
    assert whole_ones | {f"{found.chosen.network} at 8, whole, nearest neighbour"} <= {one.what for one in found.others}
    assert not list(whole.out.rglob("probe.kept"))  # the features of all depths


def test_what_is_printed_is_what_was_found_and_a_report_says_it_first(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(whole.out)
    assert from_json(Transfer, json.loads((whole.out.parent / "fit.json").read_text())) == found
    assert whole.printed.startswith(f"take {found.chosen.text}")
    assert f"test error {found.test.error_percent:.2f} %" in whole.printed
    assert (whole.out.parent / "fit.svg").read_text().startswith("<svg")
    assert cli.run(["report", str(whole.out), "--out", str(tmp_path / "report.html")]) == 0
    capsys.readouterr()
    page = (tmp_path / "report.html").read_text()
    assert f"Take {found.chosen.text}: {found.test.error_percent:.1f} % test error" in page
    assert "How deep: published networks" in page


def test_the_same_command_again_has_nothing_to_do_and_another_is_refused(
    whole: Whole, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole.out, tmp_path / "fit")
    asked = command(published, tmp_path / "fit")
    assert cli.run(asked) == 0
    again = capsys.readouterr()
    assert "has its answer; nothing to do" in again.err
    assert again.out == whole.printed
    assert cli.run([*asked, "--seed", "1"]) == 2
    assert "seed was 0 and is now 1; use those, or name another --out" in capsys.readouterr().err


@pytest.mark.parametrize("moment", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_stopped_search_resumes_to_the_same_network(
    moment: int,
    whole: Whole,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched:
        steps, step = iter(range(1, 10**6)), loop.train_step

        def interrupted(*args, **options):
            if next(steps) == moment:
                signal.raise_signal(signal.SIGTERM)
            return step(*args, **options)

        patched.setattr(loop, "train_step", interrupted)
        assert cli.run(command(published, tmp_path / "parts")) == 143
        assert "the same command resumes" in capsys.readouterr().err
    assert cli.run(command(published, tmp_path / "parts")) == 0
    found, parts = answer(whole.out), answer(tmp_path / "parts")
    for name in ("chosen", "validation_error_percent", "test", "others"):
        assert getattr(found, name) == getattr(parts, name)


def test_first_units_hold_a_latency_and_without_time_a_classifier_alone_is_fitted(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the body takes a millisecond here, and the stem with its classifier another one."""
    monkeypatch.setattr(sharing, "FEWEST_STEPS", 1000)
    out = tmp_path / "fit"
    assert cli.run(command(published, out, "--latency-budget", "3ms")) == 0
    found = answer(out)
    assert (found.chosen.whole, found.chosen.units <= 2) == (False, True)
    assert (len(found.trainings), found.trainings[0].steps, found.trainings[0].kept_epoch) == (1, 0, 0.0)
    assert found.verdict.limit in ("train", "latency")
    chain = found.chain
    assert len(chain) == found.chosen.units
    every = [(one.start(depth), depth.fitted) for one in found.probed for depth in one.probe.depths]
    fitted = next(fitted for start, fitted in every if start == found.chosen)
    # The run's classifier is fitted on the same images.
    assert found.validation_error_percent == pytest.approx(fitted.error_percent, abs=100 / found.validation_images)
    assert "no time for" in capsys.readouterr().err


def test_first_units_may_keep_the_head_of_their_network(tmp_path: Path) -> None:
    """One whose head has a norm, so that averages alone are something else."""
    name, file = "cifar_preresnet14", tmp_path / "cifar_preresnet14.safetensors"
    save_file(build(spec_of(name, classes=7), seed=0).state_dict(), file)
    options = FitOptions(
        data="digits",
        train_budget="9s",
        from_networks=name,
        weights=str(file),
        sizes="8",
        out=tmp_path / "fit",
    )
    (entrant,) = entrants.entrants(options, lambda line: None)
    fitted = depth(5, 10.0, 1.0)
    for head, features in (("kept", 64), ("pooled", 64)):
        own = replace(fitted, head=head, fitted=replace(fitted.fitted, features=features))
        chain, images = open_run(entrant.first_units(own)).chain(), torch.randn(2, 3, 8, 8)
        assert len(chain) == 5
        assert chain(images).shape == (2, 10)
        x = run(chain.steps(), chain.stem(images))
        whole = entrant.target.chain
        assert torch.allclose(x, run(whole.steps()[: cut_points(whole)[5]], whole.stem(images)), atol=1e-5)
        assert any(isinstance(module, torch.nn.BatchNorm2d) for module in chain.head.modules()) == (head == "kept")


def test_one_network_that_is_taken_whole_is_trained_in_one_cycle_until_time_is_up(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where time allows a part of the images only, that is a sample, also in training."""
    steps, step = [0], loop.train_step

    def counted(*args, **options):
        steps[0] += 1
        return step(*args, **options)

    monkeypatch.setattr(loop, "train_step", counted)
    monkeypatch.setattr(phases.Clock, "spent", property(lambda clock: 1.0 if steps[0] < FEWEST else 99.0))
    monkeypatch.setattr(entrants.Entrant, "speed", lambda entrant, device: Speed(0.05, 0.0, 0.1, 0.0, 9, 1))
    out = tmp_path / "fit"
    file = str(published / "cifar_resnet8.safetensors")
    asked = command(published, out, "--from", "cifar_resnet8", "--weights", file, "--limit", "400", budget="100s")
    assert cli.run(asked) == 0
    found = answer(out)
    probe = found.probed[0].probe
    # (100/4 − 1 − 0.1) s at 0.05 s are 478 images, 179 of which are of validation.
    assert (probe.n, probe.train_images) == (179, 299)
    assert [one.steps for one in found.trainings] == [FEWEST]
    run = open_run(Path(found.run)).record
    assert run["ends"][-1] > FEWEST
    assert run["config"]["limit"] == 299
    assert any("a stratified sample of the training images" in note for note in found.notes)
    assert found.validation_images == 179


def test_where_time_is_short_the_faster_finalist_alone_is_trained(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nobody can tell them apart, and the other one would not have the epochs of the recipe."""
    monkeypatch.setattr(sharing, "SHORT_EPOCHS", 100)
    assert cli.run(command(published, tmp_path / "fit", budget="30s")) == 0
    found = answer(tmp_path / "fit")
    (training,) = found.trainings
    assert training.steps >= FEWEST
    assert found.chosen == training.start == found.finalists[1]
    assert found.finalists[1].units == 0


def test_the_budget_that_would_try_both_finalists_does(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SHORT_EPOCHS", 100)
    more = ("--limit", "120")
    assert cli.run(command(published, tmp_path / "alone", *more, budget="30s")) == 0
    found = answer(tmp_path / "alone")
    told = re.search(r"--train-budget (\d+)s would try both", found.verdict.advice)
    assert (len(found.trainings), found.verdict.limit) == (1, "unknown")
    assert told is not None
    assert cli.run(command(published, tmp_path / "both", *more, budget=f"{told[1]}s")) == 0
    assert {one.start for one in answer(tmp_path / "both").trainings} == set(found.finalists)


def test_what_no_depth_can_hold_is_left_out_before_it_is_probed(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(chains, images, *where, **how) -> list[Timing]:
        return [Timing(0.5 * images.shape[-1], (1.0, 9.0), 20) for chain in chains]

    monkeypatch.setattr(entrants, "latencies", times)
    asked = command(published, tmp_path / "fit", "--latency-budget", "1ms")
    assert cli.run(asked) == 2
    line = "--latency-budget 1ms is not allowed: cifar_resnet8 at 8, the smallest, needs 4ms here"
    assert line in capsys.readouterr().err
    assert cli.run(command(published, tmp_path / "fit", "--latency-budget", "4ms", "--sizes", "8,16", budget="6s")) == 0
    found = answer(tmp_path / "fit")
    assert {(one.size, one.budget) for one in found.dropped} == {(16, "latency")}
    assert {one.size for one in found.probed} == {8}


def test_a_budget_too_short_to_probe_is_refused_and_leaves_nothing_to_resume(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "fit"
    assert cli.run(command(published, out, budget="1s")) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    least = re.search(r"--train-budget 1s is not allowed: .* the smallest that works here is (\d+)s", said)
    assert least is not None
    assert set(Journal.open(out / "published", {}).steps) <= {"seconds"}
    monkeypatch.setattr(sharing, "FEWEST_STEPS", 1000)
    assert cli.run(command(published, out, budget=f"{least[1]}s")) == 0


def test_nothing_is_recommended_that_is_no_better_than_guessing(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("howdeep.search.probing.guessing_percent", lambda labels: 5.0)
    assert cli.run(command(published, tmp_path / "fit")) == 2
    assert "always saying the most frequent class has 5.0 %" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--depths", "8,20"), "--depths 8,20 is not allowed with --from"),
        (("--lr", "0.1"), "--lr 0.1 is not allowed with --from"),
        (
            ("--size", "8"),
            "--size 8 is not allowed with --from: published networks are what they are; --sizes is meant",
        ),
        (("--storage", "sqlite:///x.db"), "--storage sqlite:///x.db is not allowed with --from"),
        (("--pretrained",), "--weights is not allowed with --pretrained"),
        (("--sizes", "8,x"), "--sizes '8,x' is not allowed"),
        (("--sizes", "8,100000"), "--sizes 100000 is not allowed: the largest side of which 32 images fit here is "),
        (("--from", ","), "--from ',' is empty"),
        (
            ("--from", "cifar_resnet20"),
            "has no file cifar_resnet20.safetensors for cifar_resnet20; in it: cifar_resnet14",
        ),
        (
            ("--from", "cifar_resnet32"),
            "--from cifar_resnet32: the depth does not fit: 15 (5-5-5) units here, 3 in the file",
        ),
        (("--weights", "nowhere"), "--weights nowhere is not allowed: there is no such file or folder"),
        (("--weights", __file__), "is one file and --from names 2 networks: give a folder"),
    ],
)
def test_bad_options_are_one_line(
    options: tuple[str, ...], line: str, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(command(published, tmp_path / "fit", *options)) == 2
    assert line in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--sizes", "96"), "--sizes 96 is not allowed without --from"),
        (("--weights", "x"), "--weights x is not allowed without --from"),
        (("--pretrained",), "--pretrained is not allowed without --from"),
    ],
)
def test_options_of_published_networks_need_from(
    options: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["fit", "--data", "digits", "--train-budget", "9s", *options]) == 2
    assert line in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_published_network_of_a_library_learns_signs_of_hands(tmp_path: Path) -> None:
    weights, data = SHARED / "weights" / "timm", SHARED / "data" / "sign"
    if not (weights.is_dir() and data.is_dir()):
        pytest.skip("photos and published weights are absent: ../shared beside the repository")
    asked = ["fit", "--data", str(data), "--from", "timm:tf_efficientnet_lite0", "--weights", str(weights)]
    asked += [
        "--sizes",
        "64",
        "--limit",
        "200",
        "--train-budget",
        "40s",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "f"),
    ]
    assert cli.run(asked) == 0
    found = answer(tmp_path / "f")
    assert found.test.error_percent < 60 < found.guessing_percent
    evaluated = open_run(Path(found.run)).result()
    assert evaluated is not None
    assert evaluated["test"]["error_percent"] == found.test.error_percent
