"""The parts that every family is built from: convolution, norm, shortcut, stem, head, initialisation."""

from collections import OrderedDict
from collections.abc import Collection

from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain
from howdeep.util.errors import UserError
from howdeep.util.seeds import generator


def require(name: str, **choices: tuple[str, Collection[str]]) -> None:
    """Raise a UserError for the first choice, given with what is allowed, that is not allowed."""
    for choice, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{choice} {value!r} is not allowed for {name}: it must be {' or '.join(allowed)}")


def require_counts(name: str, **counts: int) -> None:
    """Raise a UserError for the first count that is not at least 1."""
    for count, value in counts.items():
        if value < 1:
            raise UserError(f"{count} {value} is not allowed for {name}: it must be at least 1")


def named(*layers: tuple[str, nn.Module | None]) -> nn.Sequential:
    """Return the layers in order, without those that are None (a norm that was left out)."""
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers if layer is not None))


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    """Return a convolution that keeps height and width at stride 1."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=bias)


def norm(channels: int, *, on: bool = True) -> nn.BatchNorm2d | None:
    """Return batch normalisation, or None where the network does without."""
    return nn.BatchNorm2d(channels) if on else None


def relu(*, fresh: bool = True) -> nn.ReLU:
    """Return a ReLU; it writes over its input where that is a fresh tensor that nobody else reads.

    Behind a convolution or a norm it is, and the buffer is saved. On the stream itself, where a norm was left out,
    it is not: the shortcut reads the same tensor.
    """
    return nn.ReLU(inplace=fresh)


def dropout(probability: float) -> nn.Dropout | None:
    """Return dropout, or None for probability 0."""
    return nn.Dropout(probability) if probability else None


class Pad(nn.Module):
    """Shortcut A: every second pixel, and zero channels where there are more (He et al. 2015, section 3.3).

    The paper does not say where the zeros go; here half of them lie on either side, as in the public CIFAR weights,
    so that these can be read. All placements have the same number of parameters (none).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}, stride={self.stride}"


def projection(in_channels: int, out_channels: int, stride: int, *, normed: bool, bias: bool) -> nn.Sequential:
    """Return shortcut B and C: a 1×1 convolution, with its norm in post-activation networks."""
    return named(
        ("conv", conv(in_channels, out_channels, 1, stride, bias=bias)),
        ("norm", norm(out_channels, on=normed)),
    )


def stem(images: int, channels: int, *, large: bool, activate: bool, normed: bool) -> nn.Sequential:
    """Return the stem: a 3×3 convolution, or 7×7 and pooling for large images; norm and ReLU where units lack them."""
    kernel, stride = (7, 2) if large else (3, 1)
    return named(
        ("conv", conv(images, channels, kernel, stride, bias=not normed)),
        ("norm", norm(channels, on=normed and activate)),
        ("relu", relu() if activate else None),
        ("pool", nn.MaxPool2d(3, stride=2, padding=1) if large else None),
    )


def pooled_classifier(channels: int, classes: int, *, activate: bool, normed: bool) -> nn.Sequential:
    """Return the head: norm and ReLU where the last unit lacks them, mean over height and width, linear layer."""
    return named(
        ("norm", norm(channels, on=activate and normed)),
        ("relu", relu(fresh=normed) if activate else None),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("linear", nn.Linear(channels, classes)),
    )


def initialise(chain: Chain, *, seed: int, zero_branches: bool) -> None:
    """He-initialise in place (He et al. 2015b): convolutions N(0, 2/(k²·c_out)), norms 1 and 0, biases 0.

    The linear layer is uniform within ±1/√channels, as in PyTorch. Draws come from a generator of their own, so
    that building a network moves no global random state.

    Args:
        chain: The network.
        seed: Seed of the draws.
        zero_branches: Every branch returns zeros at the start, so that each unit begins as its shortcut.
    """
    stream = generator(seed, "initialise")
    for layer in chain.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=stream)
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=stream)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if zero_branches:
        for unit in chain.units:
            # No ReLU follows the last weighted layer inside the branch, so it still receives a gradient.
            weighted = [layer for layer in unit.branch.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
            nn.init.zeros_(weighted[-1].weight)
