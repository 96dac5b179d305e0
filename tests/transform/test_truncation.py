"""A network's first units under a classifier: its logits are those of a linear layer on the activations there."""

from functools import cache

import pytest
import torch
from tests.analysis.cases import batch_for, network
from tests.convert.networks import INVERTED, SWIN, traced
from tests.oracles import images, small_network
from torch import Tensor, nn

from howdeep import Chain, Survival, UserError
from howdeep.networks.counting import describe_chain
from howdeep.transform.folding import fold_norms
from howdeep.transform.pooling import pooled
from howdeep.transform.removal import without
from howdeep.transform.truncation import cut_points, truncated

OWN = ["plain", "resnet B", "preresnet", "densenet"]
LIBRARY = ["torchvision resnet18", "torchvision densenet", "timm vit", "torchvision inverted", "torchvision swin"]


@cache
def whole(name: str) -> tuple[Chain, Tensor]:
    """Return a network in float64 and images for it."""
    if name == "torchvision inverted":
        chain, x = (
            traced("torchvision:MobileNetV2", 64, inverted_residual_setting=INVERTED["inverted_residual_setting"])[1],
            images(3, size=64),
        )
    elif name == "torchvision swin":
        chain, x = traced("torchvision:SwinTransformer", 64, **SWIN)[1], images(3, size=64)
    else:
        chain, x = network(name), batch_for(name, 3).images
    return without(chain, ()).double().eval(), x.double()


@torch.no_grad()
def activations(chain: Chain, x: Tensor) -> list[Tensor]:
    """Return what the units and the head read."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        for module in (*chain.units, chain.head)
    ]
    chain(x)
    for hook in hooks:
        hook.remove()
    return seen


def mean_over_space(name: str, x: Tensor) -> Tensor:
    """The averages as one writes them for a network that one knows."""
    if name == "timm vit":
        return torch.stack([torch.cat([tokens[0], tokens[1:].sum(0) / (len(tokens) - 1)]) for tokens in x])
    return torch.einsum("bhwc->bc" if name == "torchvision swin" else "bchw->bc", x) / (
        x[0].numel() / x.shape[3 if name == "torchvision swin" else 1]
    )


def classifier(features: int, classes: int = 4) -> nn.Linear:
    torch.manual_seed(features)
    return nn.Linear(features, classes).double()


@pytest.mark.parametrize("name", [*OWN, *LIBRARY])
def test_logits_are_those_of_the_classifier_on_the_averages_at_every_cut_point(name: str) -> None:
    chain, x = whole(name)
    for units, at in enumerate(activations(chain, x)):
        averages = mean_over_space(name, at)
        linear = classifier(averages.shape[1])
        shallow = truncated(chain, units, linear)
        with torch.no_grad():
            assert len(shallow) == units
            torch.testing.assert_close(shallow(x), averages @ linear.weight.T + linear.bias, rtol=1e-9, atol=1e-9)
            if units == 2:
                torch.testing.assert_close(fold_norms(shallow)(x), shallow(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet B", "torchvision inverted"])
def test_parts_that_stay_cost_what_they_did(name: str) -> None:
    chain, x = whole(name)
    before = describe_chain(chain, tuple(x.shape[1:]), name="", family="")
    for units, at in enumerate(activations(chain, x)):
        after = describe_chain(truncated(chain, units, classifier(at.shape[1])), tuple(x.shape[1:]), name="", family="")
        kept = 1 + cut_points(chain)[units]
        assert after.parts[:kept] == before.parts[:kept]
        assert after.parts[-1].macs == 4 * at.shape[1]
        assert after.parameters == sum(part.parameters for part in before.parts[:kept]) + 4 * at.shape[1] + 4


def test_the_old_head_may_stay_where_it_reads_maps_of_that_shape() -> None:
    chain, x = whole("resnet B")
    with torch.no_grad():
        at = activations(chain, x)[5]
        torch.testing.assert_close(truncated(chain, 5, None)(x), chain.head(at), rtol=0, atol=0)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            truncated(chain, 2, None)(x)


def test_cut_points_lie_where_units_begin_and_links_go_with_the_unit_before() -> None:
    chain = network("torchvision densenet")
    points = cut_points(chain)
    assert [chain.body[place] for place in points[:-1]] == chain.units
    assert points[-1] == len(chain.body)
    assert points != list(range(len(chain) + 1))  # a transition lies in between


@pytest.mark.parametrize("name", OWN)
def test_the_expectation_of_a_random_rule_is_in_the_branches(name: str) -> None:
    chain = small_network(name).double()
    chain.rule = Survival("linear", 0.5)
    x = images(3).double()
    for units, at in enumerate(activations(chain, x)):
        linear = classifier(at.shape[1])
        shallow = truncated(chain, units, linear)
        assert shallow.rule is None
        torch.testing.assert_close(shallow(x), linear(at.mean((2, 3))), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet B", "densenet", "densenet_bc", "torchvision resnet18"])
def test_units_may_go_before_and_afterwards(name: str) -> None:
    """A run folder takes units out of the whole network and ends it then, whatever the order in which it was cut."""
    chain, x = network(name).double(), batch_for(name).images.double()
    at = activations(chain, x)[3].shape[1]
    linear = classifier(at)
    later = without(truncated(chain, 3, linear), [1])
    narrowed = later.head[1]  # type: ignore[index]
    before = truncated(without(chain, [1]), 2, classifier(narrowed.in_features))
    assert {key: value.shape for key, value in before.state_dict().items()} == {
        key: value.shape for key, value in later.state_dict().items()
    }
    before.load_state_dict(later.state_dict())
    torch.testing.assert_close(before(x), later(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(later(x), truncated(chain, 3, linear)(x, [1.0, None, 1.0]), rtol=1e-9, atol=1e-9)


def test_the_old_chain_stays_and_the_mode_goes_with_the_copy() -> None:
    chain = small_network("preresnet").train()
    before = {key: value.clone() for key, value in chain.state_dict().items()}
    shallow = truncated(chain, 2, nn.Linear(16, 3))
    assert shallow.training
    shallow(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in shallow.parameters())
    assert all(parameter.grad is None for parameter in chain.parameters())
    assert all(torch.equal(before[key], value) for key, value in chain.state_dict().items())


def test_maps_with_channels_last_are_told_by_their_equal_sides() -> None:
    x = torch.rand(2, 5, 5, 3)
    torch.testing.assert_close(pooled(x), x.mean((1, 2)))
    torch.testing.assert_close(pooled(x.movedim(3, 1)), x.mean((1, 2)))
    wide = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(pooled(wide), wide.mean((2, 3)))
    cube = torch.rand(2, 4, 4, 4)
    torch.testing.assert_close(pooled(cube), cube.mean((2, 3)))


def test_tokens_without_others_and_vectors_are_what_they_are() -> None:
    x = torch.rand(2, 1, 3)
    assert torch.equal(pooled(x), x[:, 0])
    assert torch.equal(pooled(x[:, 0]), x[:, 0])
    with pytest.raises(UserError, match=r"shape \(2, 1, 1, 1, 3\) are neither maps"):
        pooled(x[:, None, None])


@pytest.mark.parametrize(("units", "nearest"), [(-1, 0), (4, 3), (12, 3)])
def test_a_place_behind_the_last_unit_is_refused(units: int, nearest: int) -> None:
    with pytest.raises(
        UserError, match=f"first {units} is not allowed: the network has 3 units; the nearest is {nearest}"
    ):
        truncated(small_network("plain"), units, nn.Linear(16, 3))
