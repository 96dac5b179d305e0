"""What dissections are tested on: classifiers whose answers are arithmetic, small networks, traced networks."""

from collections.abc import Iterable
from copy import deepcopy
from functools import cache

import timm
import torch
from tests.oracles import SMALL, images, linear_chain, small_network
from tests.parity.conftest import randomise
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import BasicBlock

from howdeep.chain import Chain, Gates
from howdeep.convert import unravel
from howdeep.data import Batch
from howdeep.networks import build, spec_of
from howdeep.util.seeds import generator

CLASSES = 5
PIXELS = 32

TRACED = {
    "torchvision resnet18": lambda: thin_resnet18(),
    "torchvision densenet": lambda: _random(models.DenseNet(4, (2, 2), 8, num_classes=CLASSES)),  # type: ignore[arg-type]
    "timm vit": lambda: _drawn(
        timm.create_model(
            "vit_tiny_patch16_224", img_size=PIXELS, patch_size=8, depth=2, embed_dim=96, num_classes=CLASSES
        )
    ),
}
"""Networks of others: their makers."""

NETWORKS = [*SMALL, *TRACED]


def network(name: str) -> Chain:
    """Return a network in evaluation mode, own or traced."""
    return small_network(name) if name in SMALL else deepcopy(_traced(name))


def batch_for(name: str, count: int = 4, *, seed: int = 1) -> Batch:
    """Return images of the size that a network reads."""
    size, classes = (8, 10) if name in SMALL else (PIXELS, CLASSES)
    return Batch(images(count, size=size, seed=seed), torch.arange(count) % classes, count)


@cache
def _traced(name: str) -> Chain:
    return unravel(TRACED[name](), images(1, size=PIXELS))


class Thin(models.ResNet):
    """A residual network of torchvision with an eighth of its channels: the same layers, a sixtieth of the weights."""

    def __init__(self, layers: list[int], classes: int) -> None:
        super().__init__(BasicBlock, layers)
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(64, classes)

    def _make_layer(self, block, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        self.inplanes = 8 if planes == 64 else self.inplanes
        return super()._make_layer(block, planes // 8, blocks, stride, dilate)


def thin_resnet18() -> nn.Module:
    return _random(Thin([2, 2, 2, 2], CLASSES))


def _random(model: nn.Module) -> nn.Module:
    randomise(model)
    return model.eval()


def _drawn(model: nn.Module) -> nn.Module:
    stream = generator(0, "drawn")
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.2, generator=stream)
    return model.eval()


def wide(chain: Chain, batch: Batch) -> tuple[Chain, Batch]:
    """Return both in float64."""
    return chain.double(), Batch(batch.images.double(), batch.labels, batch.total)


def vectors(count: int = 5, size: int = 3, *, seed: int = 0) -> Batch:
    """Images that are vectors of scores already, float64 of shape (count, size)."""
    stream = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size, generator=stream, dtype=torch.float64)
    return Batch(x, torch.arange(count) % size, count)


def numbers(values: Iterable[float], labels: Iterable[int]) -> Batch:
    """Images that are one number each, float64 of shape (count, 1)."""
    x, classes = torch.tensor(list(values), dtype=torch.float64)[:, None], torch.tensor(list(labels))
    return Batch(x, classes, len(x))


class Threshold(nn.Module):
    """Scores (x, 1): class 0 where x is above 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x)], dim=1)


class Shift(nn.Module):
    """branch(x) = b."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.by)


class Counting(nn.Module):
    """A branch that counts how often it was computed."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch, self.calls = branch, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.branch(x)


def counted(chain: Chain) -> list[Counting]:
    """Let the branches of a chain count, in place, and return them."""
    counters = [Counting(unit.branch) for unit in chain.units]
    for unit, counter in zip(chain.units, counters, strict=True):
        unit.branch = counter
    return counters


def classifier(weights: Iterable[float]) -> Chain:
    """Return the chain that gives class 0 where x·∏(1 + g_l w_l) is above 1."""
    return Chain(nn.Identity(), linear_chain(weights).units, Threshold())


def twenty() -> Chain:
    """Return a network whose stages have three units each, in which two, one and one pairs are alike."""
    return build(spec_of("cifar_resnet20"), seed=3).eval()


class Fixed:
    """A rule that has these gates in evaluation."""

    random = False

    def __init__(self, *gates: float | None) -> None:
        self.gates = gates

    def expected(self, num_units: int) -> Gates:
        assert num_units == len(self.gates)
        return self.gates
