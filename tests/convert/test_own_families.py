"""Our own networks, traced: the same units as the chains that they are."""

import pytest
import torch
from tests.oracles import SMALL, images, small_network, stream
from torch.utils.flop_counter import FlopCounterMode

from howdeep.chain import Concatenate
from howdeep.convert import unravel

ALIKE = ("resnet B", "preresnet", "preresnet B", "preresnet C", "densenet")
"""Families of which another has all operators, shortcuts and merges: they are tried by hand."""
FAMILIES = [pytest.param(family, marks=[pytest.mark.slow] * (family in ALIKE)) for family in SMALL if family != "plain"]


def cost(unit, x):
    """Return the parameters of a unit and its multiply-adds."""
    with FlopCounterMode(display=False) as counter:
        unit(x)
    return sum(weight.numel() for weight in unit.parameters()), counter.get_total_flops() // 2


def one_gate(chain, index, gate):
    """Return open gates but for one."""
    return [gate if number == index else 1.0 for number in range(len(chain))]


def inputs(chain, batch):
    """Return what every unit of a chain reads."""
    maps = stream(chain, batch)
    return [x for module, x in zip(chain.body, maps, strict=False) if module in chain.units]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request):
    """A chain and what is made of it as of a network of others."""
    chain = small_network(request.param)
    return chain, unravel(chain, images(1))


@torch.no_grad()
def test_traced_network_has_the_units_of_the_chain(pair):
    (chain, traced), batch = pair, images()
    assert len(traced) == len(chain)
    assert [isinstance(unit.merge, Concatenate) for unit in traced.units] == [
        isinstance(unit.merge, Concatenate) for unit in chain.units
    ]
    for one, other, x, y in zip(chain.units, traced.units, inputs(chain, batch), inputs(traced, batch), strict=True):
        assert cost(one, x) == cost(other, y)


@torch.no_grad()
def test_traced_network_obeys_the_same_gates(pair):
    (chain, traced), batch = pair, images()
    assert torch.equal(traced(batch), chain(batch))
    for index in range(len(chain)):
        for gate in (0.0, None, 0.5, torch.tensor([True, False, True, False])):
            gates = one_gate(chain, index, gate)
            assert torch.equal(traced(batch, gates), chain(batch, gates)), f"unit {index + 1}, gate {gate}"


@torch.no_grad()
def test_plain_network_becomes_its_layers_with_the_same_weights():
    chain, batch = small_network("plain"), images()
    traced = unravel(chain, batch[:1])
    assert torch.equal(traced(batch), chain(batch))
    assert len(traced) == 2 * len(chain)  # a plain unit of ours has two layers
    ours, theirs = (sum(weight.numel() for weight in one.parameters()) for one in (chain, traced))
    assert ours == theirs
    for index, unit in enumerate(chain.units):
        pair = traced.units[2 * index : 2 * index + 2]
        assert unit.merge.removable == all(layer.merge.removable for layer in pair)
        for gate in (0.0, None) if unit.merge.removable else (0.0,):
            layers = one_gate(traced, 2 * index + 1, gate)
            layers[2 * index] = None if gate is None else 1.0
            assert torch.equal(traced(batch, layers), chain(batch, one_gate(chain, index, gate)))
