"""The loop as a whole: what it learns, writes, prints and refuses."""

import io
import json
import math
import runpy
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from rich.console import Console

from howdeep import cli
from howdeep.runs.folder import open_run
from howdeep.survival import Survival
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.training.loop import train
from howdeep.training.recipes import recipe_of
from howdeep.util.errors import Stopped, UserError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def config(**options) -> TrainConfig:
    """Two epochs of five mini-batches on the CPU."""
    common = {"network": "cifar_resnet8", "data": "digits", "limit": 160, "batch_size": 32, "epochs": 2}
    forced = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous"}
    return TrainConfig(**{**common, **forced, **options})


def trained(out: Path, **options) -> str:
    """Train and return what was printed."""
    printed = io.StringIO()
    train(config(**options), out, console=Console(file=printed, width=80))
    return printed.getvalue()


def test_the_first_twenty_losses_are_the_golden_ones(tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / "losses.json").read_text())
    found = runpy.run_path(str(GOLDEN / "losses.py"))["first_losses"](tmp_path / "run")
    assert len(golden) == 20
    # Other processors add in another order; 20 steps make about 1e-5 of a float32 rounding, another seed 1e-1.
    assert found == pytest.approx(golden, rel=2e-3)


def test_a_network_learns_the_digits(tmp_path: Path) -> None:
    found = train(config(limit=None, batch_size=None, epochs=10), tmp_path / "run", console=Console(quiet=True))
    assert found.test is not None
    assert found.test["n"] == 179
    assert found.test["error_percent"] < 8


def test_every_epoch_is_one_line_and_one_record(tmp_path: Path) -> None:
    printed = trained(tmp_path / "run", survival="linear:0.5")
    epochs = [line for line in printed.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert all(len(line) <= 80 for line in epochs)
    records = open_run(tmp_path / "run").metrics()
    assert [record["event"] for record in records] == ["epoch", "epoch"]
    assert [record["step"] for record in records] == [5, 10]
    for record, line in zip(records, epochs, strict=True):
        train, val = (f"{record[f'{split}_error_percent']:.1f} %" for split in ("train", "validation"))
        assert f"train err {train}  val err {val}" in line
        assert f"kept {record['open_units']:.0f}/3 units" in line
        assert record["images_per_second"] > 0
        assert 0 <= record["waiting_percent"] <= 100


@pytest.mark.parametrize("mode", ["batch", "sample"])
def test_exactly_as_many_units_as_asked_for_are_trained_in_every_step(mode: str, tmp_path: Path) -> None:
    trained(tmp_path / "run", survival="exactly:2", survival_mode=mode)
    run = open_run(tmp_path / "run")
    assert [record["open_units"] for record in run.metrics()] == [2, 2]
    assert run.chain(pytest.fail).resolve(None) == (2 / 3, 2 / 3, 2 / 3)


@pytest.mark.parametrize("mode", ["batch", "sample"])
def test_open_units_are_the_mean_of_the_gates_that_were_drawn(mode: str, tmp_path: Path) -> None:
    trained(tmp_path / "run", survival="linear:0.5", survival_mode=mode, limit=150)
    rule = Survival.parse("linear:0.5", mode)
    sizes = [32, 32, 32, 32, 22]
    for epoch, record in enumerate(open_run(tmp_path / "run").metrics()):
        drawn = [rule.draw(3, seed=0, step=5 * epoch + step, batch=size) for step, size in enumerate(sizes)]
        opened = [math.fsum(float(torch.as_tensor(gate).double().mean()) for gate in gates) for gates in drawn]
        assert record["open_units"] == pytest.approx(math.fsum(opened) / 5)


def test_the_warmup_fires_logs_once_and_at_the_same_step_after_a_resume(tmp_path: Path, monkeypatch) -> None:
    """he2015 starts at 0.01 from 110 layers on; the cap of 20 steps is 2. One open unit of 54 makes them short."""
    options = {"network": "cifar_resnet110", "recipe": "he2015", "limit": 40, "batch_size": 2, "epochs": 1}
    options["survival"] = "exactly:1"
    printed = trained(tmp_path / "whole", **options)
    assert "warm-up at 0.01 ended at step 2: its cap of 2 steps" in printed
    stops = iter([True])
    step = loop.train_step

    def stopped(*given, **how):
        if next(stops, False):
            signal.raise_signal(signal.SIGTERM)
        return step(*given, **how)

    monkeypatch.setattr(loop, "train_step", stopped)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", **options)
    assert "warm-up at 0.01 ended at step 2: its cap of 2 steps" in trained(tmp_path / "parts", **options)
    for name in ("whole", "parts"):
        run = open_run(tmp_path / name)
        assert [record["step"] for record in run.metrics() if record["event"] == "warmup_ended"] == [2]
        assert run.record["recipe"]["warmup"]["rate"] == 0.01


def test_the_warmup_of_he2015_is_for_110_layers_and_more(tmp_path: Path) -> None:
    trained(tmp_path / "run", recipe="he2015", limit=32, epochs=1)
    assert open_run(tmp_path / "run").record["recipe"]["warmup"] is None


def test_a_run_records_what_is_needed_to_repeat_it(tmp_path: Path) -> None:
    trained(tmp_path / "run", survival="uniform:0.8")
    record = open_run(tmp_path / "run").record
    assert TrainConfig(**record["config"]) == config(survival="uniform:0.8")
    assert record["recipe"]["name"] == "fast"
    assert record["survival"] == {"schedule": "uniform", "last": 0.8, "mode": "batch", "open_units": None}
    assert record["versions"]["torch"] == version("torch")
    assert record["choices"]["chosen"] == {"precision": "fp32", "memory_format": "contiguous", "threads": 1}
    assert record["device"]["type"] == "cpu"
    assert record["data"]["classes"] == list("0123456789")


def test_before_training_time_and_memory_are_told(tmp_path: Path) -> None:
    printed = trained(tmp_path / "run")
    assert "cifar_resnet8: 3 units, 75,002 parameters" in printed
    assert "fp32 contiguous" in printed
    assert "expected: " in printed
    assert "peak memory" in printed


def test_a_run_says_once_and_records_whether_images_are_flipped_and_trains_so(tmp_path: Path) -> None:
    weights = {}
    for flip in ("auto", "yes", "no"):
        printed = trained(tmp_path / flip, flip=flip, epochs=1)
        assert printed.count("augmentation: ") == 1
        assert printed.count("no flips (") == (flip != "yes")
        found = open_run(tmp_path / flip).record["augmentation"]
        assert (found["padding"], found["flip"], found["name"]) == (1, flip == "yes", "light")
        assert found["asked"] == {"augmentation": "auto", "flip": flip}
        weights[flip] = open_run(tmp_path / flip).chain(pytest.fail).state_dict()
    same = {flip: all(map(torch.equal, weights["auto"].values(), weights[flip].values())) for flip in ("yes", "no")}
    assert same == {"yes": False, "no": True}


def test_a_run_resumes_with_its_own_flips_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "cifar_resnet8", "--data", "digits", "--limit", "64", "--epochs", "1", "--out"]
    assert cli.run([*command, str(tmp_path / "run"), "--flip", "yes"]) == 0
    capsys.readouterr()
    for asked, now in ((["--flip", "no"], "no"), ([], "auto")):
        assert cli.run([*command, str(tmp_path / "run"), *asked]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"--flip was yes and is now {now}; use those, or name another --out" in said
    assert cli.run([*command, str(tmp_path / "run"), "--flip", "yes"]) == 0


def test_half_an_epoch_is_trained_logged_and_saved(tmp_path: Path) -> None:
    trained(tmp_path / "run", epochs=0.5)
    run = open_run(tmp_path / "run")
    assert [record["epoch"] for record in run.metrics()] == [0.6]
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000003"]


def test_training_opens_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError(f"a connection was opened: {given}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    trained(tmp_path / "run")


def test_tensorboard_files_hold_the_metrics(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained(tmp_path / "run", log="tensorboard")
    events = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    values = [event.value for event in events.Scalars("train_loss")]
    assert values == pytest.approx([record["train_loss"] for record in open_run(tmp_path / "run").metrics()])


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (["--recipe", "he2016"], 2, "unknown recipe 'he2016'; did you mean he2015"),
        (["--epochs", "0"], 2, "epochs 0.0 is not allowed: it must be above 0 and finite"),
        (["--epochs", "inf"], 2, "epochs inf is not allowed"),
        (["--lr", "nan"], 2, "lr nan is not allowed"),
        (["--lr", "inf"], 2, "lr inf is not allowed"),
        (["--lr", "-1"], 2, "lr"),
        (["--batch-size", "0"], 2, "batch-size 0 is not allowed"),
        (["--weight-decay", "-1e-4"], 2, "weight-decay"),
        (["--dropout", "1.5"], 2, "dropout 1.5 is not allowed: it must be at least 0 and below 1"),
        (["--survival", "linear:0"], 2, "survival 0.0 is not allowed"),
        (["--survival", "lineal:0.5"], 2, "unknown survival rule 'lineal'; did you mean linear"),
        (["--survival", "linear:half"], 2, "'half' is not a number"),
        (
            ["--survival", "exactly:half"],
            2,
            "survival exactly:half is not allowed: it must be a whole number, at least 1",
        ),
        (["--survival", "exactly:4"], 2, "survival exactly:4 is not allowed for 3 units: at most 3 can be open"),
        (["--limit", "0"], 2, "limit 0 is not allowed"),
        (["--size", "0"], 2, "size 0 is not allowed"),
        (["--checkpoint-every", "0"], 2, "checkpoint-every 0 is not allowed"),
        (["--device", "gpu0"], 2, "device 'gpu0' is not available here"),
        (["--precision", "fp64"], 2, "fp64"),
        (["--data", "no/such/folder"], 2, "no/such/folder"),
        (["--seed", "-3"], 2, "seed"),
        (["--dropped", "moving"], 2, "moving"),
    ],
)
def test_bad_options_are_one_line_and_leave_no_folder(options, status: int, told: str, tmp_path: Path, capsys) -> None:
    arguments = ["train", "cifar_resnet8", "--data", "digits", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert cli.run([*arguments, *options]) == status
    said = capsys.readouterr().err
    assert told in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_images_that_are_too_small_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "densenet121", "--data", "digits", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert cli.run(arguments) == 2
    assert "8×8 images are too small for densenet121" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_last_mini_batch_of_one_image_is_trained_on(tmp_path: Path) -> None:
    trained(tmp_path / "run", limit=33)
    assert [record["step"] for record in open_run(tmp_path / "run").metrics()] == [2, 4]


def test_one_image_with_maps_of_one_pixel_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mini-batch of 1 image"):
        trained(tmp_path / "run", network="resnet18", size=32, limit=33)


def test_every_recipe_trains_the_digits(tmp_path: Path) -> None:
    for name in ("fast", "he2015", "identity2016", "stochastic_depth2016", "densenet2016"):
        trained(tmp_path / name, recipe=name, limit=64, epochs=1, batch_size=None)
        assert open_run(tmp_path / name).record["recipe"]["batch_size"] == recipe_of(name).batch_size


@pytest.mark.slow
def test_every_branch_is_compiled_and_computes_what_it_computed(tmp_path: Path) -> None:
    """18 branches of different shapes, in training and in evaluation: more than torch compiles of one function."""
    losses = []
    for name, options in (("compiled", ["--compile"]), ("as they are", [])):
        command = [
            sys.executable,
            "-m",
            "howdeep",
            "train",
            "cifar_densenet_bc40_k4",
            "--data",
            "digits",
            "--epochs",
            "1",
        ]
        command += ["--out", str(tmp_path / name), "--precision", "fp32", "--memory-format", "contiguous", *options]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "limit" not in done.stderr
        losses.append(open_run(tmp_path / name).metrics()[-1]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
