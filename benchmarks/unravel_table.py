"""Write docs/unravel.md: what ``unravel`` finds in networks of torchvision and timm, or why it refuses them.

Run it from this folder: ``python unravel_table.py``; it takes some minutes on two cores.
"""

import time
from collections import Counter
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torchvision import models

from howdeep.chain import Chain
from howdeep.convert import unravel
from howdeep.util.errors import UserError

PAGE = Path(__file__).parents[1] / "docs" / "unravel.md"
MARK = "<!-- table -->\n"
"""What follows is written by this script."""

TORCHVISION = """
resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 mobilenet_v2 mobilenet_v3_large efficientnet_b0
efficientnet_v2_s convnext_tiny regnet_x_400mf regnet_y_400mf swin_t swin_v2_t vit_b_16 maxvit_t vgg11 vgg16_bn
alexnet squeezenet1_1 shufflenet_v2_x1_0 mnasnet1_0 googlenet inception_v3
"""
TIMM = """
resnet50 resnetv2_50 seresnet18 regnety_004 efficientnet_b0 convnext_tiny densenet121 vit_small_patch16_224
mixer_s16_224 swin_tiny_patch4_window7_224 deit3_small_patch16_224 inception_v4 vgg16 hrnet_w18 res2net50_26w_4s dla34
darknet53 cspresnet50 nfnet_l0 resnest50d coatnet_0_rw_224 maxvit_tiny_tf_224 pvt_v2_b1 poolformer_s12 cait_xxs24_224
beit_base_patch16_224 eva02_tiny_patch14_224 xcit_nano_12_p16_224 levit_128 mobilevit_s mobilenetv3_large_100
ghostnet_100 repvgg_a0 edgenext_small focalnet_tiny_srf gmlp_s16_224 resmlp_12_224 volo_d1_224 twins_svt_small
crossvit_tiny_240 tresnet_m dpn68 ese_vovnet19b_dw xception65 davit_tiny fastvit_t8 hiera_tiny_224
deit_tiny_distilled_patch16_224 swinv2_tiny_window8_256 mobileone_s0 mobilenetv4_conv_small convmixer_768_32
visformer_tiny efficientformerv2_s0 starnet_s1 rdnet_tiny vit_small_plus_patch16_dinov3 tiny_vit_5m_224
"""


def main() -> None:
    torch.manual_seed(0)
    names = [f"torchvision:{name}" for name in TORCHVISION.split()] + [f"timm:{name}" for name in TIMM.split()]
    rows = [row(name) for name in names]
    head = "| network | units | merges | largest difference | seconds |\n| --- | ---: | --- | ---: | ---: |\n"
    versions = f"torch {torch.__version__.split('+')[0]}, timm {timm.__version__}, threads: {torch.get_num_threads()}"
    text = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(f"{text}{MARK}\n{versions}. All weights are random.\n\n{head}{''.join(rows)}")


def row(name: str) -> str:
    """Return one line of the table; a refused network's line ends with the reason."""
    model, pixels = network(name)
    images = torch.randn(3, 3, pixels, pixels)
    started = time.perf_counter()
    try:
        chain = unravel(model, images[:1])
    except UserError as refusal:
        line = f"| `{name}` | – | refused: {str(refusal).replace('|', '/')} | | |\n"
    else:
        seconds = time.perf_counter() - started
        line = f"| `{name}` | {found(chain)} | {difference(model, chain, images)} | {seconds:.1f} |\n"
    print(line, end="", flush=True)
    return line


def network(name: str) -> tuple[nn.Module, int]:
    """Return a network with random weights, and the pixels of a side that it takes."""
    library, _, own = name.partition(":")
    if library == "timm":
        config = timm.get_pretrained_cfg(own)
        assert config is not None
        model, pixels = timm.create_model(own).eval(), config.input_size[-1]
    else:
        options = {"init_weights": False} if own in ("googlenet", "inception_v3") else {}
        model, pixels = getattr(models, own)(**options).eval(), 299 if own == "inception_v3" else 224
    for parameter in model.parameters():  # classifiers of zeros would hide every difference
        if not parameter.detach().any():
            nn.init.normal_(parameter, 0, 0.02)
    return model, pixels


def found(chain: Chain) -> str:
    """Return the number of units and their merges."""
    merges = Counter(type(unit.merge).__name__.lower() for unit in chain.units)
    return f"{len(chain)} | {', '.join(f'{count} {merge}' for merge, count in merges.items())}"


@torch.no_grad()
def difference(model: nn.Module, chain: Chain, images: Tensor) -> str:
    """Return the largest difference of a score, as a share of the largest score, at another batch than the traced."""
    expected = model(images)
    share = (chain(images) - expected).abs().max() / expected.abs().max()
    return "0" if share == 0 else f"{share:.0e}"


if __name__ == "__main__":
    main()
