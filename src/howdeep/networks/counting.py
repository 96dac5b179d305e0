"""What a network consists of, counted without weights: shapes, parameters and multiply-adds of every part."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from howdeep.chain import Add, AddReLU, Chain, Concatenate, Replace, Unit
from howdeep.networks import LITERATURE, Spec, skeleton, spec_of
from howdeep.networks.dense import DenseSpec
from howdeep.networks.parts import Pad
from howdeep.util.errors import UserError

Shape = tuple[int, ...]
"""Shape of one sample: (channels, height, width), or (classes,) behind the head."""

SMALL, LARGE = 32, 224
"""Pixels of a side for which the literature counts: CIFAR networks and ImageNet networks."""

MERGES = {Add: "add", AddReLU: "add+ReLU", Concatenate: "concatenate", Replace: "replace"}


@dataclass(frozen=True)
class Part:
    """The stem, one unit, one link or the head."""

    name: str
    """``stem``, ``unit 7`` or the name that the unit has, ``link`` or ``head``."""
    index: int | None
    """Number of the unit, counted from 1; None for the other parts."""
    input: Shape
    """Shape of the sample that the part reads."""
    output: Shape
    """Shape of the sample that the part returns."""
    parameters: int
    """Trainable numbers, norms included."""
    macs: int
    """Multiply-adds per image, of convolutions and matrix products, those of attention among them."""
    merge: str | None
    """``add``, ``add+ReLU``, ``concatenate``, ``replace``, or the class of another; None where there is no gate."""
    shortcut: str | None
    """``identity``, ``padding``, ``pooling`` or ``projection``; None where nothing of it passes."""
    removable: bool
    """Whether the unit can be taken out of the chain; false for the other parts."""


@dataclass(frozen=True)
class Summary:
    """One network in one line."""

    name: str
    """Name in the catalogue."""
    family: str
    """Such as ``resnet`` or ``densenet_bc``."""
    depth: int | None
    """Layers as the literature counts them; None for networks of others, which nobody counted."""
    units: int
    """Units, which own a gate."""
    parameters: int
    """Trainable numbers, norms included."""
    macs: int
    """Multiply-adds per image, of convolutions and matrix products, attention's among them; FLOPs are twice as many."""


@dataclass(frozen=True)
class Description(Summary):
    """One network, part by part."""

    input: Shape
    """Shape of the image, (channels, height, width)."""
    parts: tuple[Part, ...]
    """Stem, units and links in order, head; parameters and MACs add up to those of the network."""


Measured = dict[tuple, tuple[Shape, int]]
"""Output shape and multiply-adds of layers, by what they print, the shapes of their weights and their input."""


def describe(spec: Spec, *, size: int | None = None, measured: Measured | None = None) -> Description:
    """Return what a network consists of, for square images.

    Args:
        spec: The network.
        size: Pixels of a side; None is what the literature counts for, 32 or 224.
        measured: What is known of equal layers; more is added.

    Raises:
        UserError: The images are too small for the network.
    """
    side = (LARGE if spec.large else SMALL) if size is None else size
    refuse_too_small(spec, side, side)
    chain, image = skeleton(spec).eval(), (spec.channels, side, side)
    return _counted(
        chain, image, {} if measured is None else measured, name=spec.name, family=spec.family, depth=spec.depth
    )


def describe_chain(chain: Chain, image: Shape, *, name: str, family: str) -> Description:
    """Return what any chain consists of, such as a traced network.

    Args:
        chain: The network, in evaluation mode; it stays as it is.
        image: Shape of its images, (channels, height, width).
        name: What it is called.
        family: Where it comes from.
    """
    return _counted(copy.deepcopy(chain).to("meta"), image, {}, name=name, family=family, depth=None)


def catalogue() -> list[Summary]:
    """Return every network of the literature in one line each, in the order of the catalogue."""
    measured: Measured = {}  # networks of one family have equal units
    return [describe(spec_of(name), measured=measured) for name in LITERATURE]


def _counted(
    chain: Chain, image: Shape, measured: Measured, *, name: str, family: str, depth: int | None
) -> Description:
    parts: list[Part] = []
    shape, numbered = image, iter(enumerate(chain.names, 1))
    for module in (chain.stem, *chain.body, chain.head):
        # Equal layers print equally and cost the same, so that 600 equal units are measured once; a traced part
        # prints its name alone, and a module of one's own need not print the shapes of its weights.
        weights = tuple(weight.shape for weight in module.parameters())
        traced = any(isinstance(part, GraphModule) for part in module.modules())
        key = (id(module) if traced else repr(module), weights, shape)
        if key not in measured:
            output, macs = output_and_macs(module, sample_of(shape))
            measured[key] = tuple(output.shape[1:]), macs
        output, macs = measured[key]
        unit = module if isinstance(module, Unit) else None
        other = "stem" if module is chain.stem else "head" if module is chain.head else "link"
        number, own = (None, other) if unit is None else next(numbered)
        parts.append(
            Part(
                name=own,
                index=number,
                input=shape,
                output=output,
                parameters=sum(weight.numel() for weight in module.parameters()),
                macs=macs,
                merge=MERGES.get(type(unit.merge), type(unit.merge).__name__) if unit else None,
                shortcut=_shortcut_name(unit.shortcut) if unit and unit.merge.passes_shortcut else None,
                removable=unit is not None and unit.merge.removable,
            )
        )
        shape = output
    return Description(
        name=name,
        family=family,
        depth=depth,
        units=len(chain),
        parameters=sum(part.parameters for part in parts),
        macs=sum(part.macs for part in parts),
        input=image,
        parts=tuple(parts),
    )


def _shortcut_name(shortcut: nn.Module) -> str:
    if isinstance(shortcut, nn.Identity):
        return "identity"
    if any(True for _ in shortcut.parameters()):
        return "projection"
    return "padding" if isinstance(shortcut, Pad) else "pooling"


def refuse_too_small(spec: Spec, height: int, width: int) -> None:
    """Raise a UserError for images that a network cannot read."""
    side = smallest(spec)
    if min(height, width) < side:
        needs = f"it needs at least {side}×{side}"
        raise UserError(f"{height}×{width} images are too small for {spec.name}: {needs}")


def smallest(spec: Spec) -> int:
    """Return the fewest pixels of a side that a network takes.

    The mean pooling between the blocks of a dense network halves feature maps and rounds down; all else rounds up.
    """
    if not isinstance(spec, DenseSpec):
        return 1
    side = 2 ** (len(spec.units) - 1)
    return 4 * (side - 1) + 1 if spec.large else side


def output_and_macs(module: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Return what a module returns, without gradients, and the multiply-adds that it takes for that."""
    from torch.utils.flop_counter import FlopCounterMode  # brings triton, twice the time of this package's own modules

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = module(x)
    return output, counter.get_total_flops() // 2


def sample_of(shape: Shape) -> Tensor:
    """Return one sample without numbers, for counting."""
    return torch.empty(1, *shape, device="meta")
