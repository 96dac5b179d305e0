"""What must hold on an accelerator. ``HOWDEEP_TEST_DEVICE=cpu pytest -m gpu`` runs the same on the host."""

import copy
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.oracles import images, small_network
from tests.processes import Watch, start_ranks

from howdeep import cli
from howdeep.analysis.lesion import lesion
from howdeep.analysis.options import PathsOptions
from howdeep.analysis.paths import paths
from howdeep.analysis.signals import flow
from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.cutting.cut import cut
from howdeep.cutting.options import CutBudget
from howdeep.data import NORMALIZATIONS, Augmentation, Batch, open_data, training_batches
from howdeep.networks import build
from howdeep.runs.folder import open_run
from howdeep.runtime import device as devices
from howdeep.runtime import precision
from howdeep.runtime.precision import Arithmetic, arithmetics, best_of, measure, place
from howdeep.runtime.timing import thread_counts
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.training.optimizers import make_optimizer
from howdeep.training.precision import TrainingSteps
from howdeep.training.recipes import recipe_of
from howdeep.training.step import engine_of, train_step
from howdeep.util.errors import Stopped

pytestmark = pytest.mark.gpu
HOST = torch.device("cpu")
FP32 = Arithmetic("fp32", "channels_last")


@pytest.fixture
def device() -> torch.device:
    name = os.environ.get("HOWDEEP_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(name)


def config(device: torch.device, **options) -> TrainConfig:
    """Two epochs of five mini-batches."""
    common = {"network": "cifar_resnet8", "data": "digits", "limit": 160, "batch_size": 32, "epochs": 2}
    return TrainConfig(**{**common, "device": str(device), "precision": "fp32", "threads": 1, **options})


def trained(out: Path, device: torch.device, **options) -> dict[str, torch.Tensor]:
    """Train and return the weights."""
    loop.train(config(device, memory_format="channels_last", **options), out, console=Console(quiet=True))
    return open_run(out).chain(pytest.fail).state_dict()


def batch(device: torch.device, count: int = 16) -> Batch:
    labels = torch.arange(count) % 10
    return Batch(images(count).to(device).contiguous(memory_format=torch.channels_last), labels.to(device), count)


def network(device: torch.device, family: str = "resnet A") -> Chain:
    return place(small_network(family).eval(), FP32, device)


def stepped(device: torch.device, checkpointing: bool) -> tuple[float, int, Chain]:
    """Do one training step; return loss, wrong answers and the network with its gradients."""
    chain = place(small_network("resnet A").train(), FP32, device)
    optimizer = make_optimizer(chain, recipe_of("fast"))
    gates = [1.0] * len(chain)
    with precision.true_fp32():
        loss, wrong = train_step(
            engine_of(chain, checkpointing), optimizer, batch(device), gates, lr=0.1, smoothing=0.0, arithmetic=FP32
        )
    return loss, wrong, chain


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> bool:
    return float((found.cpu() - expected.cpu()).norm()) <= tolerance * float(expected.norm())


def test_a_training_step_is_that_of_the_host(device: torch.device) -> None:
    (loss, wrong, chain), (expected, errors, host) = (stepped(where, False) for where in (device, HOST))
    assert loss == pytest.approx(expected, rel=1e-4)
    assert abs(wrong - errors) <= 1  # two scores may be a rounding apart
    weights = dict(host.named_parameters())
    assert all(close(weight.detach(), weights[name].detach(), 1e-3) for name, weight in chain.named_parameters())


def test_checkpointing_changes_no_step_and_lowers_the_peak(device: torch.device) -> None:
    peaks, weights = {}, {}
    for checkpointing in (False, True):
        devices.reset_peak(device)
        *_, chain = stepped(device, checkpointing)
        peaks[checkpointing], weights[checkpointing] = devices.peak_bytes(device), chain.state_dict()
    assert all(close(value.float(), weights[False][name].float()) for name, value in weights[True].items())
    if device.type == "cuda":
        deep = {}
        for checkpointing in (False, True):
            chain = place(build("cifar_resnet56").train(), FP32, device)
            optimizer = make_optimizer(chain, recipe_of("fast"))
            few = Batch(torch.randn(64, 3, 32, 32, device=device), torch.arange(64, device=device) % 10, 64)
            devices.reset_peak(device)
            gates = [1.0] * len(chain)
            train_step(engine_of(chain, checkpointing), optimizer, few, gates, lr=0.1, smoothing=0.0, arithmetic=FP32)
            deep[checkpointing] = devices.peak_bytes(device)
        assert deep[True] < 0.7 * deep[False]


def test_a_stopped_run_goes_on_to_the_same_bits(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, step, done = trained(tmp_path / "whole", device), loop.train_step, []

    def stopped(*given, **how):
        done.append(1)
        if len(done) == 4:
            signal.raise_signal(signal.SIGTERM)
        return step(*given, **how)

    monkeypatch.setattr(loop, "train_step", stopped)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", device)
    parts = trained(tmp_path / "parts", device)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_precision_is_chosen_among_correct_ones_and_each_was_warmed_up(device: torch.device) -> None:
    tried = arithmetics("auto", "auto", device)
    assert len(tried) == (4 if precision.has_bf16(device) else 2)
    steps = TrainingSteps(small_network("resnet A").train(), (16, 3, 8, 8), recipe_of("fast"), device)
    trials = measure(steps, tried, threads=thread_counts("auto", device))
    assert best_of(trials).correct
    assert {trial.precision for trial in trials} <= {"fp32", "bf16"}
    # Whoever came first would else have loaded what all need, and taken many times as long.
    seconds = [trial.seconds_per_step for trial in trials]
    assert trials[0].seconds_per_step < 20 * min(seconds)


def test_true_fp32_convolutions_are_true(device: torch.device) -> None:
    layer, x = torch.nn.Conv2d(256, 64, 3).to(device), torch.randn(4, 256, 12, 12, device=device)
    with torch.no_grad():
        expected = copy.deepcopy(layer).double()(x.double())
        with precision.true_fp32():
            assert close(layer(x).double(), expected, 3e-6)


def test_norms_are_folded(device: torch.device) -> None:
    chain, x = network(device), batch(device).images
    found = prepared(chain, x, precision="fp32", device=device)
    assert found.notes == ()
    assert len(found.chain.state_dict()) < len(chain.state_dict())
    with torch.no_grad(), precision.true_fp32():
        assert close(found.chain(x), chain(x))


def test_lesions_are_those_of_the_host(device: torch.device) -> None:
    found, expected = (_lesions(where) for where in (device, HOST))
    assert [one.score_change for one in found.units] == pytest.approx(
        [one.score_change for one in expected.units], rel=1e-3
    )
    wrong = [one.error_percent for one in expected.units]
    assert [one.error_percent for one in found.units] == pytest.approx(wrong, abs=100 / 16)


def _lesions(device: torch.device):
    with precision.true_fp32():
        return lesion(network(device, "preresnet"), [batch(device)], autocast=FP32.autocast(device))


def test_the_gradient_by_path_length_adds_up_and_is_that_of_the_host(device: torch.device) -> None:
    with precision.true_fp32():
        found, expected = (
            paths(network(where, "preresnet"), [batch(where)], PathsOptions(draws=2)) for where in (device, HOST)
        )
    assert found.sum_check_relative_error is not None
    assert found.sum_check_relative_error < 1e-4
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-3)


def test_signal_and_gradient_through_the_depth_are_those_of_the_host(device: torch.device) -> None:
    with precision.true_fp32():
        found, expected = (
            flow(network(where), [batch(where)], statistics="running", autocast=FP32.autocast(where))
            for where in (device, HOST)
        )
    for one, other in zip(found.units, expected.units, strict=True):
        assert one.stream_std == pytest.approx(other.stream_std, rel=1e-3)
        assert one.input_gradient == pytest.approx(other.input_gradient, rel=1e-3)


def test_a_network_is_cut(device: torch.device) -> None:
    chain = network(device)
    found = cut(chain, [batch(device), batch(device)], budget=CutBudget(units=len(chain) - 1))
    smaller = found.chain
    assert smaller is not None
    assert (len(smaller), found.chosen) == (len(chain) - 1, 1)
    assert {weight.device.type for weight in smaller.parameters()} == {device.type}


def test_a_run_of_the_device_is_evaluated_and_exported(
    device: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, record = tmp_path / "run", tmp_path / "record.json"
    trained(run, device)
    common = [str(run), "--data", "digits", "--json", str(record), "--overwrite"]
    result = open_run(run).result()
    assert result is not None
    assert cli.run(["evaluate", *common, "--device", str(device)]) == 0
    assert json.loads(record.read_text())["error_percent"] == pytest.approx(result["test"]["error_percent"])
    assert cli.run(["export", *common, "--split", "train", "--out", str(tmp_path / "net.pt2")]) == 0
    assert json.loads(record.read_text())["agreement"]["other_class"] == 0


def test_batches_of_the_device_are_those_of_the_host(device: torch.device) -> None:
    split = open_data("digits").split("train")
    there_and_here = (
        training_batches(
            split,
            normalization=NORMALIZATIONS["per_channel"](split),
            augmentation=Augmentation(1, True),
            batch_size=64,
            seed=0,
            start_step=0,
            stop_step=3,
            device=where,
        )
        for where in (device, HOST)
    )
    for there, host in zip(*there_and_here, strict=True):
        assert close(there.images, host.images, 1e-6)
        assert torch.equal(host.labels, there.labels.cpu())


def test_two_processes_train_one_network(device: torch.device, tmp_path: Path) -> None:
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    options = ["--data", "digits", "--limit", "160", "--batch-size", "32", "--epochs", "2", "--no-norm", "--seed", "3"]
    options += ["--precision", "fp32", "--memory-format", "channels_last", "--threads", "1", "--device", device.type]
    command = ["train", "cifar_resnet8", "--out", str(tmp_path / "two"), *options]
    for running in start_ranks(command, tmp_path, [Watch(), Watch()]):
        status, printed = running.finish()
        assert status == 0, printed
    assert cli.run(["train", "cifar_resnet8", "--out", str(tmp_path / "one"), *options]) == 0
    two, one = (open_run(tmp_path / name).chain(pytest.fail).state_dict() for name in ("two", "one"))
    assert all(close(value, one[name], 2e-3) for name, value in two.items())
