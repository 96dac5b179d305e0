"""The description of a network agrees with the network."""

import json
from dataclasses import asdict

import pytest
import torch
from tests.oracles import SMALL, in_turn, stream
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from howdeep.chain import Chain, Merge, Unit
from howdeep.networks import LITERATURE, build, skeleton, spec_of
from howdeep.networks.counting import (
    Summary,
    describe,
    describe_chain,
    smallest,
)
from howdeep.util.errors import UserError


@pytest.mark.parametrize("family", SMALL)
def test_parts_have_the_shapes_of_a_real_pass(family: str) -> None:
    name, options = SMALL[family]
    spec = spec_of(name, **{**options, "channels": 1, "classes": 7})
    network, chain = describe(spec, size=9), build(spec).eval()
    maps = stream(chain, torch.zeros(1, 1, 9, 9))
    shapes = [(1, 9, 9), *(tuple(x.shape[1:]) for x in maps), (7,)]
    assert network.input == (1, 9, 9)
    assert [part.input for part in network.parts] == shapes[:-1]
    assert [part.output for part in network.parts] == shapes[1:]


@pytest.mark.parametrize(
    ("name", "size"),
    in_turn(["cifar_resnet32", "resnet50", "cifar_densenet40_k12", "cifar_preresnet29", "densenet121"], [None, 65]),
)
def test_parts_add_up_to_the_whole_network(name: str, size: int | None) -> None:
    spec = spec_of(name)
    network, chain = describe(spec, size=size), skeleton(spec).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        chain(torch.empty(1, *network.input, device="meta"))
    assert sum(part.macs for part in network.parts) == network.macs == counter.get_total_flops() // 2
    whole = sum(weight.numel() for weight in chain.parameters())
    assert sum(part.parameters for part in network.parts) == network.parameters == whole


def test_units_and_links_are_numbered_and_named_in_order() -> None:
    network = describe(spec_of("cifar_densenet10_k4"))
    names = ["stem", "unit 1", "unit 2", "link", "unit 3", "unit 4", "link", "unit 5", "unit 6", "head"]
    assert [part.name for part in network.parts] == names
    assert [part.index for part in network.parts] == [None, 1, 2, None, 3, 4, None, 5, 6, None]
    assert network.units == 6


@pytest.mark.parametrize(
    ("name", "options", "kinds"),
    [
        ("cifar_plain20", {}, {("replace", None, True), ("replace", None, False)}),
        ("cifar_resnet20", {}, {("add+ReLU", "identity", True), ("add+ReLU", "padding", True)}),
        ("cifar_resnet20", {"shortcut": "C"}, {("add+ReLU", "projection", True)}),
        ("cifar_preresnet29", {}, {("add", "identity", True), ("add", "projection", True)}),
        ("densenet121", {}, {("concatenate", "identity", True)}),
    ],
)
def test_a_part_says_how_it_merges_and_what_passes_by(name: str, options: dict, kinds: set) -> None:
    parts = describe(spec_of(name, **options)).parts
    assert {(part.merge, part.shortcut, part.removable) for part in parts if part.index} == kinds
    others = {(part.merge, part.shortcut, part.removable) for part in parts if not part.index}
    assert others == {(None, None, False)}


def test_a_part_costs_what_its_convolutions_cost() -> None:
    unit = describe(spec_of("cifar_resnet20")).parts[4]
    assert unit.name == "unit 4"
    assert unit.macs == 16 * 16 * 9 * (16 * 32 + 32 * 32)
    assert unit.parameters == 9 * (16 * 32 + 32 * 32) + 2 * (32 + 32)


@pytest.mark.parametrize("name", ["cifar_densenet_bc40_k12", "cifar_resnet20", "densenet121", "resnet18"])
def test_images_that_are_too_small_are_refused_and_the_smallest_are_not(name: str) -> None:
    spec, enough = spec_of(name), smallest(spec_of(name))
    chain = skeleton(spec).eval()
    assert describe(spec, size=enough).input == (3, enough, enough)
    with pytest.raises(RuntimeError):
        chain(torch.empty(1, 3, enough - 1, enough - 1, device="meta"))
    with pytest.raises(UserError, match=f"^{enough - 1}×{enough - 1} images are too small for {name}: .*{enough}×"):
        describe(spec, size=enough - 1)


def test_a_description_is_plain_data() -> None:
    network = describe(spec_of("cifar_resnet20"))
    record = json.loads(json.dumps(asdict(network)))
    assert {key: record[key] for key in ("name", "family", "depth", "units", "parameters", "macs")} == {
        "name": "cifar_resnet20",
        "family": "resnet",
        "depth": 20,
        "units": 9,
        "parameters": 269_722,
        "macs": 40_551_040,
    }
    assert record["input"] == [3, 32, 32]
    assert record["parts"][1]["output"] == [16, 32, 32]


def test_the_catalogue_lists_every_network_of_the_literature(networks: dict[str, Summary]) -> None:
    assert list(networks) == list(LITERATURE)
    assert all(network.macs > network.parameters > 0 for network in networks.values())


def test_every_unit_of_every_family_can_be_described() -> None:
    for name, options in SMALL.values():
        spec = spec_of(name, **options)
        described = [part for part in describe(spec).parts if part.index]
        assert [part.removable for part in described] == [u.merge.removable for u in skeleton(spec).units]


def test_shapes_do_not_depend_on_modules_that_print_alike() -> None:
    """Two units that print alike are measured once; the numbers must be those of each."""
    spec = spec_of("cifar_resnet20")
    chain, network = skeleton(spec).eval(), describe(spec)
    for module, part in zip(chain.body, network.parts[1:-1], strict=True):
        assert isinstance(module, Unit)
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        positions = part.output[1] * part.output[2]
        assert part.macs == sum(layer.weight.numel() for layer in convolutions) * positions


class Half(Merge):
    """H = (shortcut + branch)/2: a merge that the package does not have."""

    def forward(self, shortcut: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        return (shortcut + branch) / 2

    def closed(self, shortcut: torch.Tensor) -> torch.Tensor:
        return shortcut / 2


class Mixing(nn.Module):
    """A layer of one's own, which prints without the shape of its weight."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,bchw->bohw", self.weight, x)


def test_a_merge_and_layers_of_ones_own_are_described() -> None:
    thin = nn.Sequential(Mixing(3, 2), Mixing(2, 3))
    wide = nn.Sequential(Mixing(9, 2), Mixing(2, 9))
    units = [Unit(branch, nn.Identity(), Half()) for branch in (thin, wide)]
    chain = Chain(nn.Identity(), units, nn.AdaptiveAvgPool2d(1))
    found = describe_chain(chain.eval(), (2, 4, 4), name="own", family="own")
    assert [(part.merge, part.shortcut) for part in found.parts[1:-1]] == [("Half", "identity")] * 2
    assert [part.macs for part in found.parts] == [0, 2 * 6 * 16, 2 * 18 * 16, 0]


def test_multiply_adds_are_those_of_convolutions_and_of_attentions_products() -> None:
    """16 positions of 8 channels: four projections, and q·k and its product with v, 16·16·8 each."""

    class Attention(nn.MultiheadAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            flat = x.flatten(2).transpose(1, 2)
            return super().forward(flat, flat, flat, need_weights=False)[0].transpose(1, 2).view_as(x)

    unit = Unit(Attention(8, 4, batch_first=True), nn.Identity(), Half())
    chain = Chain(nn.Identity(), [unit], nn.AdaptiveAvgPool2d(1))
    found = describe_chain(chain.train(), (8, 4, 4), name="own", family="own")
    assert found.macs == 4 * 16 * 8 * 8 + 2 * 16 * 16 * 8
