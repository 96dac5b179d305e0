"""What a run says."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from howdeep.runs.folder import Run
from howdeep.training.log import Log, epoch_line, print_line

RECORD = {
    "event": "epoch",
    "step": 352,
    "epoch": 1.0,
    "train_error_percent": 51.23,
    "train_loss": 1.2345,
    "validation_error_percent": 45.6,
    "lr": 0.1,
    "images_per_second": 1234.5,
    "waiting_percent": 12.5,
    "open_units": 40.25,
    "units": 54,
}


def test_one_line_per_epoch_says_loss_errors_rate_speed_waiting_and_open_units() -> None:
    line = epoch_line(RECORD, 500)
    assert line == "epoch 1/500  train err 51.2 %  val err 45.6 %  data wait 12 %  kept 40/54 units"


def test_an_ordinary_line_fits_80_columns() -> None:
    line = epoch_line({**RECORD, "epoch": 12.0, "waiting_percent": 0.4, "open_units": 54.0}, 500)
    assert line == "epoch 12/500  train err 51.2 %  val err 45.6 %  loss 1.23  lr 0.1  1,234 img/s"
    line = epoch_line({**RECORD, "epoch": 12.0, "open_units": 54.0, "validation_error_percent": None}, 50)
    assert line == "epoch 12/50  train err 51.2 %  loss 1.23  lr 0.1  1,234 img/s  data wait 12 %"


def test_without_a_validation_split_its_error_is_left_out() -> None:
    assert " val " not in epoch_line({**RECORD, "validation_error_percent": None}, 500)


def test_an_event_is_one_record_and_one_line(tmp_path: Path) -> None:
    said = io.StringIO()
    with Log(Run(tmp_path, {}), Console(file=said), total=10, logger="none", on=True) as log:
        log.event({"event": "epoch", "step": 5}, "a line with [brackets] and 50 %")
    assert said.getvalue() == "a line with [brackets] and 50 %\n"
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"event": "epoch", "step": 5}


def test_other_processes_say_and_write_nothing(tmp_path: Path) -> None:
    said = io.StringIO()
    with Log(Run(tmp_path, {}), Console(file=said), total=10, logger="tensorboard", on=False) as log:
        log.rewind(0)
        log.event({"step": 5}, "a line")
    assert said.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_forgets_the_metrics_that_it_measures_again(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    for step in (5, 10, 15):
        run.log({"step": step})
    with Log(run, Console(quiet=True), total=20, logger="none", on=True) as log:
        log.rewind(10)
    assert run.metrics() == [{"step": 5}, {"step": 10}]


def test_a_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=80)
    with Log(Run(tmp_path, {}), console, total=10, logger="none", on=True) as log:
        log.advance(4)
        log.bar.refresh()
    assert "4/10" in said.getvalue()


def test_a_long_line_is_not_wrapped() -> None:
    said = io.StringIO()
    print_line(Console(file=said, width=20), "x" * 200)
    assert said.getvalue() == "x" * 200 + "\n"


class _Client:
    """What a logger of somebody else is told."""

    def __init__(self, **given: object) -> None:
        self.given, self.told = given, []

    def init(self, **given: object) -> "_Client":
        self.given = given
        return self

    def log(self, numbers: dict, step: int) -> None:
        self.told.append((numbers, step))

    def finish(self) -> None:
        self.told.append("finished")


def test_numbers_go_to_a_logger_that_needs_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = _Client()
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = Run(tmp_path, {"config": {"seed": 3}})
    with Log(run, Console(quiet=True), total=10, logger="wandb", on=True) as log:
        log.event({"event": "epoch", "step": 5, "lr": 0.1, "validation_loss": None}, "a line")
    assert (wandb.given["mode"], wandb.given["dir"], wandb.given["config"]) == ("offline", str(tmp_path), {"seed": 3})
    assert wandb.told == [({"step": 5, "lr": 0.1}, 5), "finished"]


def test_a_logger_that_fails_does_not_end_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", _Client())  # type: ignore[arg-type]
    said = io.StringIO()
    with Log(Run(tmp_path, {}), Console(file=said), total=10, logger="wandb", on=True) as log:
        monkeypatch.setattr(_Client, "log", lambda self, numbers, step: 1 / 0)
        for step in (5, 6):
            log.event({"event": "epoch", "step": step}, "a line")
    told = "the logger fails, and is told nothing more: division by zero"
    assert said.getvalue().splitlines() == ["a line", told, "a line"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
