"""Chains made by hand, whose answers are arithmetic, and small real networks of every family."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, product

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from howdeep.chain import Add, Chain, Gates, Merge, Unit
from howdeep.networks import build, spec_of

Mask = tuple[int, ...]

untimed = settings(deadline=None)
"""For generated tests: a first call of a library takes long, and so does a busy machine."""

weight_lists = st.lists(st.floats(-2, 2), min_size=1, max_size=6)
"""Weights of a linear chain, for generated tests."""

SMALL = {
    "plain": ("cifar_plain8", {}),
    "resnet A": ("cifar_resnet14", {}),
    "resnet B": ("cifar_resnet14", {"shortcut": "B"}),
    "resnet C": ("cifar_resnet8", {"shortcut": "C"}),
    "resnet bottleneck": ("cifar_resnet11", {}),
    "preresnet": ("cifar_preresnet14", {}),
    "preresnet B": ("cifar_preresnet14", {"shortcut": "B"}),
    "preresnet C": ("cifar_preresnet8", {"shortcut": "C"}),
    "preresnet bottleneck": ("cifar_preresnet20", {"block": "bottleneck"}),
    "wideresnet": ("cifar_wideresnet10_2", {}),
    "densenet": ("cifar_densenet10_k4", {}),
    "densenet_bc": ("cifar_densenet_bc16_k4", {}),
}
"""A small network of every family: its name and options."""


def in_turn(*columns: Iterable[object]) -> list[tuple]:
    """Return test cases in which every value occurs: as many as the longest column has, the others in turn.

    All combinations would take the product of the lengths; what fails for one family fails for it in most of them.
    """
    lists = [list(column) for column in columns]
    rows = max(len(values) for values in lists)
    return [row for row, _ in zip(zip(*(cycle(values) for values in lists), strict=False), range(rows), strict=False)]


class Scale(nn.Module):
    """branch(x) = w·x."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class Untouchable(nn.Module):
    """A branch that must not be computed."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("a closed branch was computed")


def chain_of(branches: Iterable[nn.Module], merge: Merge | None = None) -> Chain:
    """Return a chain of these branches with identity shortcuts, its stem and head identities."""
    units = [Unit(branch, nn.Identity(), merge or Add()) for branch in branches]
    return Chain(nn.Identity(), units, nn.Identity())


def linear_chain(weights: Iterable[float]) -> Chain:
    """Return the chain whose output is x·∏(1 + g_l w_l)."""
    return chain_of(Scale(weight) for weight in weights)


def paper_output(x: float, weights: Sequence[float], gates: Sequence[float]) -> float:
    """Return the output of a linear chain, on paper."""
    return x * math.prod(1 + gate * weight for gate, weight in zip(gates, weights, strict=True))


def masks(length: int) -> Iterator[Mask]:
    """Yield all 2ⁿ ways to open and close n units."""
    yield from product((0, 1), repeat=length)


def probability(mask: Mask, survival: Sequence[float]) -> float:
    """Return the probability that independent draws open exactly the units of a mask."""
    return math.prod(p if opened else 1 - p for opened, p in zip(mask, survival, strict=True))


def symmetric_polynomials(weights: Sequence[float]) -> list[float]:
    """Return e_0 … e_n: e_k is what all paths through exactly k branches contribute, C(n, k) of them."""
    coefficients = [1.0] + [0.0] * len(weights)
    for number, weight in enumerate(weights, 1):
        for k in range(number, 0, -1):
            coefficients[k] += weight * coefficients[k - 1]
    return coefficients


def small_network(family: str, *, seed: int = 0, width: int | None = None, **options: object) -> Chain:
    """Return a small network of a family, in evaluation mode, with norms that are not the identity.

    A width makes it smaller still: so many channels instead of 16.
    """
    name, own = SMALL[family]
    spec = spec_of(name, **{**own, **options})  # type: ignore[arg-type]
    if width is not None:
        spec = replace(spec, width=width, stem=width)
    chain = build(spec, seed=seed)
    stream = torch.Generator().manual_seed(seed)
    for layer in chain.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=stream)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 1.5, generator=stream)  # type: ignore[union-attr]
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=stream)
            nn.init.normal_(layer.bias, 0, 0.1, generator=stream)
    return chain.eval()


def images(count: int = 4, *, size: int = 8, channels: int = 3, seed: int = 1) -> Tensor:
    """Return random images, shape (count, channels, size, size)."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def stream(chain: Chain, x: Tensor, gates: Gates | None = None) -> list[Tensor]:
    """Return the maps after the stem and after every module of the body, the very tensors that were passed on."""
    maps = [chain.stem(x)]
    for module, gate in chain.steps(gates):
        maps.append(module(maps[-1], gate) if isinstance(module, Unit) else module(maps[-1]))
    return maps
