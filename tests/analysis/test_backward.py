"""The backward pass unit by unit: autograd's numbers, its two ways, one path at a time."""

from collections.abc import Mapping
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.cases import NETWORKS, Fixed, batch_for, network, vectors, wide
from tests.oracles import Mask, Scale, Untouchable, chain_of, in_turn, linear_chain, masks, untimed, weight_lists
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.analysis.gradients import (
    Pull,
    exact_gradients,
    forward,
    image_norms,
    ordinary,
    path_counts,
    path_norms,
    sweep,
)
from howdeep.chain import AddReLU, Chain, Concatenate, Replace, Unit, run
from howdeep.data import Batch
from howdeep.util.errors import UserError

SMALL_ENOUGH = [name for name in NETWORKS if name != "torchvision resnet18"]
"""At most six units: 64 paths."""


def gradient_of(chain: Chain, batch: Batch) -> Tensor:
    """Return autograd's gradient of the summed loss before the first unit; links before it belong to the stem."""
    steps, start = chain.steps(), next(place for place, one in enumerate(chain.body) if isinstance(one, Unit))
    first = run(steps[:start], chain.stem(batch.images)).detach().requires_grad_()
    loss = F.cross_entropy(chain.head(run(steps[start:], first)), batch.labels, reduction="sum")
    return torch.autograd.grad(loss, first)[0]


def single_paths(chain: Chain, batch: Batch) -> dict[Mask, Tensor]:
    """Return the gradient along every single path that exists: 1 through the branch, 0 by the shortcut."""

    def route(_: int, behind: Mapping[Mask, Tensor], shortcut: Pull, branch: Pull) -> dict[Mask, Tensor]:
        ways: dict[Mask, Tensor | None] = {
            (choice, *mask): way(g) for mask, g in behind.items() for choice, way in enumerate((shortcut, branch))
        }
        return {mask: gradient for mask, gradient in ways.items() if gradient is not None}

    return sweep(forward(chain, batch), cast(Mask, ()), route)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_pass_over_the_body_is_autograds_gradient(name: str) -> None:
    chain, batch = wide(network(name), batch_for(name))
    whole = ordinary(forward(chain, batch))
    torch.testing.assert_close(whole, gradient_of(chain, batch), rtol=1e-9, atol=1e-15)
    assert whole.abs().max() > 0


@pytest.mark.parametrize(("name", "survival"), in_turn(SMALL_ENOUGH, [False, True, True]))
def test_gradients_of_all_single_paths_add_up_to_autograds(name: str, survival: bool) -> None:
    """prod(I + J) expanded, for every merge, shortcut and link; and by length they are the exact gradients."""
    chain, batch = wide(network(name), batch_for(name, 2))
    if survival:
        chain.rule = Fixed(*(1 - unit / 10 for unit in range(len(chain))))
    paths = single_paths(chain, batch)
    assert len(paths) == (1 if name == "plain" else 2 ** len(chain))
    expected = gradient_of(chain, batch)
    torch.testing.assert_close(torch.stack(list(paths.values())).sum(0), expected, rtol=1e-8, atol=1e-14)
    exact = exact_gradients(forward(chain, batch))
    assert exact.keys() == path_counts(chain).keys()
    for length, gradient in exact.items():
        alike = [found for mask, found in paths.items() if sum(mask) == length]
        assert len(alike) == path_counts(chain)[length]
        torch.testing.assert_close(gradient, torch.stack(alike).sum(0), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_norms_of_single_paths_are_those_of_their_gradients(name: str) -> None:
    chain, batch = wide(network(name), batch_for(name, 3))
    paths = single_paths(chain, batch)
    choices = [tuple(bool(step) for step in mask) for mask in paths]
    found = path_norms(forward(chain, batch), choices)
    for (number, exponent), gradient in zip(found, paths.values(), strict=True):
        expected = sum(float(image.norm()) for image in gradient)
        assert number * 2.0**exponent == pytest.approx(expected, rel=1e-9)


@untimed
@given(weights=weight_lists, data=st.data())
def test_a_path_of_a_linear_chain_carries_the_product_of_its_weights(weights: list[float], data: st.DataObject) -> None:
    gates = data.draw(st.lists(st.floats(0.1, 1), min_size=len(weights), max_size=len(weights)))
    chain, batch = linear_chain(weights), vectors()
    chain.rule = Fixed(*gates)
    stream, paths = forward(chain, batch), single_paths(chain, batch)
    assert len(paths) == 2 ** len(weights)
    for mask in masks(len(weights)):
        factor = 1.0
        for opened, weight, gate in zip(mask, weights, gates, strict=True):
            factor *= gate * weight if opened else 1.0
        torch.testing.assert_close(paths[mask], factor * stream.last, rtol=1e-12, atol=1e-300)


def test_the_two_ways_of_a_unit_add_up_to_its_transpose_behind_every_merge() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for merge in (AddReLU(identity=False), Concatenate(3), Replace(3, stride=1, removable=True)):
        unit = Unit(nn.Sequential(nn.Conv2d(3, 3, 1).double(), nn.Tanh()), Scale(0.5), merge)
        chain = Chain(nn.Identity(), [unit], nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        batch = Batch(x, torch.tensor([0, 2]), 2)
        ways = single_paths(chain, batch)
        assert ((0,) in ways) == merge.passes_shortcut
        torch.testing.assert_close(sum(ways.values()), gradient_of(chain, batch), rtol=1e-10, atol=1e-15)
        assert all(gradient.abs().max() > 0 for gradient in ways.values())


@pytest.mark.parametrize("gate", [0.0, None])
def test_a_closed_branch_is_no_way_and_is_not_computed(gate: float | None) -> None:
    chain = chain_of([Scale(0.5), Untouchable(), Scale(0.25)])
    chain.rule = Fixed(1.0, gate, 1.0)
    paths = single_paths(chain, vectors())
    assert sorted(paths) == [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)]
    assert path_counts(chain) == {0: 1, 1: 2, 2: 1}
    total = torch.stack(list(paths.values())).sum(0)
    torch.testing.assert_close(total, 1.5 * 1.25 * forward(chain, vectors()).last)


def test_the_gradient_of_an_image_is_that_of_its_own_loss_whoever_is_beside_it() -> None:
    chain, batch = wide(network("resnet B"), batch_for("resnet B", 3))
    together = exact_gradients(forward(chain, batch))
    for image in range(3):
        alone = Batch(batch.images[image : image + 1], batch.labels[image : image + 1], 1)
        for length, gradient in exact_gradients(forward(chain, alone)).items():
            torch.testing.assert_close(gradient[0], together[length][image], rtol=1e-9, atol=1e-15)


def test_norms_are_euclidean_and_one_per_image() -> None:
    gradient = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    assert image_norms(gradient).tolist() == [5.0, 0.0]
    assert image_norms(gradient).dtype == torch.float64


def test_a_chain_keeps_its_weights_gradients_and_mode() -> None:
    chain = network("preresnet")
    before = {name: value.clone() for name, value in chain.state_dict().items()}
    stream = forward(chain, batch_for("preresnet"))
    ordinary(stream)
    exact_gradients(stream)
    assert all(parameter.grad is None for parameter in chain.parameters())
    assert all(torch.equal(value, before[name]) for name, value in chain.state_dict().items())
    assert not any(x.requires_grad for x in [*stream.inputs, stream.last])


def test_a_loss_that_is_not_finite_is_reported() -> None:
    with pytest.raises(UserError, match="the loss is not finite: weights or data are broken"):
        forward(linear_chain([float("nan")]), vectors())
