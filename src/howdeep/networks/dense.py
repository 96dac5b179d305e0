"""Dense networks: unit l reads the K·(l−1) + K₀ feature maps of everything before it (Huang et al. 2016, DenseNet).

Known numbers (parameters; 10 classes for CIFAR, 1,000 for ImageNet):

    cifar_densenet40_k12      1,019,722        densenet121     7,978,856
    cifar_densenet_bc100_k12    769,162        densenet161    28,681,000
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from howdeep.chain import Chain, Concatenate, GateRule, Unit
from howdeep.networks.parts import conv, dropout, named, norm, pooled_classifier, relu, require_counts, stem
from howdeep.util.errors import UserError

BOTTLENECK = 4
"""Channels of the 1×1 convolution before the 3×3, in growth rates (the B of DenseNet-BC)."""


@dataclass(frozen=True, kw_only=True)
class DenseSpec:
    """Everything that :func:`dense` needs."""

    name: str
    """Name in the catalogue, such as ``cifar_densenet_bc100_k12``."""
    family: str
    """``densenet`` or ``densenet_bc``."""
    depth: int
    """Layers as the literature counts them: convolutions, transitions and the classifier."""
    units: tuple[int, ...]
    """Units per block."""
    growth: int
    """Growth rate K: feature maps that each unit adds."""
    stem: int
    """K₀, channels of the stem."""
    bottleneck: bool
    """A 1×1 convolution to 4K channels before the 3×3."""
    compression: float
    """Share of the channels that a transition keeps, θ."""
    large: bool
    """The stem for large images (7×7 stride 2, norm, ReLU, max pooling) instead of one 3×3 convolution."""
    classes: int = 10
    """Number of classes."""
    channels: int = 3
    """Channels of the images."""
    normed: bool = True
    """Batch normalisation before every convolution; without it convolutions have biases."""
    dropout: float = 0.0
    """Dropout probability after every convolution of a branch."""
    zero_init: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_counts(self.name, classes=self.classes, channels=self.channels, growth=self.growth, stem=self.stem)
        if not 0 < self.compression <= 1:
            raise UserError(f"compression {self.compression} is not allowed: it must be above 0 and at most 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout} is not allowed: it must be at least 0 and below 1")

    def zero_initialised(self) -> "DenseSpec":
        """Return the spec as it is: later units read what a branch adds, not a sum that it could leave alone."""
        return self


def dense(spec: DenseSpec, rule: GateRule | None = None) -> Chain:
    """Return the chain of a spec; its weights are not initialised."""
    channels, body = spec.stem, []
    for block, units in enumerate(spec.units):
        if block:
            kept = int(spec.compression * channels)
            body.append(_transition(spec, channels, kept))
            channels = kept
        for _ in range(units):
            body.append(Unit(_branch(spec, channels), nn.Identity(), Concatenate(spec.growth)))
            channels += spec.growth
    first = stem(spec.channels, spec.stem, large=spec.large, activate=spec.large, normed=spec.normed)
    return Chain(first, body, pooled_classifier(channels, spec.classes, activate=True, normed=spec.normed), rule)


def _branch(spec: DenseSpec, channels: int) -> nn.Sequential:
    """Return norm-ReLU-conv3×3 to K channels, with norm-ReLU-conv1×1 to 4K before it in DenseNet-B."""
    layers, inner, biased = [], BOTTLENECK * spec.growth, not spec.normed
    if spec.bottleneck:
        layers += [
            ("norm1", norm(channels, on=spec.normed)),
            ("relu1", relu(fresh=spec.normed)),
            ("conv1", conv(channels, inner, 1, bias=biased)),
            ("dropout1", dropout(spec.dropout)),
        ]
        channels = inner
    layers += [
        ("norm2", norm(channels, on=spec.normed)),
        ("relu2", relu(fresh=spec.normed or spec.bottleneck)),
        ("conv2", conv(channels, spec.growth, 3, bias=biased)),
        ("dropout2", dropout(spec.dropout)),
    ]
    return named(*layers)


def _transition(spec: DenseSpec, channels: int, out: int) -> nn.Sequential:
    """Return norm-ReLU-conv1×1 and 2×2 mean pooling: a link between blocks, without a gate."""
    return named(
        ("norm", norm(channels, on=spec.normed)),
        ("relu", relu(fresh=spec.normed)),
        ("conv", conv(channels, out, 1, bias=not spec.normed)),
        ("dropout", dropout(spec.dropout)),
        ("pool", nn.AvgPool2d(2, stride=2)),
    )
