"""What every part of a network costs: multiply-adds and parameters, counted; time of one image, measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from howdeep.chain import Chain, Gate, Unit, run
from howdeep.networks.counting import output_and_macs
from howdeep.runtime.timing import THREADS, by_turns, threads_of

RUNS, SECONDS = 9, 6.0
"""Timed runs of every part; fewer where all together would take longer than so many seconds."""


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
    inputs = _inputs(folded, image)
    with threads_of(THREADS), torch.inference_mode():
        opened = [lambda step=step, x=x: run([step], x) for step, x in inputs]
        closed = [lambda step=step, x=x: run([step], x) for step, x in _closed(inputs)]
        ends = [lambda: folded.stem(image), lambda: folded.head(_last(inputs))]
        times = by_turns([*opened, *closed, *ends], runs=RUNS, seconds=SECONDS, device=image.device)
    medians = [timing.median_ms for timing in times]
    of_units = [index for index, ((module, _), _) in enumerate(inputs) if isinstance(module, Unit)]
    without = medians[len(opened) : len(opened) + len(closed)]
    units = [
        _unit_costs(unit, *inputs[at], saved=max(0.0, medians[at] - without[at]))
        for unit, at in zip(chain.units, of_units, strict=True)
    ]
    _, whole = output_and_macs(folded, image)
    parameters = sum(weight.numel() for weight in chain.parameters())
    return Costs(
        macs=whole, parameters=parameters, units=tuple(units), ms=sum(medians[: len(opened)]) + sum(medians[-2:])
    )


Step = tuple[nn.Module, Gate]


@torch.inference_mode()
def _inputs(chain: Chain, image: Tensor) -> list[tuple[Step, Tensor]]:
    """Return every part of the body with what it reads."""
    x, found = chain.stem(image), []
    for step in chain.steps():
        found.append((step, x))
        x = run([step], x)
    return found


@torch.inference_mode()
def _last(inputs: list[tuple[Step, Tensor]]) -> Tensor:
    step, x = inputs[-1]
    return run([step], x)


def _closed(inputs: list[tuple[Step, Tensor]]) -> list[tuple[Step, Tensor]]:
    """Return the same with every unit taken out that can be."""
    return [
        ((module, None if isinstance(module, Unit) and module.merge.removable else gate), x)
        for (module, gate), x in inputs
    ]


@torch.inference_mode()
def _unit_costs(unit: Unit, step: Step, x: Tensor, *, saved: float) -> UnitCosts:
    module, _ = step
    assert isinstance(module, Unit)
    return UnitCosts(
        output=tuple(run([step], x).shape[1:]),
        macs=output_and_macs(module.branch, x)[1],
        parameters=sum(weight.numel() for weight in unit.branch.parameters()),
        ms=saved,
    )
