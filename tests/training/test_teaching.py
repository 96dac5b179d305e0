"""A teacher's classes count beside the labels, by the equation."""

import copy
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.oracles import images, small_network
from torch import Tensor

import howdeep
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.runtime import parts
from howdeep.runtime.precision import Arithmetic
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import recipe_of
from howdeep.training.step import train_step
from howdeep.training.teaching import Teacher
from howdeep.util.errors import UserError

IMAGES, LABELS = images(6), torch.tensor([0, 3, 5, 9, 1, 2])
PLAIN: Any = {"precision": "fp32", "memory_format": "contiguous", "threads": 1, "console": Console(quiet=True)}


def by_hand(logits: Tensor, seen: Tensor) -> Tensor:
    """½ CE + ½ T² KL(q ‖ p) with T = 2, in the mean over images; written out."""
    of_labels = -logits.softmax(1)[range(len(LABELS)), LABELS].log().mean()
    student, teacher = (logits / 2).softmax(1), (seen / 2).softmax(1)
    return of_labels / 2 + 2 * (teacher * (teacher / student).log()).sum(1).mean()


def network(seed: int) -> Chain:
    return small_network("resnet A", seed=seed).eval()


def step(chain: Chain, teacher: Chain) -> float:
    """Leave the gradients of a step in the chain, and return its loss."""
    optimizer = make_optimizer(chain, recipe_of("he2015"), frozen=True)
    optimizer.step = optimizer.zero_grad = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    fp32 = Arithmetic("fp32", "contiguous")
    batch, taught = Batch(IMAGES, LABELS, len(LABELS)), Teacher.of(teacher)
    loss, _ = train_step(chain, optimizer, batch, None, lr=0.1, smoothing=0.0, arithmetic=fp32, teacher=taught)
    return loss


@pytest.mark.parametrize("together", [6, 2], ids=["a whole mini-batch", "in parts"])
def test_loss_and_gradients_are_those_of_the_equation(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.parts_of, "__defaults__", (together * IMAGES.shape[2:].numel(),))
    chain, teacher = network(0), network(1)
    with torch.no_grad():
        seen = teacher(IMAGES)
    by_equation = copy.deepcopy(chain)
    expected = by_hand(by_equation(IMAGES), seen)
    expected.backward()
    assert step(chain, teacher) == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(chain.parameters(), by_equation.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_a_network_that_teaches_itself_learns_from_the_labels_alone() -> None:
    chain, alone = network(0), network(0)
    step(chain, chain)
    torch.nn.functional.cross_entropy(alone(IMAGES), LABELS).backward()
    for one, other in zip(chain.parameters(), alone.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(2 * one.grad, other.grad, rtol=1e-3, atol=1e-5)


def test_in_memory_a_student_comes_closer_to_its_teacher_which_stays_as_it_is() -> None:
    teacher = network(1).train()
    before = copy.deepcopy(teacher.state_dict())
    students = {name: network(0) for name in ("taught", "alone")}
    for name, student in students.items():
        given = {"teacher": teacher} if name == "taught" else {}
        howdeep.train(student, (IMAGES, LABELS), **given, epochs=30, lr=1e-2, **PLAIN)
    assert all(module.training for module in teacher.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    with torch.no_grad():
        seen = teacher.eval()(IMAGES).log_softmax(1)
        apart = {name: float((one(IMAGES).log_softmax(1) - seen).square().mean()) for name, one in students.items()}
    assert apart["taught"] < apart["alone"] / 2


@pytest.mark.parametrize(
    ("teacher", "line"),
    [
        (small_network("resnet A", classes=3), "teacher is not allowed: it has 3 classes, and the chain 10"),
        (small_network("resnet A", channels=1), "teacher is not allowed: it cannot read images of shape (3, 8, 8)"),
    ],
)
def test_a_teacher_of_other_classes_or_channels_is_refused(teacher: Chain, line: str) -> None:
    with pytest.raises(UserError) as error:
        howdeep.train(network(0), (IMAGES, LABELS), teacher=teacher, epochs=1, **PLAIN)
    assert str(error.value) == line
