"""One step against SGD's rule, written out by hand."""

import copy
from dataclasses import replace

import pytest
import torch
from tests.oracles import images, small_network
from torch.nn import functional as F

from howdeep.chain import Chain, Gates
from howdeep.data import Batch
from howdeep.runtime.parts import parts_of
from howdeep.runtime.precision import Arithmetic, place
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import recipe_of
from howdeep.training.step import engine_of, train_step

FP32 = Arithmetic("fp32", "contiguous")
BATCH = Batch(images(8), torch.tensor([0, 3, 5, 9, 1, 2, 7, 8]), 8)
LR, MOMENTUM, DECAY = 0.1, 0.9, 1e-4


def by_hand(weight, momentum, gradient, *, nesterov: bool, decay: float = DECAY):
    """d = g + λw, v ← μv + d, w ← w − η(d + μv) with Nesterov's momentum, else w − ηv."""
    moved = gradient + decay * weight
    momentum = MOMENTUM * momentum + moved
    return weight - LR * (moved + MOMENTUM * momentum if nesterov else momentum), momentum


def steps_by_hand(chain: Chain, schedule: list[Gates], *, nesterov: bool, frozen: bool) -> dict[str, torch.Tensor]:
    """Return the weights after some steps; parameters without gradient move by momentum, or are frozen."""
    chain = copy.deepcopy(chain)
    momenta = {name: torch.zeros_like(weight) for name, weight in chain.named_parameters()}
    for gates in schedule:
        chain.zero_grad(set_to_none=True)
        F.cross_entropy(chain(BATCH.images, gates), BATCH.labels).backward()
        for name, weight in chain.named_parameters():
            if weight.grad is None and frozen:
                continue
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.data, momenta[name] = by_hand(weight.data, momenta[name], gradient, nesterov=nesterov)
    return {name: weight.detach() for name, weight in chain.named_parameters()}


def steps(chain: Chain, schedule: list[Gates], *, recipe: str, frozen: bool) -> Chain:
    chain = copy.deepcopy(chain)
    optimizer = make_optimizer(chain, recipe_of(recipe), frozen=frozen)
    for gates in schedule:
        train_step(chain, optimizer, BATCH, gates, lr=LR, smoothing=0.0, arithmetic=FP32, frozen=frozen)
    return chain


SAMPLES = torch.tensor([True, False] * 4)
SCHEDULES = {
    "closed at first": [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]],
    "always closed": [[1.0, 0.0, 1.0]] * 3,
    "for samples": [[SAMPLES, ~SAMPLES, torch.zeros(8, dtype=torch.bool)]] * 2 + [[SAMPLES, SAMPLES, SAMPLES]],
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("recipe", "nesterov"), [("he2015", False), ("stochastic_depth2016", True)])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "momentum"])
def test_weights_move_as_the_rule_says_closed_units_included(
    schedule, recipe: str, nesterov: bool, frozen: bool
) -> None:
    chain = small_network("resnet C").train()
    expected = steps_by_hand(chain, schedule, nesterov=nesterov, frozen=frozen)
    found = dict(steps(chain, schedule, recipe=recipe, frozen=frozen).named_parameters())
    for name, weight in expected.items():
        # The fused update rounds once where the rule by hand rounds twice.
        torch.testing.assert_close(found[name].detach(), weight, rtol=1e-5, atol=1e-6)


def test_a_unit_that_closes_moves_by_momentum_and_weight_decay() -> None:
    """w₂ = w₁ − η(λw₁ + μ(μv₁ + λw₁)) with Nesterov's momentum: the closed step has a gradient of zero."""
    chain = small_network("resnet C").train()
    optimizer = make_optimizer(chain, recipe_of("stochastic_depth2016"))
    weight = dict(chain.units[1].branch.named_parameters())["conv1.weight"]
    train_step(chain, optimizer, BATCH, [1.0, 1.0, 1.0], lr=LR, smoothing=0.0, arithmetic=FP32)
    before, momentum = weight.detach().clone(), optimizer.state[weight]["momentum_buffer"].clone()
    train_step(chain, optimizer, BATCH, [1.0, 0.0, 1.0], lr=LR, smoothing=0.0, arithmetic=FP32)
    decay = DECAY * before
    moved = MOMENTUM * momentum + decay
    torch.testing.assert_close(weight.detach(), before - LR * (decay + MOMENTUM * moved), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(optimizer.state[weight]["momentum_buffer"], moved, rtol=1e-6, atol=1e-8)
    assert not torch.equal(weight, before)


def test_a_unit_that_closes_stays_still_when_asked_to() -> None:
    chain = small_network("resnet C").train()
    optimizer = make_optimizer(chain, recipe_of("stochastic_depth2016"), frozen=True)
    train_step(chain, optimizer, BATCH, [1.0, 1.0, 1.0], lr=LR, smoothing=0.0, arithmetic=FP32, frozen=True)
    weights = [weight.detach().clone() for weight in chain.units[1].branch.parameters()]
    momenta = [optimizer.state[weight]["momentum_buffer"].clone() for weight in chain.units[1].branch.parameters()]
    train_step(chain, optimizer, BATCH, [1.0, 0.0, 1.0], lr=LR, smoothing=0.0, arithmetic=FP32, frozen=True)
    for weight, before, momentum in zip(chain.units[1].branch.parameters(), weights, momenta, strict=True):
        assert torch.equal(weight, before)
        assert torch.equal(optimizer.state[weight]["momentum_buffer"], momentum)


def test_weight_decay_leaves_norms_and_biases_alone_where_the_recipe_says_so() -> None:
    chain = small_network("resnet A")
    decays = {
        name: group["weight_decay"]
        for group in make_optimizer(chain, recipe_of("fast")).param_groups
        for name, weight in chain.named_parameters()
        if any(weight is one for one in group["params"])
    }
    assert decays.keys() == dict(chain.named_parameters()).keys()
    assert {name for name, decay in decays.items() if decay == 0} == {
        name for name in decays if "norm" in name or name.endswith("bias")
    }
    assert set(decays.values()) == {0.0, 5e-4}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_returns_the_mean_loss_and_the_wrong_answers(smoothing: float) -> None:
    chain = small_network("preresnet").train()
    scores = copy.deepcopy(chain)(BATCH.images).detach()
    targets = F.one_hot(BATCH.labels, 10) * (1 - smoothing) + smoothing / 10
    optimizer = make_optimizer(chain, recipe_of("fast"))
    loss, wrong = train_step(chain, optimizer, BATCH, None, lr=LR, smoothing=smoothing, arithmetic=FP32)
    assert loss == pytest.approx(float(-(targets * scores.log_softmax(1)).sum(1).mean()), rel=1e-6)
    assert int(wrong) == sum(int(row.argmax()) != label for row, label in zip(scores, BATCH.labels, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_process_without_images_takes_part_with_gradients_of_zero(checkpointing: bool, precision: str) -> None:
    chain = small_network("resnet A").train()
    before = {name: buffer.clone() for name, buffer in chain.named_buffers()}
    optimizer = make_optimizer(chain, recipe_of("he2015"), frozen=True)
    nothing = Batch(images(8)[:0], BATCH.labels[:0], 1)
    gradients = {}
    for name, weight in chain.named_parameters():
        weight.register_hook(lambda gradient, name=name: gradients.update({name: gradient.clone()}))
    loss, wrong = train_step(
        engine_of(chain, checkpointing),
        optimizer,
        nothing,
        None,
        lr=LR,
        smoothing=0.1,
        arithmetic=Arithmetic(precision, "contiguous"),
        frozen=True,
    )
    assert (loss, int(wrong)) == (0.0, 0)
    assert gradients.keys() == dict(chain.named_parameters()).keys()
    assert all(not gradient.any() for gradient in gradients.values())
    assert all(torch.equal(buffer, before[name]) for name, buffer in chain.named_buffers())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_photos_in_parts_give_the_gradients_of_the_mini_batch(
    checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And pass as a whole where a norm takes their statistics."""
    batch, sizes, found = replace(BATCH, images=BATCH.images.double()), [], []
    three = 3 * batch.images[0, 0].numel()
    for pixels, training in ((three, False), (8 * three, False), (three, True)):
        monkeypatch.setattr(parts_of, "__defaults__", (pixels,))
        chain = small_network("resnet A").double().train(training)
        chain.stem.register_forward_hook(lambda stem, given, x: sizes.append(len(x)))
        optimizer, engine = make_optimizer(chain, recipe_of("he2015")), engine_of(chain, checkpointing)
        gates = [SAMPLES, ~SAMPLES, 1.0] * 2
        told = train_step(engine, optimizer, batch, gates, lr=LR, smoothing=0.1, arithmetic=FP32, clip=1.0)
        found.append((told, list(chain.parameters())))
    assert sizes == [3, 3, 2, 8, 8]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_placing_a_chain_lays_out_its_weights_and_changes_none(memory_format: str) -> None:
    chain = small_network("densenet")
    before = {name: weight.clone() for name, weight in chain.state_dict().items()}
    placed = place(chain, Arithmetic("fp32", memory_format), torch.device("cpu"))
    assert placed is chain
    kernels = [weight for weight in chain.parameters() if weight.dim() == 4 and min(weight.shape[1:]) > 1]
    wanted = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    assert all(kernel.is_contiguous(memory_format=wanted) for kernel in kernels)
    assert all(torch.equal(weight, before[name]) for name, weight in chain.state_dict().items())


def test_of_mixed_images_the_larger_share_is_right_and_the_loss_is_that_of_the_shares() -> None:
    chain = small_network("resnet A")
    answers = chain(BATCH.images).argmax(1)
    others = (answers + 1) % 10
    shares = torch.tensor([0.7] * 6 + [0.3] * 2)[:, None]  # six answers right, two wrong
    soft = shares * F.one_hot(answers, 10) + (1 - shares) * F.one_hot(others, 10)
    expected = -(soft * chain(BATCH.images).log_softmax(1)).sum(1).mean().item()
    optimizer = make_optimizer(chain, recipe_of("he2015"))
    batch = Batch(BATCH.images, soft, 8)
    loss, wrong = train_step(chain, optimizer, batch, None, lr=0.0, smoothing=0.0, arithmetic=FP32)
    assert wrong == 2
    assert loss == pytest.approx(expected, rel=1e-6)
