"""What a run says."""

import io
import json
from pathlib import Path

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
    "waiting_percent": 2.5,
    "open_units": 40.25,
    "units": 54,
}


def test_one_line_per_epoch_says_loss_errors_rate_speed_waiting_and_open_units() -> None:
    line = epoch_line(RECORD, 500)
    assert line == "epoch 1/500  train err 51.2 %  val err 45.6 %  data wait 2.5 %  kept 40/54 units"


def test_an_ordinary_line_fits_80_columns() -> None:
    line = epoch_line({**RECORD, "epoch": 12.0, "waiting_percent": 0.4, "open_units": 54.0}, 500)
    assert line == "epoch 12/500  train err 51.2 %  val err 45.6 %  loss 1.23  lr 0.1  1,234 img/s"
    line = epoch_line({**RECORD, "epoch": 12.0, "open_units": 54.0, "validation_error_percent": None}, 50)
    assert line == "epoch 12/50  train err 51.2 %  loss 1.23  lr 0.1  1,234 img/s  data wait 2.5 %"


def test_without_a_validation_split_its_error_is_left_out() -> None:
    assert " val " not in epoch_line({**RECORD, "validation_error_percent": None}, 500)


def test_an_event_is_one_record_and_one_line(tmp_path: Path) -> None:
    said = io.StringIO()
    with Log(Run(tmp_path, {}), Console(file=said), total=10, tensorboard=False, on=True) as log:
        log.event({"event": "epoch", "step": 5}, "a line with [brackets] and 50 %")
    assert said.getvalue() == "a line with [brackets] and 50 %\n"
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"event": "epoch", "step": 5}


def test_other_processes_say_and_write_nothing(tmp_path: Path) -> None:
    said = io.StringIO()
    with Log(Run(tmp_path, {}), Console(file=said), total=10, tensorboard=True, on=False) as log:
        log.rewind(0)
        log.event({"step": 5}, "a line")
    assert said.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_forgets_the_metrics_that_it_measures_again(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    for step in (5, 10, 15):
        run.log({"step": step})
    with Log(run, Console(quiet=True), total=20, tensorboard=False, on=True) as log:
        log.rewind(10)
    assert run.metrics() == [{"step": 5}, {"step": 10}]


def test_a_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=80)
    with Log(Run(tmp_path, {}), console, total=10, tensorboard=False, on=True) as log:
        log.advance(4)
        log.bar.refresh()
    assert "4/10" in said.getvalue()


def test_a_long_line_is_not_wrapped() -> None:
    said = io.StringIO()
    print_line(Console(file=said, width=20), "x" * 200)
    assert said.getvalue() == "x" * 200 + "\n"
