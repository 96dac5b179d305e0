"""In Python, with one's own things: a module, a DataLoader, and what becomes of them."""

from pathlib import Path

import onnxruntime
import pytest
import torch
from rich.console import Console
from tests.training.test_chains import PLAIN, Network, bars, chain_of, loaders
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import howdeep
from howdeep import Batch
from howdeep.cutting.options import CutBudget
from howdeep.util.errors import UserError

QUIET = Console(quiet=True)


def test_a_module_is_trained_taken_apart_cut_trained_on_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nine lines of a user, in their order."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    my_module, example = Network(), torch.zeros(1, 1, 8, 8)
    train_loader, val_loader = loaders()

    chain = howdeep.unravel(my_module, example)
    run = howdeep.train(chain, train_loader, val_loader, recipe="finetune", epochs=5, lr=0.02)
    found = howdeep.evaluate(chain, val_loader)
    lesion = howdeep.lesion(chain, val_loader)
    paths = howdeep.paths(chain, val_loader)
    smaller = howdeep.cut(chain, val_loader, units=3)
    assert smaller.chain is not None
    again = howdeep.train(smaller.chain, train_loader, val_loader)
    exported = howdeep.export(smaller.chain, "net.onnx", val_loader)

    errors = [run.validation_error_percent, found.error_percent, lesion.baseline.error_percent]
    assert errors == pytest.approx([errors[0]] * 3)
    assert (paths.n, paths.units, len(lesion.units)) == (48, 4, 4)
    assert paths.sum_check_relative_error is not None
    assert len(smaller.chain) == 3
    assert len(chain) == 4
    assert len(again.epochs) == 8
    assert again.chain is smaller.chain
    assert exported.agreement.other_class == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx"]
    images, _ = bars(5, seed=7)
    (logits,) = onnxruntime.InferenceSession("net.onnx").run(["logits"], {"images": images.numpy()})
    assert torch.allclose(torch.from_numpy(logits), smaller.chain(images), atol=1e-5)


def test_a_cut_by_a_loader_is_that_of_its_batches_and_leaves_the_chain_alone() -> None:
    chain, (images, labels) = chain_of(), bars(48)
    howdeep.train(chain, loaders()[0], epochs=2, lr=0.02, **PLAIN)
    batches = [Batch(*part, 16) for part in zip(images.split(16), labels.split(16), strict=True)]
    expected = howdeep.cut(chain, batches, units=2, console=QUIET)
    chain.train()
    drawn = DataLoader(TensorDataset(images, labels), 16, shuffle=True)
    for loader, equal in ((DataLoader(TensorDataset(images, labels), 16), True), (drawn, False)):
        found = howdeep.cut(chain, loader, units=2, console=QUIET)
        assert chain.training
        assert found.chain is not None
        assert expected.chain is not None
        assert not found.chain.training
        assert (found.baseline.n, len(found.chain)) == (48, 2)
        assert found.baseline.error_percent == pytest.approx(expected.baseline.error_percent)
        if equal:
            assert found.order == expected.order
            assert torch.equal(found.chain(images), expected.chain(images))


def test_the_budget_of_a_cut_is_written_as_on_the_command_line() -> None:
    budget = CutBudget.of(latency="5ms", units=3, macs="50%", error_increase=1.5)
    assert budget == CutBudget(units=3, macs_share=0.5, latency_ms=5.0, error_increase=1.5)
    assert CutBudget.of(macs="20M") == CutBudget(macs=20e6)
    chain, loader = chain_of(), loaders()[1]
    with pytest.raises(UserError, match="no cut of this network holds latency of 1e-06 ms: "):
        howdeep.cut(chain, loader, latency="0.001us", console=QUIET)
    with pytest.raises(UserError, match="5 parsecs"):
        howdeep.cut(chain, loader, latency="5 parsecs", console=QUIET)


def test_a_chain_in_training_mode_is_exported_as_it_evaluates_with_what_is_said_of_it(tmp_path: Path) -> None:
    chain, loader = chain_of(), loaders()[1]
    howdeep.train(chain, loaders()[0], epochs=1, lr=0.02, **PLAIN)
    images, _ = bars(6, seed=3)
    expected, file = chain(images), tmp_path / "net.pt2"
    chain.train()
    found = howdeep.export(chain, file, loader, classes=("row", "column", "neither"), mean=[0.5], std=[0.25])
    assert chain.training
    assert torch.allclose(torch.export.load(file).module()(images), expected, atol=1e-5)
    assert found.metadata["classes"] == ["row", "column", "neither"]
    assert (found.metadata["mean"], found.metadata["std"]) == ([[[0.5]]], [[[0.25]]])
    assert found.notes[-1] == "compared on all 48 images of the loader, fewer than 256"
    assert howdeep.export(chain, str(file), loader).metadata["mean"] is None


def test_bad_exports_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    chain, loader = chain_of(), loaders()[1]
    with pytest.raises(UserError, match="classes has 2 names: the network returns 3 logits"):
        howdeep.export(chain, tmp_path / "net.pt2", loader, classes=("a", "b"))
    with pytest.raises(UserError, match=r"must end in \.onnx or \.pt2"):
        howdeep.export(chain, tmp_path / "net.exe", loader)
    with pytest.raises(UserError, match="there are no images"):
        howdeep.export(chain, tmp_path / "net.pt2", [])
    with pytest.raises(UserError, match="yields once only"):
        howdeep.export(chain, tmp_path / "net.pt2", iter([bars(4)]))
    assert not list(tmp_path.iterdir())


def test_the_packages_own_loaders_train_and_measure() -> None:
    train, validation, test = howdeep.loaders("digits", batch_size=50, limit=200, augmentation="none")
    assert [len(loader) for loader in (train, validation, test)] == [4, 4, 4]
    assert train.classes == tuple("0123456789")
    one, other = (torch.cat([labels for _, labels in train]) for _ in range(2))
    assert not torch.equal(one, other)  # shuffled anew
    assert torch.equal(one.sort().values, other.sort().values)
    images = torch.cat([images for images, _ in train])
    assert images.mean().item() == pytest.approx(0, abs=0.1)
    assert images.std().item() == pytest.approx(1, abs=0.1)
    chain = howdeep.build(howdeep.spec_of("cifar_resnet8", classes=10, channels=1))
    run = howdeep.train(chain, train, validation, epochs=3, recipe="fast", **PLAIN)
    assert howdeep.evaluate(chain, validation).error_percent == pytest.approx(run.validation_error_percent)
    assert howdeep.evaluate(chain, test, test.classes).error_percent < 60


def test_own_loaders_repeat_by_seed_and_mix_images() -> None:
    passes = [
        [(images.clone(), labels.clone()) for _ in range(2) for images, labels in loader]
        for loader in (howdeep.loaders("digits", limit=100, augmentation="strong", seed=3).train for _ in range(2))
    ]
    for (images, labels), (again, same) in zip(*passes, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)
        assert labels.shape == (len(images), 10)
    assert not torch.equal(passes[0][0][0], passes[0][4][0])


def test_own_loaders_normalise_as_they_are_told() -> None:
    plain = howdeep.loaders("digits", mean=[0.0], std=[1.0]).validation
    images, _ = next(iter(plain))
    assert images.min() == 0
    assert images.max() <= 1
    with pytest.raises(UserError, match="the images have 1 channels"):
        howdeep.loaders("digits", mean=[0.0, 0, 0], std=[1.0, 1, 1])


def test_a_batch_norm_that_meets_one_value_per_channel_is_said_in_one_line() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten())
    module.append(nn.Linear(4, 3))
    chain = howdeep.unravel(module, torch.zeros(2, 1, 8, 8))
    with pytest.raises(UserError, match="a mini-batch of 1 image"):
        howdeep.train(chain, [bars(8), bars(1)], epochs=1, norm_statistics="batch", **PLAIN)
