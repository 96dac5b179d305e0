"""More than one process: the same run, shared out."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from tests.processes import Watch, bits, differences, fork, ranks, start_ranks, watched
from tests.runs import workers

from howdeep import cli
from howdeep.analysis.evaluation import add_up, evaluate
from howdeep.analysis.signals import recorded_flow
from howdeep.data import Batch, evaluation_batches, open_data
from howdeep.networks import build, spec_of
from howdeep.runs import checkpoints
from howdeep.runs.folder import open_run
from howdeep.runtime.precision import Arithmetic
from howdeep.training import loop

MODES = pytest.mark.parametrize("mode", ["batch", pytest.param("sample", marks=pytest.mark.slow)])


def command(out: Path, *more: str) -> list[str]:
    """Three epochs of 65 images: of two mini-batches each, the last of one image, less than there are processes."""
    return [
        *("train", "cifar_resnet8", "--data", "digits", "--limit", "65", "--batch-size", "64", "--epochs", "3"),
        *("--survival", "uniform:0.5", "--precision", "fp32", "--memory-format", "contiguous", "--device", "cpu"),
        *("--out", str(out), *more),
    ]


def together(arguments: list[str], folder: Path, *watches: Watch) -> list[tuple[int, str]]:
    """Run a command in two processes; return the exit status and output of both."""
    return [running.finish() for running in start_ranks(arguments, folder, watches or (Watch(), Watch()))]


def seen_together(folder: Path, *more: str) -> Path:
    """Run a command in two processes that write down what they see."""
    watches = [Watch(seen=folder / f"seen{rank}") for rank in range(2)]
    found = together(command(folder / "run", *more), folder, *watches)
    assert [status for status, _ in found] == [0, 0], found
    return folder / "run"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nothing stops."""
    return seen_together(tmp_path_factory.mktemp("two"))


def test_two_processes_begin_with_one_classifier_and_leave_frozen_units_alone(tmp_path: Path) -> None:
    given = build(spec_of("cifar_resnet8", classes=7)).state_dict()
    torch.save(given, tmp_path / "a.pth")
    found = together(command(tmp_path / "run", "--weights", str(tmp_path / "a.pth"), "--freeze", "1"), tmp_path)
    assert [status for status, _ in found] == [0, 0], found
    run = open_run(tmp_path / "run")
    start = next(line for line in run.metrics() if line["event"] == "start")
    regression = run.record["start"]["regression"]
    assert regression["images"] == 65
    assert start["validation_error_percent"] == pytest.approx(regression["validation_error_percent"], abs=0.6)
    saved = checkpoints.newest(run.checkpoints, print)
    assert saved is not None
    after = saved.tensors("weights")
    frozen = [name for name in given if name.startswith(("stem.", "body.0."))]
    assert all(torch.equal(after[name], given[name]) for name in frozen)
    assert not torch.equal(after["body.1.branch.conv1.weight"], given["body.1.branch.conv1.weight"])


def test_processes_save_at_the_same_steps_whatever_saving_takes_each(tmp_path: Path) -> None:
    found = together(command(tmp_path / "run"), tmp_path, Watch(saving_seconds=-1e3), Watch(saving_seconds=1e3))
    assert [status for status, _ in found] == [0, 0], found


def seen(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@MODES
def test_ranks_draw_the_same_gates_and_see_every_image_once(
    mode: str, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = ["--survival-mode", mode]
    folder = two.parent if mode == "batch" else seen_together(tmp_path, *ways).parent
    monkeypatch.setattr(loop, "train_step", watched(loop.train_step, Watch(seen=tmp_path / "alone")))
    assert cli.run(command(tmp_path / "one", *ways)) == 0
    first, second, alone = map(seen, (folder / "seen0", folder / "seen1", tmp_path / "alone"))
    assert [len(step["labels"]) for step in second] == [32, 1] * 3
    assert [len(step["labels"]) for step in first] == [32, 0] * 3
    for one, other, whole in zip(first, second, alone, strict=True):
        assert one["images"] + other["images"] == whole["images"]
        assert one["labels"] + other["labels"] == whole["labels"]
        if mode == "batch":
            assert one["gates"] == other["gates"] == whole["gates"]
        else:
            assert [a + b for a, b in zip(one["gates"], other["gates"], strict=True)] == whole["gates"]
    assert len({str(step["gates"]) for step in alone}) > 1
    images = Counter(label for step in alone[:2] for label in step["labels"])
    assert images == Counter(label for step in alone[4:] for label in step["labels"])


def test_one_of_several_processes_records_and_changes_nothing(two: Path, tmp_path: Path) -> None:
    found = together(command(tmp_path / "flow", "--record", "flow"), tmp_path)
    assert [status for status, _ in found] == [0, 0], found
    recorded = recorded_flow(open_run(tmp_path / "flow"))
    assert [(step, one.n) for step, one in recorded] == [(0, 64), (2, 64), (4, 64), (6, 64)]
    assert bits(tmp_path / "flow")["files"] == bits(two)["files"]


@pytest.mark.parametrize(
    ("mode", "dropped"), [pytest.param("batch", "frozen", marks=pytest.mark.slow), ("sample", "momentum")]
)
def test_without_norms_two_processes_agree_with_one_to_rounding(mode: str, dropped: str, tmp_path: Path) -> None:
    ways = ["--survival-mode", mode, "--dropped", dropped, "--no-norm", "--lr", "0.02", "--checkpointing"]
    assert [status for status, _ in together(command(tmp_path / "two", *ways), tmp_path)] == [0, 0]
    assert cli.run(command(tmp_path / "one", *ways)) == 0
    one, two = (_weights(tmp_path / name) for name in ("one", "two"))
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    # Six steps; sums of 64 images are added in another order, which moves float32 weights by a few 1e-7.
    assert apart < 2e-6
    for mine, theirs in zip(_metrics(tmp_path / "one"), _metrics(tmp_path / "two"), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
        assert mine["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=1e-5)
        for name in ("step", "train_error_percent", "validation_error_percent", "open_units", "lr"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-12)


@pytest.mark.slow
def test_two_processes_fine_tune_as_one_does_to_rounding(tmp_path: Path) -> None:
    """The classifier alone in the first of six steps, norms frozen, clipped means of both gradients, an average."""
    given = tmp_path / "given.safetensors"
    safetensors.torch.save_file(build(spec_of("cifar_resnet8", channels=1), seed=1).state_dict(), given)
    ways = ["--weights", str(given), "--classifier", "new", "--optimizer", "sgd", "--lr", "0.02", "--ema", "0.5"]
    assert [status for status, _ in together(command(tmp_path / "two", *ways), tmp_path)] == [0, 0]
    assert cli.run(command(tmp_path / "one", *ways)) == 0
    for group in ("weights", "ema"):
        one, two = (_weights(tmp_path / name, group) for name in ("one", "two"))
        assert max(float((one[name] - two[name]).abs().max()) for name in one if one[name].is_floating_point()) < 2e-6
    assert any(not torch.equal(one[name], _weights(tmp_path / "one")[name]) for name in one)
    for mine, theirs in zip(_metrics(tmp_path / "one"), _metrics(tmp_path / "two"), strict=True):
        assert mine["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=1e-5)


def _weights(run: Path, group: str = "weights") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(max((run / "checkpoints").iterdir()) / f"{group}.safetensors")


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_one_process_that_is_asked_to_stop_stops_both_and_they_resume_to_the_same_bits(
    two: Path, tmp_path: Path
) -> None:
    stopped = together(command(tmp_path / "parts"), tmp_path, Watch(), Watch(signal_at=(3, signal.SIGTERM)))
    assert [status for status, _ in stopped] == [143, 143], stopped
    assert sum(said.count("stopped after step 3 and saved") for _, said in stopped) == 1
    resumed = together(command(tmp_path / "parts"), tmp_path)
    assert [status for status, _ in resumed] == [0, 0]
    assert "resumed from step 3" in resumed[0][1]
    assert differences(bits(two), bits(tmp_path / "parts")) == []


def test_validation_reads_the_running_statistics_that_are_saved(two: Path) -> None:
    """Each process has seen other images; all must validate the network that process 0 saves."""
    run, split = open_run(two), open_data("digits").split("val")
    assert run.normalization is not None
    batches = evaluation_batches(split, normalization=run.normalization, batch_size=500, device="cpu")
    autocast = Arithmetic("fp32", "contiguous").autocast(torch.device("cpu"))
    expected = add_up(run.chain(print), batches, autocast=autocast)
    assert run.metrics()[-1]["validation_loss"] == pytest.approx(expected.mean_loss, rel=1e-6)
    assert run.metrics()[-1]["validation_error_percent"] == expected.error_percent


def test_the_test_split_is_counted_once_however_many_processes_train(two: Path, tmp_path: Path) -> None:
    found = json.loads((two / "result.json").read_text())["test"]
    ask = ["evaluate", str(two), "--data", "digits", "--device", "cpu", "--json", str(tmp_path / "one")]
    assert cli.run(ask) == 0
    alone = json.loads((tmp_path / "one").read_text())
    assert found["n"] == alone["n"] == sum(map(sum, found["confusion"])) == sum(one["n"] for one in found["bins"])
    for name in ("confusion", "error_percent", "standard_error"):
        assert found[name] == alone[name]
    for name in ("loss", "calibration_error_percent"):
        assert found[name] == pytest.approx(alone[name], rel=1e-5)


def _evaluates_alone(found: Path) -> None:
    rank = int(os.environ["RANK"])
    store = dist.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), 2, is_master=rank == 0)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    if rank == 0:
        chain, batches = build("cifar_resnet8"), [Batch(torch.zeros(8, 3, 8, 8), torch.arange(8), 8)]
        n = evaluate(chain, batches, tuple("0123456789"), autocast=torch.autocast("cpu", enabled=False)).n
        found.write_text(str(n))
        store.set("evaluated", "yes")
        store.wait(["read"])  # the store ends with this process
    else:
        store.wait(["evaluated"])  # it takes no part
        store.set("read", "yes")


def test_one_process_of_a_group_evaluates_without_the_others(tmp_path: Path) -> None:
    both = [fork(_evaluates_alone, tmp_path / "found", rank=rank) for rank in ranks(2)]
    assert workers.finish(*both) == [0, 0]
    assert (tmp_path / "found").read_text() == "8"


def test_a_disk_that_is_full_stops_both_processes(tmp_path: Path) -> None:
    full = Watch(file_bytes=200_000)
    found = together(command(tmp_path / "run", "--checkpoint-every", "2"), tmp_path, full, full)
    assert [status for status, _ in found] == [1, 1]
    assert sum(said.count("step 2 was not saved: File too large") for _, said in found) == 1
    assert not any("Traceback" in said for _, said in found)


def test_a_loss_that_is_not_finite_in_one_process_stops_both(tmp_path: Path) -> None:
    found = together(command(tmp_path / "run", "--lr", "1e30"), tmp_path)
    assert [status for status, _ in found] == [1, 1]
    assert sum(said.count("the loss is not finite at step") for _, said in found) == 1
    assert not any("Traceback" in said for _, said in found)


def test_a_process_that_is_killed_ends_the_other_with_one_line(tmp_path: Path) -> None:
    found = together(command(tmp_path / "run"), tmp_path, Watch(), Watch(signal_at=(3, signal.SIGKILL)))
    assert [status for status, _ in found] == [1, -signal.SIGKILL]
    assert found[0][1].splitlines()[-1] == "howdeep: another process of this run ended early, and with it this one"
    assert "Traceback" not in found[0][1]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "howdeep"]


@pytest.mark.slow
def test_torchrun_that_is_asked_to_stop_saves_and_the_same_command_resumes(tmp_path: Path) -> None:
    """Adds torchrun itself, which passes the signal on to both processes; above, one of two is asked without it."""
    arguments = command(tmp_path / "run", "--epochs", "1000")
    with (tmp_path / "said").open("w") as said, subprocess.Popen([*TORCHRUN, *arguments], stderr=said) as running:
        try:
            _await(tmp_path / "run/metrics.jsonl", running)
            running.send_signal(signal.SIGTERM)
            status = running.wait(60)
        finally:
            running.kill()
    told = (tmp_path / "said").read_text()
    assert status != 0
    assert "and saved; the same command resumes" in told, told
    newest = max((tmp_path / "run/checkpoints").iterdir())
    step = json.loads((newest / "state.json").read_text())["step"]
    assert f"stopped after step {step} and saved" in told
    found = together(arguments, tmp_path, Watch(signal_at=(1, signal.SIGTERM)), Watch())
    assert f"resumed from step {step}" in found[0][1]
    assert [status for status, _ in found] == [143, 143]


def _await(path: Path, running: subprocess.Popen) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert running.poll() is None, "the command ended early"
        assert time.monotonic() < deadline, "the command hangs"
        time.sleep(0.02)
