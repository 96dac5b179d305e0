"""What a training in memory begins with: a new classifier, statistics of norms; as a run folder does it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from tests.oracles import small_network
from torch import Tensor, nn

import howdeep
from howdeep.analysis.linear import Features, regression
from howdeep.chain import Chain, run
from howdeep.runs.folder import open_run
from howdeep.runtime.modes import norms_of
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.util.errors import UserError

PLAIN: Any = {"precision": "fp32", "memory_format": "contiguous", "threads": 1, "console": Console(quiet=True)}
"""Nothing is chosen by timing."""
STILL: Any = {"epochs": 1, "lr": 1e-30, "weight_decay": 0.0, **PLAIN}
"""Steps that move nothing."""
CLASSIFIER = "head.linear.weight", "head.linear.bias"


def patterns(count: int, seed: int, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Images of one of five patterns with noise, shape (count, 3, 8, 8), and which."""
    labels = torch.arange(count) % classes
    clean = torch.randn(classes, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return clean[labels] + torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)), labels


TRAIN, VALIDATION = patterns(100, 1), patterns(50, 2)


def features(chain: Chain, images: Tensor) -> Tensor:
    with torch.no_grad():
        return run(chain.steps(), chain.stem(images)).relu().mean((2, 3))


def test_a_new_classifier_is_the_regression_on_what_it_reads_and_epoch_0_takes_part() -> None:
    chain = small_network("resnet A", classes=10)
    train, validation = (Features(features(chain, images), labels) for images, labels in (TRAIN, VALIDATION))
    before = copy.deepcopy(chain.state_dict())
    found = howdeep.train(chain, TRAIN, VALIDATION, classifier="new", **STILL)
    expected, sums = regression(train, validation, 5)
    weight, bias = (chain.get_parameter(name) for name in CLASSIFIER)
    torch.testing.assert_close(weight.double(), expected.weight, rtol=1e-3, atol=1e-3 * float(expected.weight.std()))
    torch.testing.assert_close(bias.double(), expected.bias, rtol=1e-3, atol=1e-3 * float(expected.bias.std()))
    assert (found.kept, found.validation_error_percent) == (0, pytest.approx(sums.error_percent))
    assert found.validation_loss == pytest.approx(sums.mean_loss, rel=1e-3)
    rest = {name: tensor for name, tensor in chain.state_dict().items() if name not in CLASSIFIER}
    assert all(torch.equal(tensor, before[name]) for name, tensor in rest.items())
    assert chain(VALIDATION[0]).shape == (50, 5)


def test_nothing_beyond_it_is_trained_where_that_is_asked_for(capsys: pytest.CaptureFixture) -> None:
    chain = small_network("resnet A")
    options: Any = {**PLAIN, "keep": "last", "console": None}
    found = howdeep.train(chain, TRAIN, VALIDATION, classifier="new", tune="classifier", **options)
    assert (found.epochs, found.kept) == ((), 0)
    assert found.validation_error_percent == pytest.approx(howdeep.evaluate(chain, VALIDATION).error_percent)
    said = capsys.readouterr().err
    assert "classifier: begins as logistic regression on 64 features of 100 images; validation error " in said
    assert "nothing trained yet" in said


def test_shares_of_classes_say_how_many_there_are_and_are_fitted() -> None:
    one, other = small_network("resnet A"), small_network("resnet A")
    shares = TRAIN[0], nn.functional.one_hot(TRAIN[1], 5).float()
    howdeep.train(one, [shares], [VALIDATION], classifier="new", tune="classifier", **PLAIN)
    howdeep.train(other, [TRAIN], [VALIDATION], classifier="new", tune="classifier", **PLAIN)
    torch.testing.assert_close(one(VALIDATION[0]), other(VALIDATION[0]), rtol=0, atol=1e-3)


def test_with_the_packages_loaders_it_is_the_run_folder_to_the_bit(tmp_path: Path) -> None:
    """The same data, seed and options: regression, order and augmentation of the images, best epoch."""
    save_file(small_network("resnet A", channels=1, classes=7).state_dict(), tmp_path / "given.safetensors")
    options: Any = {"epochs": 2, "seed": 3, "survival": "linear:0.8", "ema": 0.9, "clip": 2.0}
    config = TrainConfig(
        network="cifar_resnet14",
        weights=str(tmp_path / "given.safetensors"),
        classifier="new",
        data="digits",
        limit=160,
        size=8,
        augmentation="strong",
        batch_size=20,
        device="cpu",
        precision="fp32",
        memory_format="contiguous",
        threads=1,
        recipe="finetune",
        **options,
    )
    loop.train(config, tmp_path / "run", console=PLAIN["console"])
    folder = open_run(tmp_path / "run")
    data: Any = {"size": 8, "limit": 160, "seed": 3, "augmentation": "strong"}
    train = howdeep.loaders("digits", batch_size=20, **data).train
    validation = howdeep.loaders("digits", batch_size=500, **data).validation
    next(iter(train))  # a look at a loader changes nothing
    chain = small_network("resnet A", channels=1, classes=7)
    found = howdeep.train(chain, train, validation, classifier="new", **options, **PLAIN)
    kept = folder.chain().state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in chain.state_dict().items())
    lines = [line for line in folder.metrics() if line["event"] == "epoch"]
    assert [(one.train_loss, one.validation_loss) for one in found.epochs] == [
        (line["train_loss"], line["validation_loss"]) for line in lines
    ]


@pytest.mark.parametrize(("moved", "kept"), [(True, True), (False, False)])
def test_norms_keep_statistics_that_were_ever_moved(moved: bool, kept: bool) -> None:
    chain = small_network("plain")
    for norm in norms_of(chain):
        norm.reset_running_stats()
        assert norm.running_mean is not None
        norm.running_mean.fill_(0.5 * moved)
    before = [norm.running_mean.clone() for norm in norms_of(chain)]  # type: ignore[union-attr]
    howdeep.train(chain, [TRAIN], [VALIDATION], epochs=1, keep="last", **PLAIN)
    after = [norm.running_mean.clone() for norm in norms_of(chain)]  # type: ignore[union-attr]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True)) == kept


@pytest.mark.parametrize(
    ("loader", "options", "complaint"),
    [
        (TRAIN, {"classifier": "nwe"}, "unknown classifier 'nwe'; did you mean new?"),
        (TRAIN, {"classifier": "auto"}, "unknown classifier 'auto'; known: keep, new"),
        (TRAIN, {"classifier": "new", "validation": None}, "classifier new is not allowed without a validation loader"),
        (
            [(TRAIN[0], 0 * TRAIN[1])],
            {"classifier": "new"},
            "labels of 0 to 0 with 100 images: nothing is to be",
        ),
        ([(TRAIN[0], 99 + TRAIN[1])], {"classifier": "new"}, "labels of 0 to 103 with 100 images: classes count"),
        ([(TRAIN[0], TRAIN[1] - 1)], {"classifier": "new"}, "yields label -1: the network has classes 0 to 3"),
        ([(TRAIN[0], TRAIN[1] > 1)], {"classifier": "new"}, "yields labels of bool: they must be class indices"),
        ([(TRAIN[0][:, :2], TRAIN[1])], {"classifier": "new"}, "the network does not read images of (2, 8, 8): "),
        (TRAIN, {"tune": "classifier"}, "--tune classifier is not allowed: it is kept"),
        (TRAIN, {"freeze": 7}, "--freeze 7 is not allowed: the chain has 6 units"),
    ],
)
def test_what_does_not_fit_is_one_line_and_the_chain_stays(loader: Any, options: dict, complaint: str) -> None:
    chain = small_network("resnet A")
    before = copy.deepcopy(chain.state_dict())
    given: Any = {"validation": VALIDATION, "epochs": 1, **PLAIN, **options}
    with pytest.raises(UserError) as refused:
        howdeep.train(chain, loader, **given)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in chain.state_dict().items())


def test_a_validation_of_other_classes_is_refused() -> None:
    with pytest.raises(UserError, match="the validation loader yields label 4: the network has classes 0 to 2"):
        howdeep.train(small_network("resnet A"), patterns(30, 1, 3), VALIDATION, classifier="new", **PLAIN)
