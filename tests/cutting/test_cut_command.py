"""``howdeep cut`` as a user types it: run folders of cut networks, resuming after a crash, and one line per mistake."""

import io
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from tests.conftest import SHARED

from howdeep import cli, open_run
from howdeep.cutting.frontier import Frontier
from howdeep.cutting.options import CutBudget, CutOptions
from howdeep.cutting.records import Cut
from howdeep.cutting.run import cut_target
from howdeep.runs.checkpoints import list_checkpoints, newest
from howdeep.runs.prepared import Prepared
from howdeep.runs.target import run_target
from howdeep.runtime.deployment import Deployment
from howdeep.show.cost_tables import cut_table
from howdeep.training import loop
from howdeep.util.errors import Stopped, UserError
from howdeep.util.records import from_json

NETWORK = "cifar_resnet14"
DIGITS = 640


@pytest.fixture(scope="module", autouse=True)
def _fewer_digits() -> Iterator[None]:
    values, labels = load_digits(return_X_y=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.datasets.load_digits", lambda **_: (values[:DIGITS], labels[:DIGITS]))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder trained with another seed than 0, and with stochastic depth."""
    place = tmp_path_factory.mktemp("runs") / "run"
    options = ["--data", "digits", "--epochs", "2", "--seed", "3", "--survival", "linear:0.8"]
    assert cli.run(["train", NETWORK, "--out", str(place), *options, "--precision", "fp32"]) == 0
    return place


@pytest.fixture(scope="module")
def four(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The network cut to four units by the command, with record and figure beside it, and what it printed."""
    place, printed = tmp_path_factory.mktemp("four"), io.StringIO()
    files = ["--out", place / "cut", "--json", place / "cut.json", "--figure", place / "cut.svg"]
    with redirect_stdout(printed):
        assert cut(run, "--units", 4, *files) == 0
    return place, printed.getvalue()


@pytest.fixture(scope="module")
def named(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The network without its units 2 and 5, and what progress was told."""
    out, told = tmp_path_factory.mktemp("named") / "cut", []
    save_named(run, out, told.append)
    return out, told


def save_named(run: Path, out: Path, progress: Callable[[str], None]) -> None:
    save(run, CutOptions(data="digits", remove=(2, 5), out=out, precision="fp32"), progress)


def save(run: Path, options: CutOptions, progress: Callable[[str], None]) -> None:
    target = run_target(open_run(run), print)
    cut_target(target, options, report=print, console=Console(stderr=True), progress=progress)[2].remove()


def cut(target: Path | str, *options: object) -> int:
    return cli.run(["cut", str(target), "--data", "digits", *map(str, options)])


def said(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_where_a_network_is_to_run_as_onnx_it_is_a_candidate_in_int8_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cut.json"
    options = ["--remove", 2, "--runtime", "onnxruntime", "--statistics-images", 100]
    assert cut(run, *options, "--json", place) == 0
    assert "\nin int8, uncut: " in (told := capsys.readouterr().out)
    assert "in int8 the uncut network holds the latency budget" not in told
    record = from_json(Cut, json.loads(place.read_text()))
    uncut, smaller = record.int8
    assert (uncut.units, smaller.units) == (6, 5)
    assert uncut.latency.where == smaller.in_float32.where == Deployment("onnxruntime")
    for one, exact in ((uncut, record.baseline), (smaller, record.best)):
        assert exact is not None
        assert one.effect.score_change, "logits are rounded"
        assert abs(one.effect.error_percent - exact.error_percent) < 10
    budget = replace(record, budget=CutBudget(latency_ms=uncut.latency.median_ms))
    assert any(
        "in int8 the uncut network holds the latency budget too" in str(line) for line in cut_table(budget).below
    )
    monkeypatch.setattr("howdeep.cutting.int8.quantised", Mock(side_effect=UserError("no")))
    assert cut(run, *options) == 0
    assert "\nnot tried in int8: no\n" in capsys.readouterr().out


def test_a_cut_network_is_a_run_folder_like_any_other(
    four: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place, table = four
    out = place / "cut"
    assert max(map(len, table.splitlines())) <= 80
    assert "2 of 6 units out" in table
    found = json.loads((place / "cut.json").read_text())
    assert found["test"]["cut"]["error_percent"] == pytest.approx(evaluated(out, tmp_path, capsys))
    assert sorted(open_run(out).record["removed"]) == sorted(one["index"] - 1 for one in found["order"])
    assert len(open_run(out).chain(print)) == 4
    assert (place / "cut.svg").read_text().startswith("<svg")
    assert sorted(entry.name for entry in place.iterdir()) == ["cut", "cut.json", "cut.svg"]
    assert run_target(open_run(out), print).seed == 3
    exported = ["export", str(out), "--data", "digits", "--split", "train", "--out", str(tmp_path / "cut.pt2")]
    assert cli.run(exported) == 0


def evaluated(place: Path, folder: Path, capsys: pytest.CaptureFixture) -> float:
    assert cli.run(["evaluate", str(place), "--data", "digits", "--json", str(folder / "e.json"), "--overwrite"]) == 0
    capsys.readouterr()
    return json.loads((folder / "e.json").read_text())["error_percent"]


def test_a_cut_network_is_cut_again(four: tuple[Path, str], tmp_path: Path) -> None:
    first, second = four[0] / "cut", tmp_path / "second"
    assert cut(first, "--units", 3, "--out", second) == 0
    before, after = (open_run(place).record["removed"] for place in (first, second))
    assert set(before) < set(after)
    assert (len(after), len(open_run(second).chain(print))) == (3, 3)


def test_the_same_command_resumes_and_then_is_finished(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Stopped in the second round, before the first checkpoint and twice in fine-tuning: the weights of one go."""
    options = ["--units", 4, "--epochs", 2, "--precision", "fp32", "--statistics-images", 50]
    whole, out = tmp_path / "whole", tmp_path / "out"
    # The memory layout is chosen by time, which differs from run to run; another one rounds otherwise.
    monkeypatch.setattr("howdeep.cutting.run.best_of", lambda trials: trials[0])
    assert cut(run, *options, "--out", whole) == 0
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: None)
    for stop in (_in_round, _before_checkpoint, _while_training, _in_the_second_epoch):
        with monkeypatch.context() as patch:
            stop(patch)
            assert cut(run, *options, "--out", out) == 130
        assert "the same command resumes" in said(capsys)
        assert (tmp_path / "out.part0").exists()
    assert cut(run, *options, "--out", out) == 0
    assert same_weights(whole, out)
    assert json.loads((out / "cut.json").read_text())["kept"] == "tuned"
    assert not (tmp_path / "out.part0").exists()
    assert cut(run, *options, "--out", out) == 0
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert cut(run, *options, "--units", 2, "--out", out) == 2
    assert "another --budget" in said(capsys)
    assert cut(run, *options, "--mean", 0.3, "--std", 0.2, "--out", out) == 2
    assert "another mean (" in said(capsys)


def test_units_named_as_a_budget_chose_them_give_the_same_weights(
    four: tuple[Path, str], run: Path, tmp_path: Path
) -> None:
    chosen, named = four[0] / "cut", tmp_path / "named"
    record = json.loads((chosen / "cut.json").read_text())
    numbers = [one["index"] for one in record["order"]]
    assert cut(run, "--remove", *reversed(numbers), "--out", named) == 0
    assert same_weights(chosen, named)
    again = json.loads((named / "cut.json").read_text())
    for name in ("baseline", "chosen", "test"):
        assert again[name] == record[name]
    assert again["points"][0]["recalibrated"] == record["points"][-1]["recalibrated"]


def test_refitted_units_answer_held_digits_more_like_the_uncut_network(four: tuple[Path, str]) -> None:
    """Scores of validation digits; units were refitted on training digits, without their labels."""
    found = json.loads((four[0] / "cut.json").read_text())["points"][-1]
    assert found["refitted"]["score_change"] < found["cut"]["score_change"]


def same_weights(one: Path, other: Path) -> bool:
    first, second = (open_run(place).chain(print).state_dict() for place in (one, other))
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_named_units_are_those_of_the_network_as_it_is(
    named: tuple[Path, list[str]], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second = named[0], tmp_path / "second"
    assert cut(first, "--remove", 4, 2, "--out", second) == 0
    assert "units as named" in capsys.readouterr().out
    assert open_run(second).record["removed"] == [1, 2, 4, 5]
    assert cut(run, "--remove", 5, 2, "--out", first, "--precision", "fp32") == 0
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert cut(run, "--remove", 2, "--out", first, "--precision", "fp32") == 2
    assert "another --remove ([2, 5], now [2])" in said(capsys)


def test_a_cut_that_is_told_to_stop_wherever_it_is_resumes(
    named: tuple[Path, list[str]], run: Path, tmp_path: Path
) -> None:
    (whole, told), out = named, tmp_path / "out"
    assert told == [
        "reading the data",
        "measuring the network",
        "timing 2 networks by turns",
        "measuring the network with 2 of 6 units out",
        "making the cut network",
        "writing the run folder",
        "measuring the cut network",
    ]
    for stop in told:
        with pytest.raises(Stopped, match="the same command resumes"):
            save_named(run, out, partial(_stop_at, stop))
        assert not (out / "cut.json").exists()
    save_named(run, out, lambda line: None)
    assert same_weights(whole, out)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def first(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The first four of six units, and what the command printed."""
    place, printed = tmp_path_factory.mktemp("first") / "cut", io.StringIO()
    with redirect_stdout(printed):
        assert cut(run, "--first", 4, "--out", place) == 0
    return place, printed.getvalue()


def test_first_units_are_a_run_folder_like_any_other(
    first: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, table = first
    assert max(map(len, table.splitlines())) <= 80
    assert "the first 4 of 6 units" in table
    assert "out: unit 6, unit 5" in table
    found = json.loads((out / "cut.json").read_text())
    assert found["test"]["cut"]["error_percent"] == pytest.approx(evaluated(out, tmp_path, capsys))
    ended = {"head": "pooled", "features": 32} if found["head"] == "pooled" else {"head": "kept"}
    assert open_run(out).record["first"] == {"units": 4, **ended}
    assert len(open_run(out).chain(print)) == 4
    for command in (["export", str(out), "--split", "train", "--out", tmp_path / "cut.pt2"], ["lesion", str(out)]):
        assert cli.run([*map(str, command), "--data", "digits"]) == 0


def test_first_units_are_cut_again_and_trained_on(first: tuple[Path, str], tmp_path: Path) -> None:
    removed, fewer, trained = (tmp_path / name for name in ("removed", "fewer", "trained"))
    assert cut(first[0], "--remove", 2, "--out", removed) == 0
    assert cut(removed, "--first", 1, "--out", fewer) == 0
    options = ["--data", "digits", "--epochs", "0.2", "--out", str(trained), "--precision", "fp32"]
    assert cli.run(["train", NETWORK, "--from", str(removed), *options]) == 0
    for place, units in ((removed, 3), (fewer, 1), (trained, 3)):
        record = open_run(place).record
        assert (record["removed"], record["first"]["units"]) == ([1], units)
        assert len(open_run(place).chain(print)) == units


def test_within_a_budget_first_units_stay_or_units_in_between_go(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "out", ["--first", "auto", "--macs", "60%", "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        _before_checkpoint(patch)
        assert cut(run, *asked) == 130
    assert cut(run, *asked) == 0
    table = capsys.readouterr().out
    found = from_json(Cut, json.loads((out / "cut.json").read_text()))
    assert found.choice is not None
    assert found.choice.size.macs <= 0.6 * found.original.macs
    assert len(open_run(out).chain(print)) == found.choice.size.units < 6
    assert ("first" in open_run(out).record) == (found.head is not None)
    other = "the first units alone" if found.head is None else "with units taken out in between"
    assert f"{other}, within the same budget: " in " ".join(table.split())
    assert max(map(len, table.splitlines())) <= 80
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_cut_to_first_units_that_is_told_to_stop_wherever_it_is_resumes(
    first: tuple[Path, str], run: Path, tmp_path: Path
) -> None:
    told, whole, out = [], tmp_path / "whole", tmp_path / "out"
    options = CutOptions(data="digits", first=4, out=whole)
    save(run, options, told.append)
    lines = list(dict.fromkeys(told))
    assert lines == [
        "reading the data",
        "computing activations",
        "fitting the classifiers",
        "measuring the network",
        f"timing {len(json.loads((whole / 'cut.json').read_text())['points']) + 1} networks by turns",
        "measuring the first units",
        "writing the run folder",
        "measuring the cut network",
    ]
    for stop in lines:
        with pytest.raises(Stopped, match="the same command resumes"):
            save(run, replace(options, out=out), partial(_stop_at, stop))
        assert not (out / "cut.json").exists()
    save(run, replace(options, out=out), lambda line: None)
    assert same_weights(whole, out)
    assert same_weights(first[0], out)


def test_epochs_that_do_not_help_leave_the_cut_network_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """And the data, opened for the cut, are not opened again for training."""
    cut_only, out = tmp_path / "cut", tmp_path / "tuned"
    assert cut(run, "--remove", 3, "--out", cut_only) == 0
    capsys.readouterr()
    opened, own = [], Prepared.open
    monkeypatch.setattr(Prepared, "open", lambda self, data, **how: opened.append(data) or own(self, data, **how))
    assert cut(run, "--remove", 3, "--out", out, "--epochs", 2, "--lr", 1, "--precision", "fp32") == 0
    assert opened == ["digits"]
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert "of 2: discarded (" in told
    assert same_weights(cut_only, out)
    before, found = (json.loads((place / "cut.json").read_text()) for place in (cut_only, out))
    assert (found["tuned_kept"], found["kept"], found["test"]) == (False, before["kept"], before["test"])
    error = json.loads((out / "result.json").read_text())["test"]["error_percent"]
    assert evaluated(out, tmp_path, capsys) == error == pytest.approx(found["test"]["cut"]["error_percent"])


def test_the_network_is_that_of_the_best_epoch(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    assert cut(run, "--remove", 3, 4, "--out", out, "--epochs", 4, "--precision", "fp32") == 0
    found = json.loads((out / "cut.json").read_text())
    epochs = [line for line in open_run(out).metrics() if line["event"] == "epoch"]
    best = min(epochs, key=lambda line: (line["validation_error_percent"], line["validation_loss"]))
    assert (found["kept"], found["tuned_epoch"]) == ("tuned", best["epoch"])
    assert found["tuned"]["error_percent"] == pytest.approx(best["validation_error_percent"])
    assert len(list_checkpoints(out / "best")) == 1
    saved = newest(out / "best", print)
    assert saved is not None
    assert saved.state["epoch"] == best["epoch"]


def test_fine_tuning_flips_as_it_is_asked_to(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "tuned"
    tuned = ("--remove", 3, "--out", out, "--epochs", 0.2, "--precision", "fp32")
    assert cut(run, *tuned, "--flip", "yes") == 0
    assert capsys.readouterr().err.count("augmentation: shifts by up to 1 pixel, flips\n") == 1
    record = open_run(out).record
    assert record["augmentation"]["flip"]
    assert record["augmentation"]["asked"] == {"augmentation": "auto", "flip": "yes"}
    assert record["config"]["flip"] == "yes"
    assert cut(run, *tuned) == 2
    assert "flip (yes, now auto)" in said(capsys)


def _stop_at(stop: str, line: str) -> None:
    if line == stop:
        raise KeyboardInterrupt


def _in_round(patch: pytest.MonkeyPatch) -> None:
    distances = Frontier._distances

    def interrupted(self: Frontier, *given: Any) -> list:
        *_, closed, _, _ = given
        if closed:
            raise KeyboardInterrupt
        return distances(self, *given)

    patch.setattr(Frontier, "_distances", interrupted)


def _before_checkpoint(patch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    patch.setattr("howdeep.runs.checkpoints.save", interrupted)


def _while_training(patch: pytest.MonkeyPatch, after: int = 0) -> None:
    step, left = loop.train_step, iter(range(after))

    def interrupted(*arguments, **options) -> object:
        if next(left, None) is None:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments, **options)

    patch.setattr(loop, "train_step", interrupted)


def _in_the_second_epoch(patch: pytest.MonkeyPatch) -> None:
    """An epoch is sixteen mini-batches; the best one so far is kept by then."""
    _while_training(patch, 17)


def test_a_cut_library_network_is_built_again_tuned_and_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.manual_seed(0)
    weights, out = tmp_path / "weights.safetensors", tmp_path / "out"
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), weights)
    few = ["--calibration-images", 20, "--limit", 50, "--statistics-images", 20]
    tuned = ["--epochs", 0.02, "--lr", 1e-4, "--precision", "fp32"]
    prepared = ["--weights", weights, "--size", 32, "--mean", *[0.3] * 3, "--std", *[0.4] * 3]
    assert cut("timm:test_resnet", *prepared, "--units", 3, *few, *tuned, "--out", out) == 0
    found = json.loads((out / "cut.json").read_text())
    assert found["tuned"]["error_percent"] >= 0
    assert found["test"]["cut"]["error_percent"] == pytest.approx(evaluated(out, tmp_path, capsys))
    assert open_run(out).record["network"] == {"library": "timm:test_resnet", "classes": 10, "size": 32}
    assert len(list_checkpoints(out / "checkpoints")) == 2


def test_first_units_of_a_library_network_learn_other_classes_and_are_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Four classes before, the ten digits now; stopped once before the fine-tuning began."""
    torch.manual_seed(0)
    weights, out = tmp_path / "weights.safetensors", tmp_path / "out"
    save_file(timm.create_model("test_resnet", num_classes=4).state_dict(), weights)
    prepared = ["--weights", weights, "--size", 32, "--mean", *[0.3] * 3, "--std", *[0.4] * 3]
    asked = ["timm:test_resnet", *prepared, "--first", 3, "--epochs", 0.1, "--lr", 1e-4, "--out", out]
    with monkeypatch.context() as patch:
        _before_checkpoint(patch)
        assert cut(*asked, "--precision", "fp32") == 130
    assert cut(*asked, "--precision", "fp32") == 0
    found, record = json.loads((out / "cut.json").read_text()), open_run(out).record
    assert found["tuned"]["error_percent"] >= 0
    assert found["test"]["cut"]["error_percent"] == pytest.approx(evaluated(out, tmp_path, capsys))
    assert record["network"] == {"library": "timm:test_resnet", "classes": 10, "size": 32}
    assert (record["first"]["units"], record["data"]["classes"]) == (3, list("0123456789"))
    assert not (tmp_path / "out.part0").exists()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
def test_the_first_units_of_published_weights_tell_signs_of_hands_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """At a small size: ten signs by chance are 90 % errors; a third of the network's time is saved at least."""
    weights, data = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors", str(SHARED / "data" / "sign")
    out, network = tmp_path / "out", ["timm:tf_efficientnet_lite0", "--weights", str(weights), "--size", "64"]
    assert cli.run(["cut", *network, "--data", data, "--first", "5", "--out", str(out)]) == 0
    found = json.loads((out / "cut.json").read_text())
    assert found["test"]["cut"]["error_percent"] < 30
    chosen = next(one for one in found["points"] if one["head"]["name"] == found["head"])
    assert chosen["size"]["macs"] < 2 / 3 * found["original"]["macs"]
    capsys.readouterr()
    assert cli.run(["evaluate", str(out), "--data", data, "--json", str(tmp_path / "e.json")]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["error_percent"] == found["test"]["cut"]["error_percent"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--first", "12", "--data", "nowhere"], "first 12 is not allowed: the network has 6 units; the nearest is 6"),
        (["--first", "auto", "--units", "3"], "first auto and a budget (units) contradict each other: give one"),
        (["--first", "nine"], "--first"),
        (["--first", "auto", "--macs", "9"], "no depth of this network holds macs of 9 MACs"),
        (["--first", "-1"], "first -1 is not allowed: it must be at least 0"),
        (["--first", "2", "--remove", "3"], "first 2 and remove 3 contradict each other: give one"),
        (["--first", "2", "--units", "3"], "first 2 and a budget (units) contradict each other: give one"),
        (["--first", "2", "--split", "train"], "--split train is not allowed with --first"),
        (["--first", "2", "--statistics-images", "50"], "--statistics-images 50 is not allowed with --first"),
        (["--first", "2", "--precision", "fp32"], "--precision fp32 is not allowed with --first and without --epochs"),
        (["--latency-budget", "5 parsecs"], "--latency-budget '5 parsecs' is not allowed"),
        (["--latency-budget", "0ms"], "must be above 0"),
        (["--macs", "-50%"], "must be above 0"),
        (["--macs", "150%"], "at most 100%"),
        (["--units", "0"], "units 0 is not allowed: it must be above 0"),
        (["--error-increase", "-1"], "error-increase -1 is not allowed"),
        (["--units", "4", "--epochs", "1"], "--epochs 1 needs --out RUN"),
        (["--units", "4", "--epochs", "-1", "--out", "x"], "epochs -1.0 is not allowed"),
        (["--out", "x"], "--out x needs a budget"),
        (["--remove", "2", "--units", "4", "--data", "nowhere"], "remove 2 and a budget (units) contradict each other"),
        (["--remove", "2", "5", "2", "--out", "x"], "unit 2 is named twice"),
        (["--remove", "7", "--data", "nowhere"], "the network has 6 units"),
        (["--remove"], "--remove is empty"),
        (["--units", "4", "--figure", "x.gif"], ".svg"),
        (["--units", "4", "--calibration-images", "0"], "at least 1"),
        (["--units", "4", "--split", "tset"], "did you mean test"),
        (["--latency-budget", "1ns"], "--latency-budget '1ns' is not allowed"),
        (["--latency-budget", "0.1us"], "ms is the smallest possible value"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    options: list[str],
    complaint: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cut(run, *options) == 2
    line = said(capsys)
    assert line.startswith("howdeep: ")
    assert complaint in line
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_something_else_stays_as_it_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = (run / "run.json").read_bytes()
    assert cut(run, "--units", 4, "--out", run) == 2
    assert "is a run already" in said(capsys)
    assert (run / "run.json").read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    assert cut(run, "--units", 4, "--out", tmp_path / "full") == 2
    assert "is not empty" in said(capsys)
