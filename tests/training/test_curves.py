"""The curves of a run folder, finished or not, and the sentence that they say."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from howdeep.analysis.evaluation import ClassResult, Evaluation
from howdeep.runs.folder import Run
from howdeep.training.log import Curves, Epoch, curves_of

TEST = Evaluation(
    n=4,
    error_percent=25.0,
    standard_error=21.7,
    loss=0.5,
    calibration_error_percent=3.0,
    classes=(ClassResult("a", 2, 0.0), ClassResult("b", 2, 50.0)),
    confusion=((2, 0), (1, 1)),
    images_per_second=9.0,
    bins=(),
)


def line(epoch: int, training: float, validation: float | None, opened: float = 3.0) -> dict:
    return {
        "event": "epoch",
        "step": 10 * epoch,
        "epoch": float(epoch),
        "train_loss": 0.02 * training,
        "train_error_percent": training,
        "validation_loss": None,
        "validation_error_percent": validation,
        "lr": 0.1,
        "open_units": opened,
        "units": 3,
        "seconds": 1.0,
    }


def run_of(folder: Path, lines: list[dict], *, result: dict | None = None, network: dict | None = None) -> Run:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return Run(
        folder, {"network": network or {"name": "cifar_resnet8"}, "data": {"name": "digits", "source": "digits"}}
    )


def curves(*errors: tuple[float, float | None]) -> Curves:
    epochs = [
        Epoch(
            epoch=float(number),
            train_loss=0.02 * training,
            train_error_percent=training,
            validation_loss=None,
            validation_error_percent=validation,
            lr=0.1,
            open_units=3.0,
        )
        for number, (training, validation) in enumerate(errors, 1)
    ]
    return Curves(network="cifar_resnet8", data="digits", units=3, epochs=tuple(epochs), test=None)


def test_the_curves_of_a_run_are_its_epochs_and_nothing_else(tmp_path: Path) -> None:
    events = [
        {"event": "flow", "step": 0, "epoch": 0.0},
        line(1, 60.0, 50.0),
        {"event": "warmup_ended", "step": 12},
        line(2, 30.0, 40.0),
    ]
    found = curves_of(run_of(tmp_path, events))
    assert replace(found, test=None) == curves((60.0, 50.0), (30.0, 40.0))
    assert found.test is None


def test_the_test_is_that_of_a_finished_run(tmp_path: Path) -> None:
    result = {"test": json.loads(json.dumps(asdict(TEST))), "seconds": 2.0}
    assert curves_of(run_of(tmp_path, [line(1, 60.0, 50.0)], result=result)).test == TEST
    assert curves_of(run_of(tmp_path, [line(1, 60.0, 50.0)], result={"test": None, "seconds": 2.0})).test is None


def test_a_line_that_a_crash_cut_short_does_not_count(tmp_path: Path) -> None:
    run = run_of(tmp_path, [line(1, 60.0, 50.0)])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "epo')
    assert len(curves_of(run).epochs) == 1


def test_imported_weights_have_no_curves(tmp_path: Path) -> None:
    run = Run(tmp_path, {"network": {"library": "timm:resnet18", "classes": 2, "size": 32}, "data": {"classes": None}})
    found = curves_of(run)
    assert found == Curves(network="timm:resnet18", data="", units=0, epochs=(), test=None)
    assert found.finding == "no epoch of timm:resnet18 is measured"


@pytest.mark.parametrize(("opened", "varies"), [(3.0, False), (2.5, True)])
def test_open_units_vary_where_branches_were_closed(opened: float, varies: bool, tmp_path: Path) -> None:
    assert curves_of(run_of(tmp_path, [line(1, 60.0, 50.0, opened)])).open_units_vary is varies


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            curves((60.0, 50.0), (30.0, 40.0)),
            "30.0 % training and 40.0 % validation error (gap +10.0 points), its best",
        ),
        (curves((60.0, 35.0), (40.0, 38.0)), "(gap −2.0 points); its best was 35.0 % after epoch 1"),
        (curves((60.0, 40.0), (30.0, 40.0)), "(gap +10.0 points), its best"),
        (curves((60.0, None)), "after 1 epoch cifar_resnet8 is at 60.0 % training error"),
    ],
)
def test_the_sentence_says_where_a_run_ends_and_when_it_was_best(found: Curves, says: str) -> None:
    assert found.finding.startswith(f"after {len(found.epochs)} epoch")
    assert found.finding.endswith(says)
