"""The plane: families of networks that differ in depth and width only, their depths, their names."""

from collections.abc import Sequence
from dataclasses import dataclass

from howdeep.util.errors import UserError, unknown

LARGE_SIDE = 64
"""Images of more pixels a side get the ImageNet networks, whose stem divides the side by four."""


@dataclass(frozen=True)
class Family:
    """Networks that differ in depth and width only."""

    label: str
    """What people call it."""
    small: str
    """Name for small images of any width; {} is the depth."""
    depths: tuple[int, ...]
    """Usual depths for small images, each about twice the one before."""
    large: str | None
    """Family for large images; None where the literature has none. Its name and depth are a network's."""
    width: int = 1
    """Width that a ladder has by default, as a factor on the channels of the paper."""


WIDTHS = (1, 2, 4, 8)
"""Usual widths for small images."""
SIX = (8, 14, 20, 32, 56, 110, 218, 434, 1202)
"""Depths 6n + 2."""
WIDER = 161
"""Layers of the DenseNet that does not differ in depth alone: its growth rate is 48, that of the others 32."""
DENSENET = (10, 16, 22, 40, 58, 100)
FAMILIES: dict[str, Family] = {
    "plain": Family("plain", "cifar_plain{}", SIX, "plain"),
    "resnet": Family("residual", "cifar_resnet{}", SIX, "resnet"),
    "preresnet": Family("pre-activation residual", "cifar_preresnet{}", SIX, "preresnet"),
    "wideresnet": Family("wide residual", "cifar_wideresnet{}", (10, 16, 22, 28, 40), None, 4),
    "densenet": Family("dense", "cifar_densenet{}", DENSENET, "densenet"),
    "densenet_bc": Family("dense, bottlenecks", "cifar_densenet_bc{}", DENSENET, "densenet"),
}
"""The dense networks for large images are DenseNet-BC."""


@dataclass(frozen=True)
class Member:
    """A network of a plane."""

    family: str
    """One of :data:`FAMILIES`."""
    depth: int
    """Layers with weights, as the literature counts them."""
    width: int
    """Factor on the channels that the family's paper has: 16, 32 and 64, or a growth rate of 12."""
    network: str
    """Its name in the catalogue."""


def plane(family: str, depths: Sequence[int], widths: Sequence[int], *, large: bool) -> list[Member]:
    """Return the networks of a family, narrow first, and shallow first where they are equally wide.

    Args:
        family: One of :data:`FAMILIES`.
        depths: Layers.
        widths: Factors.
        large: Whether images have more than 64 pixels a side.

    Raises:
        UserError: As :func:`network_name`.
    """
    places = [(depth, width) for width in sorted(set(widths)) for depth in sorted(set(depths))]
    return [Member(family, depth, width, network_name(family, depth, width, large=large)) for depth, width in places]


def network_name(family: str, depth: int, width: int = 1, *, large: bool) -> str:
    """Return the name of a family's network, such as ``cifar_densenet_bc100_k12``.

    Args:
        family: One of :data:`FAMILIES`.
        depth: Layers with weights, as the literature counts them.
        width: Factor on the channels that the family's paper has.
        large: Whether images have more than 64 pixels a side.

    Raises:
        UserError: There is no such family, not for such images, or not of this depth or width; the nearest are named.
    """
    from howdeep.networks.catalogue import at_width, spec_of  # imports torch, which the options of a command do without

    members = _family(family, large=large)
    name = at_width(f"{members.large}{depth}" if large else members.small.format(depth), width)
    spec_of(name)
    return name


def usual_depths(family: str, *, large: bool) -> tuple[int, ...]:
    """Return the depths of a family that a ladder has by default, shallow first.

    Raises:
        UserError: There is no such family, or not for such images.
    """
    members = _family(family, large=large)
    if members.large is None or not large:
        return members.depths
    from howdeep.networks.catalogue import DEPTHS  # imports torch, which the options of a command do without

    return tuple(depth for depth in DEPTHS[members.large] if depth != WIDER)


def _family(name: str, *, large: bool) -> Family:
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    family = FAMILIES[name]
    if large and family.large is None:
        raise UserError(f"family {name} is not allowed for images of more than {LARGE_SIDE} pixels a side")
    return family
