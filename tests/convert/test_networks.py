"""Torchvision's and timm's networks as chains: the same scores, the known units, and units that can be taken out."""

import pytest
import torch
from tests.convert.networks import CASES, Case, traced, zeroed
from tests.oracles import images
from tests.parity.conftest import assert_close, randomise
from torch import nn
from torchvision import models

from howdeep.convert import unravel

REORDERED = {"torchvision:vit_b_16": 1e-5, "torchvision:VisionTransformer": 1e-5}
"""Where scores differ by rounding: nn.MultiheadAttention takes a fused operator in evaluation, the trace its parts."""


ALIKE = {
    *("torchvision:resnet50", "torchvision:resnext50_32x4d", "torchvision:wide_resnet50_2", "timm:resnet50"),
    *("torchvision:efficientnet_v2_s", "torchvision:mobilenet_v2", "timm:efficientnet_b0", "timm:densenet121"),
    *("torchvision:convnext_tiny", "torchvision:regnet_x_400mf", "timm:regnety_004", "timm:deit3_small_patch16_224"),
    "timm:swin_tiny_patch4_window7_224",
}
"""Networks with the merges of another of the list: they are tried by hand."""

LARGE = {
    *("torchvision:densenet121", "torchvision:swin_t", "torchvision:vit_b_16"),
    *("timm:vit_small_patch16_224", "timm:mixer_s16_224", "timm:resnetv2_50", "timm:convnext_tiny"),
}
"""Published networks of which the list has a smaller one of the same code: they are tried by hand."""


def named(case: Case):
    slow = case.name in ALIKE | LARGE and not case.options
    return pytest.param(case, id=case.name + "-small" * bool(case.options), marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize("case", [named(case) for case in CASES])
@torch.no_grad()
def test_chain_returns_the_networks_scores_and_takes_its_units_out(case):
    model, chain = traced(case.name, case.pixels, **case.options)
    assert len(chain) == case.units
    assert len(set(chain.names)) == case.units
    batch = images(3, size=case.pixels, seed=2)
    expected = model(batch)
    assert_close(chain(batch), expected, REORDERED.get(case.name, 0.0), "scores")
    gates = [1.0] * len(chain)
    gates[chain.names.index(case.unit)] = 0.0
    assert_close(chain(batch, gates), zeroed(model, case.zeros, batch), 1e-5, f"scores without {case.unit}")
    assert not torch.allclose(chain(batch, gates), expected, rtol=1e-4)


@torch.no_grad()
def test_network_without_shortcuts_becomes_a_chain_of_its_layers():
    layers = models.vgg.make_layers(models.vgg.cfgs["A"], batch_norm=True)
    model = nn.Sequential()
    for name, part in (("features", layers), ("flat", nn.Flatten()), ("classifier", nn.Linear(2048, 10))):
        model.add_module(name, part)
    randomise(model.eval())
    chain = unravel(model, images(1, size=64))
    batch = images(3, size=64)
    assert torch.equal(chain(batch), model(batch))
    assert chain.names == [
        "features.4",
        "features.8",
        "features.11",
        "features.15",
        "features.18",
        "features.22",
        "features.25",
    ]
    assert [unit.merge.removable for unit in chain.units] == [False, False, True, False, True, True, True]
    assert chain(batch, [1.0] * 6 + [None]).shape == chain(batch, [1.0] * 6 + [0]).shape == (3, 10)
