"""Optimizers against their rules: rates by depth, clipping, AdamW and Muon, and their state in a checkpoint."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.oracles import images, small_network
from torch import nn
from torch.nn import functional as F

import howdeep
from howdeep.chain import Add, Chain, Gates, Unit
from howdeep.data import Batch
from howdeep.runs import checkpoints
from howdeep.runtime.precision import Arithmetic, place
from howdeep.training.optimizers import make_optimizer, restore, state_of
from howdeep.training.recipes import Recipe, recipe_of
from howdeep.training.step import train_step

FP32 = Arithmetic("fp32", "contiguous")
BATCH = Batch(images(8), torch.tensor([0, 3, 5, 9, 1, 2, 7, 8]), 8)
LR = 0.01
SGD = replace(recipe_of("fast"), momentum=0.0, nesterov=False, weight_decay=0.0)
ADAMW = replace(recipe_of("fast"), optimizer="adamw", weight_decay=0.05)
MUON = replace(ADAMW, optimizer="muon")


def step(chain: Chain, optimizer: torch.optim.Optimizer, gates: Gates | None = None, **more) -> None:
    train_step(chain, optimizer, BATCH, gates, lr=LR, smoothing=0.0, arithmetic=FP32, **more)


def three_units() -> Chain:
    """stem, unit, link, unit, unit, head: all linear."""
    torch.manual_seed(0)
    first, second, third = (Unit(nn.Linear(6, 6), nn.Identity(), Add()) for _ in range(3))
    stem = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6))
    return Chain(stem, [first, nn.Linear(6, 6), second, third], nn.Linear(6, 10))


def gradients(chain: Chain) -> dict[str, torch.Tensor]:
    chain = copy.deepcopy(chain)
    chain.zero_grad(set_to_none=True)
    F.cross_entropy(chain(BATCH.images), BATCH.labels).backward()
    return {name: weight.grad for name, weight in chain.named_parameters() if weight.grad is not None}


def test_rates_fall_towards_the_stem_by_the_decay_per_unit() -> None:
    """w ← w − η·d^k·g: k is 0 in the head, 1, 2, 3 in the units from there, 4 in the stem."""
    chain, distance = three_units(), {"head": 0, "body.3": 1, "body.2": 2, "body.1": 2, "body.0": 3, "stem": 4}
    before, slopes = {name: one.detach().clone() for name, one in chain.named_parameters()}, gradients(chain)
    step(chain, make_optimizer(chain, replace(SGD, layer_decay=0.5)))
    for name, weight in chain.named_parameters():
        part = next(part for part in distance if name.startswith(part))
        expected = before[name] - LR * 0.5 ** distance[part] * slopes[name]
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-6, atol=1e-9)
        assert not torch.equal(weight, before[name])


def test_rates_and_weight_decay_of_convnext_are_timms() -> None:
    timm = pytest.importorskip("timm")
    from timm.optim._param_groups import param_groups_layer_decay

    network = timm.create_model("convnext_atto", num_classes=5)
    theirs = {
        weight: (pytest.approx(group["lr_scale"]), group["weight_decay"])
        for group in param_groups_layer_decay(network, layer_decay=0.8, weight_decay=0.05)
        for weight in group["params"]
    }
    chain = howdeep.unravel(network, torch.randn(1, 3, 64, 64))
    ours = {
        weight: (group["scale"], group["weight_decay"])
        for group in make_optimizer(chain, replace(ADAMW, layer_decay=0.8)).param_groups
        for weight in group["params"]
    }
    assert ours == theirs


def test_gradients_are_clipped_to_their_common_norm() -> None:
    chain = three_units()
    before, slopes = {name: one.detach().clone() for name, one in chain.named_parameters()}, gradients(chain)
    norm = float(torch.cat([slope.flatten() for slope in slopes.values()]).norm())
    step(chain, make_optimizer(chain, SGD), clip=norm / 4)
    for name, weight in chain.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name] - LR * slopes[name] / 4, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "momentum"])
def test_adamw_moves_weights_as_its_paper_says_closed_units_included(frozen: bool) -> None:
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², w ← w − ηλw − η·m̂/(√v̂ + ε); a closed unit has g = 0, or stays."""
    chain = small_network("resnet C").train()
    other, optimizer = copy.deepcopy(chain), make_optimizer(chain, ADAMW, frozen=frozen)
    state = {name: [torch.zeros_like(one), torch.zeros_like(one), 0] for name, one in other.named_parameters()}
    for gates in ([1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0]):
        step(chain, optimizer, gates, frozen=frozen)
        other.zero_grad(set_to_none=True)
        F.cross_entropy(other(BATCH.images, gates), BATCH.labels).backward()
        for name, weight in other.named_parameters():
            if weight.grad is None and frozen:
                continue
            slope, one = torch.zeros_like(weight) if weight.grad is None else weight.grad, state[name]
            one[:] = [0.9 * one[0] + 0.1 * slope, 0.999 * one[1] + 0.001 * slope**2, one[2] + 1]
            mean, square = one[0] / (1 - 0.9 ** one[2]), one[1] / (1 - 0.999 ** one[2])
            weight.data *= 1 - LR * (0.05 if weight.dim() > 1 else 0.0)
            weight.data -= LR * mean / (square.sqrt() + 1e-8)
    found = dict(chain.named_parameters())
    for name, weight in other.named_parameters():
        torch.testing.assert_close(found[name].detach(), weight.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_muon_moves_hidden_matrices_as_torch_does_and_adamw_the_rest(memory_format: str) -> None:
    chain = place(small_network("resnet C").train(), Arithmetic("fp32", memory_format), torch.device("cpu"))
    before, slopes = {name: one.detach().clone() for name, one in chain.named_parameters()}, gradients(chain)
    step(chain, make_optimizer(chain, MUON))
    for name, weight in chain.named_parameters():
        one = nn.Parameter(before[name].flatten(1).clone() if weight.dim() > 1 else before[name].clone())
        one.grad = slopes[name].reshape(one.shape)
        hidden = weight.dim() > 1 and name.startswith("body")
        if hidden:
            rule = torch.optim.Muon([one], lr=LR, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        else:
            rule = torch.optim.AdamW([one], lr=LR, weight_decay=0.05 if weight.dim() > 1 else 0.0)
        rule.step()
        expected, moved = one.detach().view_as(weight) - before[name], weight.detach() - before[name]
        # Muon computes in bfloat16, and in another order where the columns are.
        assert (moved - expected).norm() <= (0.05 if hidden else 1e-4) * expected.norm()
        assert expected.norm() > 0


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "momentum"])
def test_muon_leaves_the_gradients_of_a_step_as_asked_for(frozen: bool) -> None:
    chain = small_network("resnet C").train()
    optimizer = make_optimizer(chain, MUON, frozen=frozen)
    closed = [weight.detach().clone() for weight in chain.units[1].branch.parameters()]
    step(chain, optimizer, [1.0, 0.0, 1.0], frozen=frozen)
    assert all((weight.grad is None) == frozen for weight in chain.parameters())
    same = [torch.equal(one, two) for one, two in zip(chain.units[1].branch.parameters(), closed, strict=True)]
    assert all(same) == frozen


@pytest.mark.parametrize("recipe", [recipe_of("he2015"), ADAMW, MUON], ids=["sgd", "adamw", "muon"])
def test_an_optimizer_goes_on_from_a_checkpoint_to_the_bit(recipe: Recipe, tmp_path: Path) -> None:
    chain = place(small_network("resnet C").train(), Arithmetic("fp32", "channels_last"), torch.device("cpu"))
    optimizer = make_optimizer(chain, recipe, frozen=True)
    step(chain, optimizer, [1.0, 0.0, 1.0], frozen=True)
    path = checkpoints.save(tmp_path, 1, tensors=state_of(optimizer, chain), state={})
    other = copy.deepcopy(chain)
    other_optimizer = make_optimizer(other, recipe, frozen=True)
    restore(other_optimizer, other, checkpoints.load(path))
    for gates in ([1.0, 1.0, 1.0], [0.0, 1.0, 1.0]):
        step(chain, optimizer, gates, frozen=True)
        step(other, other_optimizer, gates, frozen=True)
    for one, two in zip(chain.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
