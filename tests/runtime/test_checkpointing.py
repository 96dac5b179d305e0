"""Activations that are computed twice: the same loss, gradients and statistics as the chain's own."""

import copy
import math
from itertools import product

import pytest
import torch
from tests.oracles import SMALL, images, in_turn, small_network
from torch import nn
from torch.nn import functional as F

from howdeep.chain import Chain, Gates
from howdeep.runtime.checkpointing import Checkpointed
from howdeep.runtime.modes import frozen_statistics, norms_of

LABELS = torch.tensor([0, 3, 5, 9, 1, 2, 7, 8])


def learned(engine: nn.Module, chain: Chain, gates: Gates, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return loss, gradients and buffers after one training pass."""
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        scores = engine(images(8), gates)
    loss = F.cross_entropy(scores.float(), LABELS)
    loss.backward()
    gradients = {f"gradient of {name}": one.grad for name, one in chain.named_parameters() if one.grad is not None}
    return {"loss": loss.detach(), **gradients, **{name: one.clone() for name, one in chain.named_buffers()}}


GATES = {
    "open": lambda units: [1.0] * units,
    "closed in batches": lambda units: [float(unit % 3 != 1) for unit in range(units)],
    "closed for samples": lambda units: [torch.arange(8) % (unit + 2) != 0 for unit in range(units)],
    "closed for all samples": lambda units: [torch.zeros(8, dtype=torch.bool)] * units,
}


def test_learned_gates_get_the_same_gradients_when_activations_are_computed_twice() -> None:
    chain = small_network("preresnet").train()
    gates = torch.tensor([0.0, 1.0, 0.5, -1.0, 0.0, 2.0]).requires_grad_()
    expected = learned(copy.deepcopy(chain), chain, gates, torch.float32)
    own, gates.grad = gates.grad, None
    found = learned(Checkpointed(chain), chain, gates, torch.float32)
    assert torch.equal(found["loss"], expected["loss"])
    assert own is not None
    assert own.all()
    assert gates.grad is not None
    assert torch.equal(gates.grad, own)


@pytest.mark.parametrize(("family", "case"), in_turn(SMALL, product(GATES, [torch.float32, torch.bfloat16])))
def test_saving_memory_changes_no_bit_of_loss_gradients_and_statistics(family: str, case) -> None:
    gates, dtype = GATES[case[0]], case[1]
    chain = small_network(family, dropout=0.3).train()
    twin = copy.deepcopy(chain)
    expected = learned(chain, chain, gates(len(chain)), dtype)
    found = learned(Checkpointed(twin), twin, gates(len(twin)), dtype)
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_statistics_move_once_and_are_counted_once() -> None:
    chain = small_network("resnet A").train()
    before = {name: buffer.clone() for name, buffer in chain.named_buffers()}
    learned(Checkpointed(chain), chain, [1.0] * len(chain), torch.float32)
    after = dict(chain.named_buffers())
    counts = [name for name in before if name.endswith("num_batches_tracked")]
    assert counts
    assert all(int(after[name]) == int(before[name]) + 1 for name in counts)
    assert not torch.equal(after["stem.norm.running_mean"], before["stem.norm.running_mean"])


def test_the_buffers_stay_the_same_tensors() -> None:
    chain = small_network("resnet A").train()
    before = {name: id(buffer) for name, buffer in chain.named_buffers()}
    learned(Checkpointed(chain), chain, [1.0] * len(chain), torch.float32)
    assert {name: id(buffer) for name, buffer in chain.named_buffers()} == before


def test_statistics_come_back_after_an_error() -> None:
    chain = small_network("resnet A").train()
    before = {name: id(buffer) for name, buffer in chain.named_buffers()}
    with pytest.raises(ZeroDivisionError), frozen_statistics(norms_of(chain)):
        raise ZeroDivisionError
    assert {name: id(buffer) for name, buffer in chain.named_buffers()} == before


@pytest.mark.parametrize("units", [1, 3, 6, 30])
def test_kept_maps_fall(units: int) -> None:
    from howdeep.networks import build, spec_of

    chain = build(spec_of(f"cifar_resnet{6 * units + 2}")).train()
    assert Checkpointed(chain).segments == round(2.5 * math.sqrt(len(chain.body)))
    assert kept(Checkpointed(chain)) < kept(chain)


def kept(engine: nn.Module) -> int:
    """Return the bytes that autograd keeps between forward and backward pass, parameters left out."""
    parameters, sizes = {one.data_ptr() for one in engine.parameters()}, {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scores = engine(images(2))
    assert scores.requires_grad
    return sum(sizes.values())
