"""What is counted and not measured: parameters, multiply-adds, FLOPs, per part; and what survival leaves of them."""

import math
from dataclasses import dataclass
from functools import lru_cache

from howdeep.costs.scaling import BACKWARD
from howdeep.networks import Spec, skeleton
from howdeep.networks.counting import Description, describe, output_and_macs, sample_of
from howdeep.survival import Survival

PASSES = 1 + BACKWARD
"""Forward passes' worth of a training step."""


@dataclass(frozen=True)
class PartCount:
    """The stem, one unit, one link or the head."""

    name: str
    """``stem``, ``unit 7``, ``link`` or ``head``."""
    parameters: int
    """Trainable numbers."""
    macs: int
    """Multiply-adds per image of a forward pass."""
    flops: int
    """Twice as many."""


@dataclass(frozen=True)
class Counts:
    """What one network consists of."""

    units: int
    """Units, which own a gate."""
    parameters: int
    """Trainable numbers."""
    macs: int
    """Multiply-adds per image of a forward pass."""
    flops: int
    """Twice as many."""
    training_macs: int
    """Per image of a training step with all units open: three forward passes."""
    expected_training_macs: float
    """The same under the survival rule: branches count with the probability that they are open."""
    parts: tuple[PartCount, ...]
    """In order; they add up to the network."""

    def minus(self, other: "Counts") -> "Counts":
        """Return the difference of the sums, without parts."""
        names = ("units", "parameters", "macs", "flops", "training_macs", "expected_training_macs")
        return Counts(**{name: getattr(self, name) - getattr(other, name) for name in names}, parts=())


@lru_cache(maxsize=64)
def described(spec: Spec, size: int | None) -> Description:
    """Return ``describe(spec, size=size)``, counted once: a thousand layers take a second."""
    return describe(spec, size=size)


def counts_of(spec: Spec, network: Description, rule: Survival) -> Counts:
    """Return what a network consists of.

    Args:
        spec: The network.
        network: Its description, for the images in question.
        rule: Which units are open in training.

    Raises:
        UserError: The rule does not fit the number of units.
    """
    parts = tuple(PartCount(part.name, part.parameters, part.macs, 2 * part.macs) for part in network.parts)
    return Counts(
        units=network.units,
        parameters=network.parameters,
        macs=network.macs,
        flops=2 * network.macs,
        training_macs=PASSES * network.macs,
        expected_training_macs=PASSES * expected_macs(spec, network, rule),
        parts=parts,
    )


def expected_macs(spec: Spec, network: Description, rule: Survival) -> float:
    """Return the multiply-adds of a forward pass in training, Σ over parts, a branch times its p_l.

    Shortcuts, stem, links and head are always computed.
    """
    closed = [1 - p for p in rule.probabilities(network.units)]
    units = [part for part in network.parts if part.index is not None]
    shortcuts = shortcut_macs(spec, network)
    saved = [share * (unit.macs - by) for share, unit, by in zip(closed, units, shortcuts, strict=True)]
    return network.macs - math.fsum(saved)


def shortcut_macs(spec: Spec, network: Description) -> list[int]:
    """Return the multiply-adds of every unit's shortcut: those of a projection, else none."""
    parts = [part for part in network.parts if part.index is not None]
    if all(part.shortcut != "projection" for part in parts):
        return [0] * len(parts)  # without the second that it takes to put a thousand layers together
    return [
        output_and_macs(unit.shortcut, sample_of(part.input))[1] if part.shortcut == "projection" else 0
        for unit, part in zip(skeleton(spec).eval().units, parts, strict=True)
    ]
