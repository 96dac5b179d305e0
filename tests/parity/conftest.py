"""The same network twice: foreign weights with random statistics, and what must agree."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain
from howdeep.convert import Match, match
from howdeep.networks import build
from howdeep.util.seeds import generator

TOLERANCE = 1e-5
"""Allowed difference, as a share of the largest value."""
GRADIENT_TOLERANCE = 1e-4
"""The same for gradients: they pass twice as many sums, in an order that the two implementations choose."""

Parity = Callable[[nn.Module, str, int], Match]


@pytest.fixture
def assert_parity() -> Parity:
    """Move a foreign network's random weights into ours; outputs, statistics and gradients must agree."""
    return _assert_parity


def _assert_parity(foreign: nn.Module, name: str, size: int) -> Match:
    randomise(foreign)
    images = torch.randn(4, 3, size, size, generator=generator(0, "images"))
    ours = build(name)
    matched = match(foreign.state_dict(), ours)
    ours.load_state_dict(matched.state)
    pairs = [*matched.renamed, *((same, same) for same in matched.kept)]
    with torch.no_grad():
        assert_close(ours.eval()(images), foreign.eval()(images), TOLERANCE, "output in evaluation")
    _assert_training(foreign.train(), ours.train(), images, pairs)
    return matched


def _assert_training(foreign: nn.Module, ours: Chain, images: Tensor, pairs: list[tuple[str, str]]) -> None:
    """A training-mode step: outputs, the statistics that it moved, and every gradient."""
    labels = torch.arange(len(images))
    output, expected = ours(images), foreign(images)
    assert_close(output, expected, TOLERANCE, "output in training mode")
    for scores in (output, expected):
        F.cross_entropy(scores, labels).backward()
    mine, theirs = ours.state_dict(), foreign.state_dict()
    gradients = [dict(module.named_parameters()) for module in (ours, foreign)]
    for their_name, my_name in pairs:
        if "running" in my_name or "num_batches" in my_name:
            assert_close(mine[my_name], theirs[their_name], TOLERANCE, my_name)
        else:
            grad, wanted = gradients[0][my_name].grad, gradients[1][their_name].grad
            assert grad is not None
            assert wanted is not None
            assert_close(grad, wanted.reshape(grad.shape), GRADIENT_TOLERANCE, f"gradient of {my_name}")


def randomise(module: nn.Module) -> None:
    """Draw every parameter and statistic, so that no two layers are alike and a swap shows."""
    stream = generator(0, "randomise")
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            for value, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
                (layer.running_mean, -0.5, 0.5),
                (layer.running_var, 0.5, 1.5),
            ):
                nn.init.uniform_(value, low, high, generator=stream)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=stream)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -0.5, 0.5, generator=stream)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """The largest difference is at most ``tolerance`` of the largest expected value."""
    difference = (actual.double() - expected.double()).abs().max()
    scale = expected.double().abs().max()
    assert difference <= tolerance * scale, f"{what}: {difference / scale:.1e} of {scale:.3g}"
