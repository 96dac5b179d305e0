"""Plain, residual, pre-activation and wide residual networks (He et al. 2015, 2016; Zagoruyko 2016).

Known numbers, 10 classes (parameters; MACs at 32×32 of convolutions and classifier):

    cifar_resnet20      269,722    40,551,040        cifar_preresnet164     1,703,258
    cifar_resnet56      853,018   125,485,696        cifar_preresnet1001   10,327,706
    cifar_resnet110   1,727,962   252,887,680        cifar_wideresnet28_10 36,479,194
    cifar_resnet18_w64  11,173,962
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import nn

from howdeep.chain import Add, AddReLU, Chain, GateRule, Replace, Unit
from howdeep.networks.parts import (
    Pad,
    conv,
    dropout,
    named,
    norm,
    pooled_classifier,
    projection,
    relu,
    require,
    require_counts,
    stem,
)
from howdeep.util.errors import UserError

Order = Literal["plain", "post", "pre"]
Block = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C"]

EXPANSION = 4
"""How many times wider a bottleneck's output is than its 3×3 convolution."""


@dataclass(frozen=True, kw_only=True)
class ResidualSpec:
    """Everything that :func:`residual` needs."""

    name: str
    """Name in the catalogue, such as ``cifar_resnet56``."""
    family: str
    """``plain``, ``resnet``, ``preresnet`` or ``wideresnet``."""
    depth: int
    """Layers as the literature counts them: convolutions on the main line, and the classifier."""
    order: Order
    """Post-activation, pre-activation, or no shortcut at all."""
    block: Block
    """Two 3×3 convolutions, or 1×1, 3×3, 1×1 (four times wider at its end)."""
    units: tuple[int, ...]
    """Units per stage."""
    width: int
    """Channels of the first stage's 3×3 convolutions; each stage doubles them."""
    shortcut: Shortcut
    """A zero padding, B projection where the shape changes, C projection everywhere."""
    large: bool
    """The stem for large images (7×7 stride 2, max pooling) instead of one 3×3 convolution."""
    stem: int | None = None
    """Channels of the stem; None is the literature's: 64 for large images, else 16."""
    classes: int = 10
    """Number of classes."""
    channels: int = 3
    """Channels of the images."""
    normed: bool = True
    """Batch normalisation after (or before) every convolution; without it convolutions have biases."""
    dropout: float = 0.0
    """Dropout probability before the last convolution of each branch."""
    zero_init: bool = False
    """Branches that return zeros at the start, so that every unit begins as its shortcut."""

    def __post_init__(self) -> None:
        require(self.name, order=(self.order, get_args(Order)), block=(self.block, get_args(Block)))
        require(self.name, shortcut=(self.shortcut, get_args(Shortcut)))
        require_counts(self.name, classes=self.classes, channels=self.channels, width=self.width)
        require_counts(self.name, stem=_stem_channels(self))
        if self.order == "plain" and self.zero_init:
            raise UserError(f"zero_init is not allowed for {self.name}: a plain network has no shortcut to start from")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout} is not allowed: it must be at least 0 and below 1")

    def zero_initialised(self) -> "ResidualSpec":
        """Return the spec whose units begin as their shortcut; a plain network has none and stays as it is."""
        return self if self.order == "plain" else replace(self, zero_init=True)


def residual(spec: ResidualSpec, rule: GateRule | None = None) -> Chain:
    """Return the chain of a spec; its weights are not initialised."""
    channels, pre = _out_channels(spec, len(spec.units) - 1), spec.order == "pre"
    first = stem(spec.channels, _stem_channels(spec), large=spec.large, activate=not pre, normed=spec.normed)
    return Chain(first, _body(spec), pooled_classifier(channels, spec.classes, activate=pre, normed=spec.normed), rule)


def _stem_channels(spec: ResidualSpec) -> int:
    return spec.stem if spec.stem is not None else 64 if spec.large else 16


def _out_channels(spec: ResidualSpec, stage: int) -> int:
    return spec.width * 2**stage * (EXPANSION if spec.block == "bottleneck" else 1)


def _body(spec: ResidualSpec) -> Iterator[nn.Module]:
    channels = _stem_channels(spec)
    for stage, count in enumerate(spec.units):
        for position in range(count):
            first = stage == position == 0
            yield from _unit(spec, channels, stage, 2 if position == 0 and not first else 1, first=first)
            channels = _out_channels(spec, stage)


def _unit(spec: ResidualSpec, channels: int, stage: int, stride: int, *, first: bool) -> Iterator[nn.Module]:
    """Yield one unit; before it, in pre-activation networks, the norm and ReLU that both its paths share.

    They are shared where the shortcut projects, which reads the activated input, and at the first unit of the
    CIFAR networks (He et al. 2016, appendix). A link of their own keeps unit and equation apart, at no cost.
    """
    out, plain, pre = _out_channels(spec, stage), spec.order == "plain", spec.order == "pre"
    same = stride == 1 and channels == out
    projects = not plain and (spec.shortcut == "C" or (spec.shortcut == "B" and not same))
    shared = pre and (projects or (first and not spec.large))
    if shared:
        yield named(("norm", norm(channels, on=spec.normed)), ("relu", relu(fresh=spec.normed)))
    if projects:
        shortcut = projection(channels, out, stride, normed=spec.normed and not pre, bias=not spec.normed)
    else:
        shortcut = nn.Identity() if plain or same else Pad(channels, out, stride)
    added = Add() if pre else AddReLU(identity=not projects)
    merge = Replace(out, stride=stride, removable=same) if plain else added
    yield Unit(_branch(spec, channels, stage, stride, activate=pre and not shared), shortcut, merge)


def _branch(spec: ResidualSpec, channels: int, stage: int, stride: int, *, activate: bool) -> nn.Sequential:
    """Return the convolutions of a unit, each followed or, in pre-activation order, preceded by norm and ReLU.

    In post-activation order the last ReLU follows the sum, or ends a plain branch; in pre-activation order the first
    norm and ReLU may stand before the unit. A bottleneck strides in its 3×3 (torchvision, not the paper).
    """
    width, out = spec.width * 2**stage, _out_channels(spec, stage)
    shapes = [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
    if spec.block == "basic":
        shapes = [(channels, out, 3, stride), (out, out, 3, 1)]
    layers = []
    for number, (before, after, kernel, step) in enumerate(shapes, 1):
        last = number == len(shapes)
        convolution = (
            ("dropout", dropout(spec.dropout) if last else None),
            (f"conv{number}", conv(before, after, kernel, step, bias=not spec.normed)),
        )
        if spec.order == "pre":
            own = activate or number > 1
            layers += [
                (f"norm{number}", norm(before, on=spec.normed and own)),
                (f"relu{number}", relu(fresh=spec.normed or number > 1) if own else None),
                *convolution,
            ]
        else:
            layers += [
                *convolution,
                (f"norm{number}", norm(after, on=spec.normed)),
                (f"relu{number}", relu() if spec.order == "plain" or not last else None),
            ]
    return named(*layers)
