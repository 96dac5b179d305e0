"""Foreign networks with weights that tell every layer from every other, small enough for two cores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

import timm
import torch
from tests.oracles import images
from tests.parity.conftest import randomise
from torch import Tensor, nn
from torchvision import models

from howdeep.chain import Chain
from howdeep.convert import unravel
from howdeep.util.seeds import generator


@dataclass(frozen=True)
class Case:
    """A network, and one of its units: where it comes from, and the module whose zeros take it out."""

    name: str
    """Such as ``torchvision:resnet18``."""
    pixels: int
    units: int
    unit: str
    zeros: str
    options: Mapping[str, object] = field(default_factory=dict)
    """What makes the network smaller than the published one."""


VIT = {"image_size": 64, "patch_size": 16, "num_layers": 2, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 384}
DENSE = {"block_config": (2, 3)}
INVERTED = {"inverted_residual_setting": [[1, 16, 1, 1], [6, 24, 2, 2]]}
SWIN = {"patch_size": [4, 4], "embed_dim": 24, "depths": [2, 1], "num_heads": [1, 2], "window_size": [7, 7]}
PATCHES = {"img_size": 64, "depth": 2}
MIXER = {"img_size": 64, "num_blocks": 2, "embed_dim": 64}
CONVNEXT = {"depths": (2, 2, 2, 2), "dims": (16, 32, 64, 128)}

CASES = [
    Case("torchvision:resnet18", 64, 8, "layer2.1", "layer2.1.bn2"),
    Case("torchvision:resnet50", 64, 16, "layer1.1", "layer1.1.bn3"),
    Case("torchvision:resnext50_32x4d", 64, 16, "layer2.0", "layer2.0.bn3"),
    Case("torchvision:wide_resnet50_2", 64, 16, "layer3.0", "layer3.0.bn3"),
    Case("torchvision:densenet121", 64, 58, "features.denseblock2.denselayer3", "features.denseblock2.denselayer3"),
    Case("torchvision:mobilenet_v2", 64, 10, "features.5", "features.5.conv"),
    Case("torchvision:MobileNetV2", 64, 1, "features.3", "features.3.conv", INVERTED),
    Case("torchvision:efficientnet_v2_s", 64, 35, "features.2.1", "features.2.1.block"),
    Case("torchvision:convnext_tiny", 64, 18, "features.1.1", "features.1.1.block"),
    Case("torchvision:regnet_x_400mf", 64, 22, "trunk_output.block2.block2-1", "trunk_output.block2.block2-1.f"),
    Case("torchvision:swin_t", 64, 24, "features.1.1.attn", "features.1.1.attn"),
    Case("torchvision:vit_b_16", 224, 24, "encoder.layers.encoder_layer_3.mlp", "encoder.layers.encoder_layer_3.mlp"),
    Case("torchvision:DenseNet", 64, 5, "features.denseblock2.denselayer3", "features.denseblock2.denselayer3", DENSE),
    Case("torchvision:SwinTransformer", 64, 6, "features.1.1.attn", "features.1.1.attn", SWIN),
    Case(
        "torchvision:VisionTransformer",
        64,
        4,
        "encoder.layers.encoder_layer_1.mlp",
        "encoder.layers.encoder_layer_1.mlp",
        VIT,
    ),
    Case("timm:resnet50", 64, 16, "layer1.1", "layer1.1.bn3"),
    Case("timm:resnetv2_50", 64, 16, "stages.1.blocks.0", "stages.1.blocks.0.conv3"),
    Case("timm:resnetv2_18", 64, 8, "stages.1.blocks.0", "stages.1.blocks.0.conv2"),
    Case("timm:seresnet18", 64, 8, "layer2.1", "layer2.1.se"),
    Case("timm:regnety_004", 64, 16, "s2.b2", "s2.b2.conv3"),
    Case("timm:efficientnet_b0", 64, 9, "blocks.2.1", "blocks.2.1.bn3"),
    Case("timm:convnext_tiny", 64, 18, "stages.0.blocks.1", "stages.0.blocks.1.mlp"),
    Case("timm:convnext_tiny", 64, 8, "stages.0.blocks.1", "stages.0.blocks.1.mlp", CONVNEXT),
    Case("timm:vit_small_patch16_224", 224, 24, "blocks.3.attn", "blocks.3.attn"),
    Case("timm:mixer_s16_224", 224, 16, "blocks.3.mlp_tokens", "blocks.3.mlp_tokens"),
    Case("timm:vit_tiny_patch16_224", 64, 4, "blocks.1.attn", "blocks.1.attn", PATCHES),
    Case("timm.models.mlp_mixer:MlpMixer", 64, 4, "blocks.1.mlp_tokens", "blocks.1.mlp_tokens", MIXER),
    Case("timm:swin_tiny_patch4_window7_224", 224, 24, "layers.0.blocks.1.attn", "layers.0.blocks.1.attn"),
    Case("timm:deit3_small_patch16_224", 224, 24, "blocks.3.mlp", "blocks.3.mlp"),
    Case("timm:densenet121", 64, 58, "features.denseblock2.denselayer3", "features.denseblock2.denselayer3"),
]


def foreign(name: str, **options: object) -> nn.Module:
    """Return a network of ``torchvision:NAME``, ``timm:NAME`` or ``MODULE:CLASS`` in evaluation mode.

    No two of its weights are alike.
    """
    library, _, own = name.partition(":")
    if library == "timm":
        model = timm.create_model(own, **options).eval()  # type: ignore[arg-type]
    else:
        model = getattr(models if library == "torchvision" else import_module(library), own)(**options).eval()
    randomise(model)
    stream = generator(0, "the rest")
    for parameter in model.parameters():
        if parameter.detach().reshape(-1)[0].eq(parameter.detach()).all():  # layer scales, norms of layers, zeros
            nn.init.uniform_(parameter, 0.1, 1.0, generator=stream)
    return model


_TRACED: dict[str, tuple[nn.Module, Chain]] = {}


def traced(name: str, pixels: int, **options: object) -> tuple[nn.Module, Chain]:
    """Return a foreign network and its chain, traced once for all tests: who changes one works on a copy of both."""
    key = repr((name, pixels, options))
    if key not in _TRACED:
        model = foreign(name, **options)
        _TRACED[key] = model, unravel(model, images(1, size=pixels))
    return _TRACED[key]


def zeroed(model: nn.Module, module: str, x: Tensor) -> Tensor:
    """Return the scores of a network one of whose modules returns zeros."""
    handle = model.get_submodule(module).register_forward_hook(_zeros)
    try:
        return model(x)
    finally:
        handle.remove()


def _zeros(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    return torch.zeros_like(output)
