"""A cut chain is the old chain with those gates closed: the same scores, to rounding, from fewer layers."""

from collections.abc import Collection
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis.cases import NETWORKS, batch_for, network, wide
from tests.oracles import SMALL, Scale, chain_of, images, linear_chain, paper_output, small_network, untimed
from torch import nn

from howdeep import Add, AddReLU, Chain, Concatenate, Survival, Unit, UserError, build, spec_of
from howdeep.networks.counting import describe_chain
from howdeep.transform.removal import Closed, Surrounded, narrows, without

RULES = [None, Survival("linear", 0.5), Survival("uniform", 0.8)]
DENSE = ["densenet", "densenet_bc"]


def removable(chain: Chain) -> list[int]:
    return [index for index, unit in enumerate(chain.units) if unit.merge.removable]


def assert_same(chain: Chain, removed: Collection[int], x: torch.Tensor) -> Chain:
    """The cut chain's scores are those of the chain with these units taken out."""
    gates = list(chain.resolve(None))
    for index in removed:
        gates[index] = None
    cut = without(chain, removed)
    with torch.no_grad():
        expected, actual = chain(x, gates), cut(x)
    assert (actual - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert len(cut) == len(chain) - len(set(removed))
    assert not any(unit in cut.units for unit in chain.units)
    return cut


@untimed
@given(st.lists(st.tuples(st.floats(-2, 2), st.booleans()), min_size=1, max_size=6))
def test_a_linear_chain_loses_the_factors_of_the_units_that_go(units: list[tuple[float, bool]]) -> None:
    weights, kept = [weight for weight, _ in units], [float(stays) for _, stays in units]
    cut = without(linear_chain(weights), [index for index, stays in enumerate(kept) if not stays])
    x = torch.tensor([[3.0]], dtype=torch.float64)
    assert cut(x).item() == pytest.approx(paper_output(3.0, weights, kept))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_single_unit_none_of_them_and_all_of_them(name: str) -> None:
    chain, batch = wide(network(name), batch_for(name))
    for removed in ([], removable(chain), *([index] for index in removable(chain))):
        assert_same(chain, removed, batch.images)


@cache
def double(name: str) -> Chain:
    return small_network(name).double()


@pytest.mark.parametrize("name", ["plain", "resnet B", "preresnet B", "densenet", "densenet_bc"])
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_any_subset_under_any_rule_of_survival(name: str, data: st.DataObject) -> None:
    chain = double(name)
    chain.rule = data.draw(st.sampled_from(RULES))
    removed = data.draw(st.sets(st.sampled_from(removable(chain))))
    assert without(chain, removed).rule is None
    assert_same(chain, removed, images().double())


@pytest.mark.parametrize("name", SMALL)
def test_networks_without_norms(name: str) -> None:
    chain = small_network(name, normed=False).double()
    assert_same(chain, removable(chain)[1::2], images().double())


@pytest.mark.parametrize("name", ["densenet121", "resnet18"])
def test_the_large_networks(name: str) -> None:
    chain = build(spec_of(name, classes=5), seed=1).double().eval()
    assert_same(chain, range(1, len(chain), 3), images(1, size=32).double())


def test_a_unit_with_an_identity_shortcut_leaves_nothing_and_others_their_shortcut() -> None:
    chain = small_network("resnet A")
    body = list(without(chain, [1, 2]).body)
    assert len(body) == len(chain.body) - 1
    assert [type(module) for module in body] == [Unit, Closed, Unit, Unit, Unit]


def test_an_activation_stays_where_the_shortcut_is_a_projection() -> None:
    unit = Unit(Scale(1.0), Scale(-1.0), AddReLU(identity=False))
    cut = without(Chain(nn.Identity(), [unit], nn.Identity()), [0])
    assert cut(torch.tensor([[2.0, -3.0]], dtype=torch.float64)).tolist() == [[0.0, 3.0]]


@pytest.mark.parametrize("name", DENSE)
def test_dense_maps_are_not_made_at_all(name: str) -> None:
    chain = small_network(name)
    before, after = (describe_chain(one, (3, 8, 8), name="", family="") for one in (chain, without(chain, [0, 1])))
    maps = sum(unit.merge.channels for unit in chain.units[:2])  # type: ignore[misc]
    reads = [part.input[0] for part in before.parts], [part.input[0] for part in after.parts]
    assert reads[1][1] == reads[0][1 + 2] - maps
    assert after.macs < before.macs


def test_the_constant_of_a_norm_stops_at_the_border_of_the_map() -> None:
    """One map of zeros, a norm that makes it 2, a 3×3 convolution of ones: 4, 6 and 9 times 2, counted by hand."""
    dense = Unit(nn.Sequential(nn.Conv2d(1, 1, 1)), nn.Identity(), Concatenate(1))
    norm, convolution = nn.BatchNorm2d(2), nn.Conv2d(2, 1, 3, padding=1, bias=False)
    nn.init.constant_(norm.bias, 2.0)
    nn.init.ones_(convolution.weight)
    reader = Unit(nn.Sequential(norm, nn.ReLU(), convolution), nn.Identity(), Concatenate(1))
    head = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False))
    head[0].weight.data = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    cut = without(Chain(nn.Identity(), [dense, reader], head).eval(), [0])
    assert any(isinstance(part, Surrounded) for part in cut.modules())
    seen = cut(torch.full((1, 1, 3, 3), -100.0))  # its own map is far below zero: the ReLU closes it
    assert seen.flatten().tolist() == [8.0, 12.0, 8.0, 12.0, 18.0, 12.0, 8.0, 12.0, 8.0]


@pytest.mark.parametrize("name", ["resnet B", "preresnet", *DENSE])
def test_a_second_cut_gives_the_network_of_one_cut_of_both(name: str) -> None:
    """Names and shapes of the weights too: a run folder builds what was cut twice in one go."""
    chain, x = small_network(name).double(), images().double()
    twice, once = without(without(chain, [1, 3]), [0, 2]), without(chain, [0, 1, 3, 4])
    assert {key: value.shape for key, value in twice.state_dict().items()} == {
        key: value.shape for key, value in once.state_dict().items()
    }
    torch.testing.assert_close(twice(x), once(x), rtol=0, atol=1e-12)


def test_constants_of_a_second_cut_are_added_to_those_of_the_first() -> None:
    chain, x = build(spec_of("cifar_densenet22_k4"), seed=1).double().eval(), images().double()
    for norm in (part for part in chain.modules() if isinstance(part, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, 0.5, 1.0)
    twice, once = without(without(chain, [0, 2]), [0]), without(chain, [0, 1, 2])
    assert any(isinstance(part, Surrounded) for part in twice.modules())
    torch.testing.assert_close(twice(x), once(x), rtol=0, atol=1e-12)


def test_the_weights_of_the_old_chain_stay_as_they_are() -> None:
    chain = small_network("densenet")
    chain.rule = Survival("linear", 0.5)
    before = {key: value.clone() for key, value in chain.state_dict().items()}
    without(chain, [0, 3])
    assert all(torch.equal(before[key], value) for key, value in chain.state_dict().items())


def test_gradients_and_training_mode_survive() -> None:
    cut = without(small_network("densenet_bc").train(), [1])
    assert cut.training
    cut(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in cut.parameters())


def test_a_branch_whose_end_is_unknown_is_scaled_from_outside() -> None:
    chain = linear_chain([2.0, 5.0])
    chain.rule = Survival("uniform", 0.5)
    assert without(chain, [1])(torch.tensor([[1.0]], dtype=torch.float64)).item() == 1 + 0.5 * 2


def test_traced_dense_networks_keep_zeros_in_place_of_maps() -> None:
    chain = network("torchvision densenet")
    assert not narrows(chain)
    assert any(isinstance(module, Closed) for module in without(chain, [1]).body)


def test_no_activation_comes_twice_where_a_traced_unit_is_gone() -> None:
    """torchvision's ReLU stands behind the unit, as a link of its own."""
    chain = network("torchvision resnet18")
    assert len(chain.body) - len(without(chain, [1, 3]).body) == 4


def test_what_cannot_go_is_named() -> None:
    chain = small_network("plain")
    with pytest.raises(UserError, match="unit 2 cannot be taken out: it changes the shape"):
        without(chain, [1])
    for index in (-1, 3):
        with pytest.raises(UserError, match=f"no unit {index + 1} to take out: the network has 3"):
            without(chain, [index])


def test_all_units_of_a_chain_of_one() -> None:
    assert len(without(chain_of([Scale(1.0)], Add()), [0]).body) == 0
