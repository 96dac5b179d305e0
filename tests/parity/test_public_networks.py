"""Networks as others publish them, built here from their equation under their names: ours return and learn the same.

Names of kuangliu/pytorch-cifar, weiaicunzai/pytorch-cifar100, chenyaofo/pytorch-cifar-models and of Hugging Face's
``ResNetForImageClassification``.
"""

from collections import OrderedDict

import pytest
import torch
from tests.convert.test_matching import mismatch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from howdeep.convert import match
from howdeep.networks import build, skeleton, spec_of
from howdeep.util.errors import UserError

Layers = list[tuple[str, nn.Module]]


class Shapes:
    """The convolutions of a unit: channels in and out, kernel and stride."""

    def __init__(self, channels: int, width: int, stride: int, *, bottleneck: bool):
        self.out = 4 * width if bottleneck else width
        basic = [(channels, width, 3, stride), (width, width, 3, 1)]
        self.convolutions = [(channels, width, 1, 1), (width, width, 3, stride), (width, self.out, 1, 1)]
        self.convolutions = self.convolutions if bottleneck else basic
        self.projection = None if (channels, stride) == (self.out, 1) else (channels, self.out, 1, stride)


def convolution(shape: tuple[int, int, int, int]) -> nn.Conv2d:
    channels, out, kernel, stride = shape
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)


class Numbered(nn.Module):
    """conv1, bn1, …; the shortcut called as asked."""

    def __init__(self, shapes: Shapes, shortcut: str):
        super().__init__()
        self.called, self.depth = shortcut, len(shapes.convolutions)
        for number, shape in enumerate(shapes.convolutions, 1):
            self.add_module(f"conv{number}", convolution(shape))
            self.add_module(f"bn{number}", nn.BatchNorm2d(shape[1]))
        projects = shapes.projection
        self.add_module(
            shortcut,
            nn.Sequential(convolution(projects), nn.BatchNorm2d(projects[1])) if projects else nn.Sequential(),
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = x
        for number in range(1, self.depth + 1):
            branch = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(branch))
            branch = F.relu(branch) if number < self.depth else branch
        return F.relu(branch + self.get_submodule(self.called)(x))


class Sequenced(nn.Module):
    """A residual_function, whose every third module is a ReLU."""

    def __init__(self, shapes: Shapes):
        super().__init__()
        layers: list[nn.Module] = []
        for shape in shapes.convolutions:
            layers += [convolution(shape), nn.BatchNorm2d(shape[1]), nn.ReLU()]
        self.residual_function = nn.Sequential(*layers[:-1])
        projects = shapes.projection
        self.shortcut = (
            nn.Sequential(convolution(projects), nn.BatchNorm2d(projects[1])) if projects else nn.Sequential()
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual_function(x) + self.shortcut(x))


def network(style: str, units: tuple[int, ...], width: int, *, bottleneck: bool) -> nn.Sequential:
    """A network for small images: one 3×3 convolution, stages that double, mean, scores."""
    sequenced = style == "residual_function"
    stem = [convolution((3, width, 3, 1)), nn.BatchNorm2d(width), nn.ReLU()]
    layers: Layers = (
        [("conv1", nn.Sequential(*stem))] if sequenced else list(zip(("conv1", "bn1", "relu"), stem, strict=True))
    )
    channels = width
    for stage, count in enumerate(units):
        blocks: list[nn.Module] = []
        for position in range(count):
            stride = 2 if stage and not position else 1
            shapes = Shapes(channels, width * 2**stage, stride, bottleneck=bottleneck)
            blocks.append(Sequenced(shapes) if sequenced else Numbered(shapes, style))
            channels = shapes.out
        layers.append((f"conv{stage + 2}_x" if sequenced else f"layer{stage + 1}", nn.Sequential(*blocks)))
    classifier = "linear" if style == "shortcut" else "fc"
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()), (classifier, nn.Linear(channels, 10))]
    return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize("style", ["shortcut", "residual_function", "downsample"])
@pytest.mark.parametrize(("name", "units", "width"), [("resnet18", (2, 2, 2, 2), 4), ("resnet50", (3, 4, 6, 3), 2)])
def test_public_network_with_a_small_stem_is_ours(style, name, units, width, assert_parity):
    theirs = network(style, units, width, bottleneck=name == "resnet50")
    matched = assert_parity(theirs, f"cifar_{name}_w{width}", 16)
    assert matched.left == matched.kept == matched.missing == ()


@pytest.mark.parametrize("style", ["shortcut", "downsample"])
def test_public_cifar_network_with_projections_is_ours_with_shortcut_b(style):
    theirs, ours = network(style, (3, 3, 3), 16, bottleneck=False), build(spec_of("cifar_resnet20", shortcut="B"))
    matched = match(theirs.state_dict(), ours)
    assert matched.left == matched.missing == ()
    ours.load_state_dict(matched.state)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def renamed_to_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names as ``ResNetForImageClassification`` has them."""
    words = {
        "fc.": "classifier.1.",
        "downsample.0": "shortcut.convolution",
        "downsample.1": "shortcut.normalization",
    }
    for number in range(1, 4):
        words[f"conv{number}"] = f"layer.{number - 1}.convolution"
        words[f"bn{number}"] = f"layer.{number - 1}.normalization"
    ends = {"conv1": "convolution", "bn1": "normalization"}
    named = {}
    for name, value in state.items():
        first, *rest = name.split(".")
        if first in ends:
            named[f"resnet.embedder.embedder.{ends[first]}.{rest[0]}"] = value
            continue
        for theirs, word in words.items():
            name = name.replace(theirs, word)
        if first.startswith("layer"):
            stage, position, *within = name.split(".")
            name = f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{position}.{'.'.join(within)}"
        named[name] = value
    return named


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_hugging_faces_names_are_torchvisions_network(name):
    with torch.device("meta"):
        state = models.get_model(name, num_classes=7).state_dict()
    theirs = {key: torch.full(value.shape, float(number)) for number, (key, value) in enumerate(state.items())}
    named = renamed_to_hugging_face(theirs)
    assert "resnet.encoder.stages.0.layers.1.layer.0.convolution.weight" in named
    assert "resnet.encoder.stages.1.layers.0.shortcut.normalization.running_mean" in named
    assert {"resnet.embedder.embedder.convolution.weight", "classifier.1.weight"} <= named.keys()
    chain = skeleton(spec_of(name, classes=7))
    matched = match(named, chain)
    assert matched.left == matched.missing == ()
    torch.testing.assert_close(matched.state, match(theirs, chain).state, rtol=0, atol=0)


def test_projections_in_a_file_name_the_option_that_has_them():
    state = network("shortcut", (1, 1, 1), 16, bottleneck=False).state_dict()
    assert "projections: howdeep import --shortcut B" in mismatch(state, "cifar_resnet8")
    everywhere = skeleton(spec_of("cifar_resnet8", shortcut="C")).state_dict()
    named = {
        f"layer{index + 1}.0.shortcut.0.weight": everywhere[f"body.{index}.shortcut.conv.weight"] for index in range(3)
    }
    assert "projections: howdeep import --shortcut C" in mismatch(state | named, "cifar_resnet8")


def test_a_file_without_projections_names_the_option_that_has_none():
    theirs = skeleton(spec_of("cifar_resnet8")).state_dict()
    assert "none of its shortcuts have weights: howdeep import --shortcut A" in mismatch(
        theirs, "cifar_resnet8", shortcut="B"
    )
    theirs = skeleton(spec_of("cifar_resnet8", shortcut="B")).state_dict()
    assert "few of its shortcuts have weights: howdeep import --shortcut B" in mismatch(
        theirs, "cifar_resnet8", shortcut="C"
    )


def test_a_file_of_bottlenecks_names_the_option_that_has_them():
    state = network("downsample", (3, 3, 3), 16, bottleneck=True).state_dict()
    assert "bottlenecks: howdeep import --block bottleneck" in mismatch(state, "cifar_resnet20")


def test_a_small_stem_names_the_networks_that_have_it():
    state = network("downsample", (2, 2, 2, 2), 64, bottleneck=False).state_dict()
    line = mismatch(state, "resnet18", classes=10)
    assert "conv1.weight is 64×3×7×7 here, 64×3×3×3 in the file; its stem is that of" in line
    assert "such as cifar_resnet18_w64" in line


def test_a_file_without_its_classifier_says_so():
    chain = build("cifar_resnet8")
    state = {name: value for name, value in chain.state_dict().items() if not name.startswith("head")}
    with pytest.raises(UserError, match=r"^the file holds no classifier: it has 'stem\.conv\.weight'"):
        match(state, chain)


def test_the_stem_of_a_network_is_as_wide_as_its_name_says():
    assert skeleton(spec_of("cifar_resnet18_w8")).state_dict()["stem.conv.weight"].shape == (8, 3, 3, 3)
