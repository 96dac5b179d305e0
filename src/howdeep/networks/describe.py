"""What a network consists of, counted without weights: shapes, parameters and multiply-adds of every part."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from howdeep.chain import Add, AddReLU, Concatenate, Replace, Unit
from howdeep.errors import UserError
from howdeep.networks import LITERATURE, Spec, skeleton, spec_of
from howdeep.networks.parts import Pad

Shape = tuple[int, ...]
"""Shape of one sample: (channels, height, width), or (classes,) behind the head."""

SMALL, LARGE = 32, 224
"""Pixels of a side for which the literature counts: CIFAR networks and ImageNet networks."""

MERGES = {Add: "add", AddReLU: "add, ReLU", Concatenate: "concatenate", Replace: "replace"}
SHORTCUTS = {nn.Identity: "identity", Pad: "padding", nn.Sequential: "projection"}


@dataclass(frozen=True)
class Part:
    """The stem, one unit, one link or the head."""

    name: str
    """``stem``, ``unit 7``, ``link`` or ``head``."""
    index: int | None
    """Number of the unit, counted from 1; None for the other parts."""
    input: Shape
    """Shape of the sample that the part reads."""
    output: Shape
    """Shape of the sample that the part returns."""
    parameters: int
    """Trainable numbers, norms included."""
    macs: int
    """Multiply-adds per image, of convolutions and linear layers alone."""
    merge: str | None
    """``add``, ``add, ReLU``, ``concatenate`` or ``replace``; None where there is no gate."""
    shortcut: str | None
    """``identity``, ``padding`` or ``projection``; None where there is none."""
    removable: bool
    """Whether the unit can be taken out of the chain; false for the other parts."""


@dataclass(frozen=True)
class Summary:
    """One network in one line."""

    name: str
    """Name in the catalogue."""
    family: str
    """Such as ``resnet`` or ``densenet_bc``."""
    depth: int
    """Layers as the literature counts them."""
    units: int
    """Units, which own a gate."""
    parameters: int
    """Trainable numbers, norms included."""
    macs: int
    """Multiply-adds per image, of convolutions and linear layers alone (FLOPs are twice as many)."""


@dataclass(frozen=True)
class Description(Summary):
    """One network, part by part."""

    input: Shape
    """Shape of the image, (channels, height, width)."""
    parts: tuple[Part, ...]
    """Stem, units and links in order, head; parameters and MACs add up to those of the network."""


def describe(spec: Spec, *, size: int | None = None) -> Description:
    """Return what a network consists of, for square images.

    Args:
        spec: The network.
        size: Pixels of a side; None is what the literature counts for, 32 or 224.

    Raises:
        UserError: The images are too small for the network.
    """
    pixels = (LARGE if spec.large else SMALL) if size is None else size
    if pixels < 1:
        raise UserError(f"image size {pixels} is not allowed: it must be at least 1")
    image = (spec.channels, pixels, pixels)
    parts = _parts(spec, image)
    return Description(
        name=spec.name,
        family=spec.family,
        depth=spec.depth,
        units=sum(spec.units),
        parameters=sum(part.parameters for part in parts),
        macs=sum(part.macs for part in parts),
        input=image,
        parts=parts,
    )


def catalogue() -> list[Summary]:
    """Return every network of the literature in one line each, in the order of the catalogue."""
    return [describe(spec_of(name)) for name in LITERATURE]


def _parts(spec: Spec, image: Shape) -> tuple[Part, ...]:
    chain = skeleton(spec).eval()
    parts, shape, index, measured = [], image, 0, {}
    for module in (chain.stem, *chain.body, chain.head):
        index += isinstance(module, Unit)
        # Equal modules print equally and cost the same, so that 600 units are measured as often as they differ.
        key = (repr(module), shape)
        if key not in measured:
            measured[key] = _measure(module, shape, spec)
        output, macs = measured[key]
        name = "stem" if module is chain.stem else "head" if module is chain.head else "link"
        parts.append(_part(name, module, index, shape, output, macs))
        shape = output
    return tuple(parts)


def _part(name: str, module: nn.Module, index: int, shape: Shape, output: Shape, macs: int) -> Part:
    parameters = sum(weight.numel() for weight in module.parameters())
    if not isinstance(module, Unit):
        return Part(name, None, shape, output, parameters, macs, merge=None, shortcut=None, removable=False)
    return Part(
        name=f"unit {index}",
        index=index,
        input=shape,
        output=output,
        parameters=parameters,
        macs=macs,
        merge=MERGES[type(module.merge)],
        shortcut=None if isinstance(module.merge, Replace) else SHORTCUTS[type(module.shortcut)],
        removable=module.merge.removable,
    )


def _measure(module: nn.Module, shape: Shape, spec: Spec) -> tuple[Shape, int]:
    """Return the shape of the output and the multiply-adds for one sample of a shape."""
    sample = torch.empty(1, *shape, device="meta")
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output: Tensor = module(sample)
    except RuntimeError as error:
        # Mean pooling of a transition refuses a map of one pixel.
        if "too small" not in str(error):
            raise
        raise UserError(f"{spec.name} needs larger images: its maps are down to one pixel before the last stage") from None
    return tuple(output.shape[1:]), counter.get_total_flops() // 2
