"""What every part of a network costs: multiply-adds and parameters, counted; time of one image, measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from howdeep.chain import Chain, Gate, Unit, run
from howdeep.networks.counting import output_and_macs
from howdeep.runtime.deployment import THREADS
from howdeep.runtime.timing import by_turns, threads_of

RUNS, SECONDS = 9, 6.0
"""Timed runs of every part, and the seconds for all of them together; fewer runs where they would take longer."""


@dataclass(frozen=True, kw_only=True)
class UnitCosts:
    """One unit, and what it costs with its branch and without."""

    output: tuple[int, ...]
    """Shape of its output for one image, (channels, height, width)."""
    macs: int
    """Multiply-adds of the branch for one image, of convolutions and matrix products, those of attention among them."""
    parameters: int
    """Trainable numbers of the branch."""
    ms: float
    """Median time of the branch for one image: the unit's minus that of what is left when it is taken out."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a network costs, as a sum over its parts."""

    macs: int
    """Multiply-adds of the whole network for one image."""
    parameters: int
    """Trainable numbers of the whole network."""
    ms: float
    """Time of one image: the sum of the medians of all parts, one thread."""
    units: tuple[UnitCosts, ...]
    """The branches, in the order of the chain."""

    def left(self, closed: Sequence[int]) -> tuple[int, int, float]:
        """Return multiply-adds, parameters and milliseconds without the branches of these units, counted from 0.

        Dense units that are cut out, not only closed, make later ones smaller as well: this is what stays at most.
        """
        out = [self.units[index] for index in closed]
        return (
            self.macs - sum(unit.macs for unit in out),
            self.parameters - sum(unit.parameters for unit in out),
            max(0.0, self.ms - sum(unit.ms for unit in out)),
        )


def costs_of(chain: Chain, folded: Chain, image: Tensor) -> Costs:
    """Measure the parts of a network.

    Args:
        chain: The network, in evaluation mode: its parameters are counted.
        folded: The same as it is run: its parts are timed.
        image: One image, shape (1, channels, height, width), on the device.
    """
    with threads_of(THREADS), torch.inference_mode():
        parts, x = [], folded.stem(image)
        for module, gate in folded.steps():
            able = isinstance(module, Unit) and module.merge.removable
            parts.append(_Part(module, gate, None if able else gate, x, run([(module, gate)], x)))
            x = parts[-1].output
        opened = [lambda part=part: run([(part.module, part.gate)], part.input) for part in parts]
        closed = [lambda part=part: run([(part.module, part.without)], part.input) for part in parts]
        ends = [lambda: folded.stem(image), lambda: folded.head(x)]
        times = by_turns([*opened, *closed, *ends], runs=RUNS, seconds=SECONDS, device=image.device)
        medians = [timing.median_ms for timing in times]
        branches = iter(chain.units)
        units = tuple(
            UnitCosts(
                output=tuple(part.output.shape[1:]),
                macs=output_and_macs(part.module.branch, part.input)[1],
                parameters=sum(weight.numel() for weight in next(branches).branch.parameters()),
                ms=max(0.0, whole - rest),
            )
            for part, whole, rest in zip(parts, medians, medians[len(parts) :], strict=False)
            if isinstance(part.module, Unit)
        )
    return Costs(
        macs=output_and_macs(folded, image)[1],
        parameters=sum(weight.numel() for weight in chain.parameters()),
        ms=sum(medians[: len(parts)]) + sum(medians[-2:]),
        units=units,
    )


@dataclass(frozen=True)
class _Part:
    """A module of the body, what it reads and what it returns."""

    module: nn.Module
    gate: Gate
    """As the network is."""
    without: Gate
    """The same without its branch, where it has one that can go."""
    input: Tensor
    output: Tensor
