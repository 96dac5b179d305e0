"""A real ladder on the digits, trained too little for a verdict; the same call resumes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from howdeep import cli
from howdeep.runs.folder import open_run
from howdeep.runtime.precision import Trial
from howdeep.search import degradation as module
from howdeep.search import ladder_runs
from howdeep.search.degradation import Degradation, degradation
from howdeep.search.options import LadderConfig
from howdeep.show import figures
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.training.precision import TrainingSteps
from howdeep.util.errors import Stopped, UserError
from howdeep.util.records import from_json

QUIET = Console(quiet=True)
DIGITS = LadderConfig(
    data="digits", depths="8,20", seeds=1, epochs=3, batch_size=32, limit=512, device="cpu", precision="fp32", threads=1
)
SMALL = replace(DIGITS, families="resnet", depths="8,14", epochs=1, limit=64)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Degradation]:
    out = tmp_path_factory.mktemp("ladder")
    return out, degradation(DIGITS, out, console=QUIET)


def test_three_epochs_are_too_few_for_a_verdict(ladder: tuple[Path, Degradation]) -> None:
    """Residual networks get half of their training images wrong at best. Of plain ones the deep one alone fails, which
    is no verdict either if it was still learning: that depends on roundings.
    """
    plain, residual = (family.diagnosis for family in ladder[1].families)
    assert residual.headline == "undertrained, no verdict"
    assert residual.evidence.endswith("; guessing gets 90 % wrong: train longer before you ask for a depth")
    deep = next(run.errors for run in ladder[1].runs if run.network == "cifar_plain20")
    assert deep is not None
    fails = "undertrained, no verdict" if deep.still_fell else "optimisation fails beyond 8 layers"
    assert plain.headline == fails


@pytest.mark.slow
def test_plain_networks_fail_and_residual_ones_do_not_at_56_layers(tmp_path: Path) -> None:
    """The depth of the literature, 36 layers more than above, on all digits."""
    config = replace(DIGITS, depths="8,56", epochs=8, batch_size=None, limit=None, threads="auto")
    found = degradation(config, tmp_path / "ladder", console=QUIET)
    plain, residual = (family.diagnosis for family in found.families)
    assert plain.headline == "optimisation fails beyond 8 layers"
    assert residual.kind in ("saturates", "still gains")


def test_errors_are_those_of_the_final_network(ladder: tuple[Path, Degradation]) -> None:
    out, found = ladder
    for trained in found.runs:
        metrics = open_run(out / f"{trained.network}-seed0").metrics()
        last = [record for record in metrics if record["event"] == "epoch"][-1]
        assert trained.errors is not None
        assert trained.errors.validation_percent == pytest.approx(last["validation_error_percent"])
        assert (trained.errors.training_images, trained.epochs) == (512, 3)


def test_a_finished_ladder_is_read_back(
    ladder: tuple[Path, Degradation], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out, found = ladder
    monkeypatch.setattr(ladder_runs, "train", lambda *args, **more: pytest.fail("trained again"))
    assert degradation(DIGITS, out, console=QUIET) == found
    kept = json.loads((out / "degradation.json").read_text())
    assert (kept["record"], from_json(Degradation, kept)) == ("degradation", found)
    assert degradation(replace(DIGITS, families="resnet"), out, console=QUIET).families == found.families[1:]


def test_a_ladder_that_was_begun_elsewhere_is_not_resumed(ladder: tuple[Path, Degradation]) -> None:
    (journal,) = ladder[0].glob("steps.part0")
    whole = journal.read_text()
    lines = [json.loads(line) for line in whole.splitlines() if line]
    try:
        for name in ("device", "torch", "howdeep"):
            other = [{**line, "key": {**line["key"], name: "another"}} for line in lines]
            journal.write_text("\n".join(map(json.dumps, other)))
            with pytest.raises(UserError, match=rf"steps.part0 holds work of another {name} \(another, now "):
                degradation(DIGITS, ladder[0], console=QUIET)
    finally:
        journal.write_text(whole)


def test_what_is_lost_of_a_journal_is_measured_again_and_nothing_is_trained_again(
    ladder: tuple[Path, Degradation], monkeypatch: pytest.MonkeyPatch
) -> None:
    (journal,) = ladder[0].glob("steps.part0")
    whole = journal.read_text()
    monkeypatch.setattr(loop, "train_step", lambda *args, **more: pytest.fail("trained again"))
    try:
        journal.write_text(whole[: len(whole) // 2])
        assert degradation(DIGITS, ladder[0], console=QUIET) == ladder[1]
    finally:
        journal.write_text(whole)


def test_other_options_in_the_same_folder_are_refused(ladder: tuple[Path, Degradation]) -> None:
    with pytest.raises(UserError, match=r"--lr was None and is now 0\.1"):
        degradation(replace(DIGITS, lr=0.1), ladder[0], console=QUIET)


def test_the_record_survives_json(ladder: tuple[Path, Degradation]) -> None:
    record = json.loads(json.dumps(ladder[1].to_json(DIGITS)))
    assert from_json(Degradation, record) == ladder[1]
    assert record["options"]["epochs"] == 3
    assert {"command", "versions", "device"} <= set(record)


def test_the_table_fits_80_columns_and_says_what_was_found(ladder: tuple[Path, Degradation]) -> None:
    console = Console(width=80, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(ladder[1].table())
    text = shown.get()
    assert "resnet: undertrained, no verdict" in text
    assert "…" not in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("plain  ", "resnet  "))]
    assert [row[:2] for row in rows] == [["plain", "8"], ["resnet", "8"]]


def test_the_chart_has_both_errors_and_states_the_finding(ladder: tuple[Path, Degradation], tmp_path: Path) -> None:
    chart = figures.degradation(ladder[1]).to_dict()
    assert chart["title"]["text"][0].startswith("Plain: ")
    assert " ".join(chart["title"]["text"]).endswith("; residual: undertrained, no verdict")
    drawn = [layer["encoding"]["y"]["field"] for layer in chart["layer"]]
    assert {"train_error_percent", "error_percent", "low"} <= set(drawn)
    figures.save(figures.degradation(ladder[1]), tmp_path / "chart.svg")
    assert "residual" in (tmp_path / "chart.svg").read_text()


def test_the_command_prints_writes_and_draws(
    ladder: tuple[Path, Degradation], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    record, chart = tmp_path / "found.json", tmp_path / "chart.png"
    options = ["--depths", "8,20", "--seeds", "1", "--epochs", "3", "--batch-size", "32", "--limit", "512"]
    options += ["--device", "cpu", "--precision", "fp32", "--threads", "1"]
    more = ["--out", str(ladder[0]), "--json", str(record), "--figure", str(chart)]
    assert cli.run(["degradation", "--data", "digits", *options, *more]) == 0
    printed = capsys.readouterr()
    assert "resnet: undertrained, no verdict" in printed.out
    assert "4/4  resnet 20" in printed.err
    assert from_json(Degradation, json.loads(record.read_text())) == ladder[1]
    assert chart.stat().st_size > 10_000
    assert cli.run(["degradation", "--data", "digits", *options, *more]) == 2


def test_equal_time_gives_deeper_networks_fewer_epochs_and_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 3 ms a unit, of which 8 layers have 3 and 14 have 6: 20 steps of 0.18 s, and 10."""

    def trials(config: TrainConfig, steps: TrainingSteps) -> list[Trial]:
        return [Trial("fp32", "contiguous", 0.003 * len(steps.chain), 3, None, 0.0, 1)]

    monkeypatch.setattr(ladder_runs, "trials_of", trials)
    config = replace(SMALL, epochs=None, train_budget="0.361s")
    found = degradation(config, tmp_path / "ladder", console=QUIET)
    assert found.equal == "time"
    assert found.finding.startswith("in equal time, residual: ")
    assert [run.epochs for run in found.runs] == [20 / 2, 10 / 2]  # 64 images are two steps
    steps = (tmp_path / "ladder" / "steps.part0").read_bytes()
    assert degradation(config, tmp_path / "ladder", console=QUIET) == found
    assert (tmp_path / "ladder" / "steps.part0").read_bytes() == steps
    with pytest.raises(UserError, match=r"runs of 0\.18 s each, and this command gives each 0\.361 s"):
        degradation(replace(config, train_budget="0.722s"), tmp_path / "ladder", console=QUIET)


def test_training_that_leaves_the_finite_numbers_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, lr=1e30)
    found = degradation(config, tmp_path, console=QUIET)
    assert [run.errors for run in found.runs] == [None, None]
    assert "not finite" in str(found.runs[0].failure)
    (family,) = found.families
    assert family.diagnosis.evidence == "the run of 8 layers ended in numbers that are not finite"
    monkeypatch.setattr(ladder_runs, "train", lambda *args, **more: pytest.fail("trained again"))
    assert degradation(config, tmp_path, console=QUIET) == found
    Console(quiet=True).print(found.table())
    figures.save(figures.degradation(found), tmp_path / "chart.svg")


def test_an_interrupt_leaves_what_the_same_call_resumes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, whole = [], ladder_runs.trained

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "trained", interrupted)
    with pytest.raises(Stopped, match="the same command resumes") as stop:
        degradation(SMALL, tmp_path, console=QUIET)
    assert stop.value.status == 130
    assert '"step": "cifar_resnet8-seed0"' in (tmp_path / "steps.part0").read_text()
    assert len(degradation(SMALL, tmp_path, console=QUIET).runs) == 2


def test_flips_are_said_once_and_are_those_of_every_run(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as shown:
        degradation(replace(SMALL, flip="yes", epochs=0.5), tmp_path, console=console)
    assert shown.get().count("augmentation: ") == 1
    assert "augmentation: shifts by up to 1 pixel, flips\n" in shown.get()
    found = [open_run(place.parent).record["augmentation"]["flip"] for place in tmp_path.glob("*/run.json")]
    assert found == [True, True]
    with pytest.raises(UserError, match="--flip was yes and is now no"):
        degradation(replace(SMALL, flip="no", epochs=0.5), tmp_path, console=QUIET)


def test_plain_networks_train_without_stochastic_depth() -> None:
    config = replace(DIGITS, survival="linear:0.5")
    assert config.run_config("plain", "cifar_plain8", 0).survival == "constant"
    assert config.run_config("resnet", "cifar_resnet8", 0).survival == "linear:0.5"
