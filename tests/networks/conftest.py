"""What the tests of the catalogue read again and again, counted once."""

from dataclasses import dataclass
from functools import cache

import pytest
from torch import nn

from howdeep.networks import counting, skeleton, spec_of
from howdeep.networks.counting import Summary, catalogue

skeleton_once = cache(skeleton)
"""No test changes one; for the deepest network it takes half a second."""


@dataclass(frozen=True)
class Counted:
    """What a network's skeleton consists of."""

    units: int
    layers: int
    """Convolutions and linear layers outside the shortcuts, as the literature counts them."""
    parameters: int
    weights: int
    """Parameters without norms and biases."""


@cache
def counted(name: str, **options: object) -> Counted:
    chain = skeleton_once(spec_of(name, **options))  # type: ignore[arg-type]
    weighted = {place: part for place, part in chain.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    return Counted(
        units=len(chain),
        layers=sum(".shortcut." not in place for place in weighted),
        parameters=sum(weight.numel() for weight in chain.parameters()),
        weights=sum(layer.weight.numel() for layer in weighted.values()),
    )


@pytest.fixture(scope="session")
def networks() -> dict[str, Summary]:
    """Return the catalogue by name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(counting, "skeleton", skeleton_once)
        return {network.name: network for network in catalogue()}
