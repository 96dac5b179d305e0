"""A chain in memory, trained on loaders: what it learns, returns, leaves alone and refuses."""

import copy
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import howdeep
from howdeep.chain import Chain
from howdeep.runs.folder import open_run
from howdeep.survival import Survival
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.training.saving import NotFiniteError
from howdeep.util.errors import Stopped, UserError

QUIET = Console(quiet=True)
PLAIN = {"precision": "fp32", "memory_format": "contiguous", "threads": 1, "console": QUIET}
"""Nothing is chosen by timing."""


class Block(nn.Module):
    """x + branch(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Network(nn.Module):
    """A small residual network of a user's own."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(4)))
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.blocks(self.stem(images))).mean((2, 3)))


@cache
def _traced(seed: int) -> Chain:
    torch.manual_seed(seed)
    return howdeep.unravel(Network(), torch.zeros(2, 1, 8, 8))


def chain_of(seed: int = 0) -> Chain:
    """Return a copy of what is traced once."""
    return copy.deepcopy(_traced(seed))


def bars(count: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise with a bright row, a bright column, or neither: classes that a small network tells apart."""
    random = torch.Generator().manual_seed(seed)
    labels, images = torch.arange(count) % 3, torch.randn(count, 1, 8, 8, generator=random)
    at = torch.randint(8, (count,), generator=random)
    for image, label, place in zip(images, labels.tolist(), at.tolist(), strict=True):
        if label < 2:
            image[0].select(label, place).add_(3)
    return images, labels


def loaders(batch_size: int = 16) -> tuple[DataLoader, DataLoader]:
    training, validation = TensorDataset(*bars()), TensorDataset(*bars(48, seed=1))
    shuffled = DataLoader(training, batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))
    return shuffled, DataLoader(validation, batch_size)


def test_an_own_module_learns_and_the_best_epoch_is_what_is_left() -> None:
    chain = chain_of()
    training, validation = loaders()
    run = howdeep.train(chain, training, validation, recipe="finetune", epochs=6, lr=0.02, **PLAIN)
    assert run.chain is chain
    assert not any(module.training for module in chain.modules())
    assert [one.epoch for one in run.epochs] == [1, 2, 3, 4, 5, 6]
    assert run.epochs[-1].train_loss < run.epochs[0].train_loss
    errors = [(one.validation_error_percent, one.validation_loss) for one in run.epochs]
    assert (run.validation_error_percent, run.validation_loss) == min(errors)
    assert run.kept == 1 + errors.index(min(errors))
    found = howdeep.evaluate(chain, validation)
    assert (found.n, found.error_percent) == (48, pytest.approx(run.validation_error_percent))
    assert found.loss == pytest.approx(run.validation_loss, rel=1e-5)
    assert run.validation_error_percent is not None
    assert run.validation_error_percent < 20
    assert run.seconds > 0
    assert "after 6 epochs the chain is at " in run.curves.finding
    assert len(run.curves.table().rows) >= 6
    assert all(parameter.grad is None for parameter in chain.parameters())


def test_it_is_the_module_that_was_given_that_has_learned() -> None:
    torch.manual_seed(0)
    module = Network()
    chain = howdeep.unravel(module, torch.zeros(2, 1, 8, 8))
    howdeep.train(chain, loaders()[0], epochs=1, **PLAIN)
    images, _ = bars(8)
    assert torch.allclose(module.eval()(images), chain(images), atol=1e-6)


def test_without_validation_the_last_epoch_stays(capsys: pytest.CaptureFixture) -> None:
    run = howdeep.train(chain_of(), loaders()[0], epochs=2, precision="fp32", threads=1)
    assert (run.kept, run.validation_error_percent, run.validation_loss) == (2, None, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("chain: 4 units, ")
    assert sum(line.startswith("epoch ") for line in lines) == 2


def test_nothing_is_written(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    howdeep.train(chain_of(), *loaders(), epochs=1, out=None, **PLAIN)
    assert not list(tmp_path.iterdir())


def test_a_training_in_memory_is_that_of_a_run_folder_to_the_bit(tmp_path) -> None:
    """The same mini-batches, in the same order, through the same loop."""
    config = TrainConfig(
        network="cifar_resnet8",
        data="digits",
        limit=60,
        batch_size=20,
        epochs=2,
        recipe="fast",
        survival="linear:0.5",
        augmentation="none",
        flip="no",
        device="cpu",
        precision="fp32",
        memory_format="contiguous",
        threads=1,
    )
    loop.train(config, tmp_path / "run", console=QUIET)
    run, data = open_run(tmp_path / "run"), {"limit": 60, "augmentation": "none", "flip": "no"}
    train = howdeep.loaders("digits", batch_size=20, **data).train
    validation = howdeep.loaders("digits", batch_size=500, **data).validation
    spec = howdeep.spec_of("cifar_resnet8", classes=10, channels=1).zero_initialised()
    chain = howdeep.build(spec, Survival.parse("linear:0.5"), seed=0)
    found = howdeep.train(chain, train, validation, recipe="fast", epochs=2, **PLAIN)
    kept = run.chain().state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in chain.state_dict().items())
    lines = [line for line in run.metrics() if line["event"] == "epoch"]
    assert [(one.train_loss, one.validation_loss) for one in found.epochs] == [
        (line["train_loss"], line["validation_loss"]) for line in lines
    ]


def test_an_average_is_what_the_chain_ends_with() -> None:
    last, averaged = (
        howdeep.train(chain_of(), *loaders(), epochs=1, keep="last", ema=ema, norm_statistics="batch", seed=1, **PLAIN)
        for ema in (0.0, 0.9)
    )
    pairs = list(zip(last.chain.parameters(), averaged.chain.parameters(), strict=True))
    assert any(not torch.equal(one, other) for one, other in pairs)


def test_statistics_that_were_never_moved_are_not_frozen() -> None:
    fresh, moved = chain_of(), chain_of()
    for norm in (module for module in moved.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.fill_(0.5)  # type: ignore[union-attr]
    for chain, frozen in ((fresh, False), (moved, True)):
        before = copy.deepcopy(chain.state_dict())
        howdeep.train(chain, loaders()[0], epochs=1, **PLAIN)
        same = [torch.equal(before[name], one) for name, one in chain.state_dict().items() if "running_mean" in name]
        assert same == [frozen] * 4


def test_single_images_are_put_together_and_shuffled_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = bars(40)
    seen, step = [], loop.train_step

    def listened(engine, optimizer, batch, *more, **options):
        seen.append(batch.images[:, 0, 0, 0].tolist())
        return step(engine, optimizer, batch, *more, **options)

    monkeypatch.setattr(loop, "train_step", listened)
    howdeep.train(chain_of(), TensorDataset(images, labels), epochs=2, **PLAIN)
    howdeep.train(chain_of(), (images, labels), epochs=2, **PLAIN)
    assert [len(batch) for batch in seen] == [32, 8] * 4
    first, second, again = (seen[at] + seen[at + 1] for at in (0, 2, 4))
    assert first == again != second
    assert sorted(first) == sorted(second) == sorted(images[:, 0, 0, 0].tolist())


def test_mixed_images_have_shares_of_every_class() -> None:
    images, labels = bars(32)
    shares = 0.5 * F.one_hot(labels, 3) + 0.5 / 3
    run = howdeep.train(chain_of(), [(images, shares)], [(images, labels)], epochs=1, **PLAIN)
    assert run.epochs[0].train_error_percent > 0


def once() -> Iterator[tuple[Tensor, Tensor]]:
    yield bars(16)


class Fickle(Network):
    """Its training mode is another network."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flip(2) if self.training else images)


@pytest.mark.parametrize(
    ("loader", "complaint"),
    [
        (once(), "the training loader is a generator, which yields once only: give a list, a DataLoader or a data set"),
        (zip(*bars(4), strict=True), "the training loader is a zip, which yields once only"),
        (7, "the training loader is a int: it must yield (images, labels)"),
        ([], "the training loader yields nothing"),
        ([bars(4)[0]], "the training loader yields Tensor: it must yield (images, labels)"),
        ([(*bars(4), 1)], "the training loader yields tuple of 3: it must yield (images, labels)"),
        ([{"x": 1, "y": 2}], "the training loader yields a mapping with x, y: it must yield (images, labels)"),
        ([("a.png", 1)], "the training loader yields str and int: images and labels must be tensors"),
        ([(bars(4)[0].byte(), bars(4)[1])], "yields images of uint8: they must be floats, normalised for the network"),
        ([(bars(4)[0][0, 0], bars(4)[1])], "yields images of (8, 8): it must be (batch, channels, height, width)"),
        ([(bars(4)[0], torch.tensor([0, 1, 2, 3]))], "yields label 3: the network has classes 0 to 2"),
        ([(bars(4)[0], torch.tensor([0, -1, 2, 1]))], "yields label -1: the network has classes 0 to 2"),
        ([(bars(4)[0], torch.zeros(3).long())], "yields labels of int64 of (3,): they must be class indices of (4,)"),
        ([(bars(4)[0], torch.zeros(4))], "yields labels of float32 of (4,): they must be class indices of (4,)"),
        ([(torch.zeros(4, 3, 8, 8), bars(4)[1])], "the network does not read images of (3, 8, 8): "),
        ([(torch.zeros(1, 8, 8), 0), (torch.zeros(1, 9, 8), 0)], "of (1, 8, 8) and (1, 9, 8): bring them to one shape"),
    ],
)
def test_a_loader_that_yields_something_else_is_refused_in_one_line(loader: Any, complaint: str) -> None:
    with pytest.raises(UserError) as refused:
        howdeep.train(chain_of(), loader, epochs=1, **PLAIN)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_trained_in_memory_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fickle = howdeep.unravel(Fickle(), torch.zeros(2, 1, 8, 8))
    with pytest.raises(UserError, match="Fickle cannot be trained as a chain"):
        howdeep.train(fickle, *loaders(), **PLAIN)
    with pytest.raises(UserError, match="batch_size"):
        howdeep.train(chain_of(), *loaders(), batch_size=3)  # type: ignore[call-overload]
    with pytest.raises(UserError, match="out run is not allowed with a chain"):
        howdeep.train(chain_of(), *loaders(), out="run")  # type: ignore[call-overload]
    with pytest.raises(UserError, match="the validation loader yields nothing"):
        howdeep.train(chain_of(), loaders()[0], [], **PLAIN)
    for name, value in {
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="to_module"):
        howdeep.train(chain_of(), *loaders(), **PLAIN)


def test_a_signal_ends_it_after_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    step = loop.train_step

    def stopped(*given, **how):
        signal.raise_signal(signal.SIGINT)
        return step(*given, **how)

    monkeypatch.setattr(loop, "train_step", stopped)
    chain = chain_of()
    with pytest.raises(Stopped, match="stopped after step 1 and wrote nothing"):
        howdeep.train(chain, *loaders(), epochs=1, **PLAIN)
    assert not chain.training


def test_the_warmup_of_a_recipe_for_deep_networks_is_for_deep_chains(capsys: pytest.CaptureFixture) -> None:
    howdeep.train(chain_of(), loaders()[0], epochs=1, recipe="he2015", precision="fp32", threads=1)
    assert "warm-up" not in capsys.readouterr().err


def test_numbers_that_are_not_finite_end_it() -> None:
    chain = chain_of()
    with pytest.raises(NotFiniteError, match=r"is not finite at step .*; nothing was written"):
        howdeep.train(chain, loaders()[0], epochs=3, optimizer="sgd", lr=1e30, clip=math.inf, **PLAIN)
    assert not chain.training
    assert all(parameter.grad is None for parameter in chain.parameters())


def test_units_that_are_frozen_stay_as_they_are_and_can_learn_again() -> None:
    chain = chain_of()
    before = copy.deepcopy(chain.state_dict())
    howdeep.train(chain, loaders()[0], epochs=1, freeze=2, **PLAIN)
    moved = {
        name.rpartition(".branch")[0] or name
        for name, one in chain.state_dict().items()
        if name in before and not torch.equal(one, before[name])
    }
    frozen = [*chain.stem.parameters(), *chain.units[0].parameters(), *chain.units[1].parameters()]
    assert all(parameter.requires_grad for parameter in frozen)
    assert not [name for name in moved if name.startswith(("stem", "body.0", "body.1."))]
    assert [name for name in moved if name.startswith("head")]


def test_weights_that_the_caller_froze_stay_as_they_are() -> None:
    chain = chain_of()
    for parameter in chain.units[0].parameters():
        parameter.requires_grad_(False)
    before = [parameter.clone() for parameter in chain.units[0].parameters()]
    howdeep.train(chain, loaders()[0], epochs=1, recipe="fast", **PLAIN)
    after = list(chain.units[0].parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not any(parameter.requires_grad for parameter in after)
