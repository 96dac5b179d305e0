"""Frozen units: they stay as they are and are not back-propagated, and the others train as they would anyway."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from tests.oracles import images, small_network
from torch.nn import functional as F

import howdeep
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.runtime.modes import norms_of
from howdeep.runtime.precision import Arithmetic
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import recipe_of
from howdeep.training.step import engine_of, frozen_parts, ready, train_step

BATCH = Batch(images(8), torch.tensor([0, 3, 5, 9, 1, 2, 7, 8]), 8)
SGD = replace(recipe_of("fast"), momentum=0.0, nesterov=False, weight_decay=0.0)
LR = 0.01


def network(name: str) -> Chain:
    if name != "traced":
        return small_network(name)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10).eval()
    return howdeep.unravel(model, torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("name", ["resnet B", "densenet_bc", "traced"])
def test_frozen_units_stay_and_the_others_move_as_if_only_their_gradients_were_taken(
    name: str, checkpointing: bool
) -> None:
    chain, count = network(name), 2
    other = copy.deepcopy(chain)
    recipe = replace(SGD, freeze=count)
    ready(chain, recipe)
    before = {name: tensor.clone() for name, tensor in chain.state_dict().items()}
    optimizer, engine = make_optimizer(chain, recipe), engine_of(chain, checkpointing)
    # By hand: all gradients, of which those of the later parts are followed.
    other.train()
    for norm in (norm for part in frozen_parts(other, count) for norm in norms_of(part)):
        norm.training = False
    early = {id(one) for part in frozen_parts(other, count) for one in part.parameters()}
    late = [one for one in other.parameters() if id(one) not in early]
    for _ in range(2):
        train_step(engine, optimizer, BATCH, None, lr=LR, smoothing=0.0, arithmetic=Arithmetic("fp32", "contiguous"))
        gradients = torch.autograd.grad(F.cross_entropy(other(BATCH.images), BATCH.labels), late)
        with torch.no_grad():
            for weight, gradient in zip(late, gradients, strict=True):
                weight -= LR * gradient
    found, expected = chain.state_dict(), other.state_dict()
    kept = {
        name for name in found if not name.endswith("num_batches_tracked") and torch.equal(found[name], before[name])
    }
    stay = {name for name, one in other.named_parameters() if id(one) in early}
    assert stay <= kept
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-6) for name in found)
    assert all(
        not torch.equal(found[name], before[name]) for name, one in other.named_parameters() if id(one) not in early
    )


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_kept_for_a_backward_pass_through_frozen_units(count: int) -> None:
    chain = small_network("resnet B")
    ready(chain, replace(SGD, freeze=count))
    needed = []
    for unit in chain.units:
        unit.register_forward_hook(lambda unit, given, output: needed.append(output.requires_grad))
    assert chain(BATCH.images).requires_grad
    assert needed == [False] * count + [True] * (len(chain) - count)


def test_links_behind_the_last_frozen_unit_are_trained() -> None:
    chain = small_network("densenet_bc")
    links = [place for place, module in enumerate(chain.body) if module not in chain.units]
    for count in range(1, len(chain) + 1):
        parts = frozen_parts(chain, count)
        assert parts[0] is chain.stem
        assert parts[-1] is chain.units[count - 1]
        assert sum(part in chain.units for part in parts) == count
    assert links, "the test is about them"
    assert frozen_parts(chain, 0) == []


def test_frozen_statistics_are_those_of_norms_alone() -> None:
    chain = small_network("resnet A")
    ready(chain, replace(SGD, freeze=0, norm_statistics="frozen"))
    assert all(weight.requires_grad for weight in chain.parameters())
    assert not any(norm.training for norm in norms_of(chain))
    assert all(unit.training for unit in chain.units)
