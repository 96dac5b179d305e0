"""Families of networks that differ in depth only: what people call them, their depths, their names."""

from dataclasses import dataclass

from howdeep.util.errors import UserError, unknown

LARGE_SIDE = 64
"""Images of more pixels a side get the ImageNet networks, whose stem divides the side by four."""


@dataclass(frozen=True)
class Family:
    """Networks that differ in depth only."""

    label: str
    """What people call it."""
    small: str
    """Name for small images; {} is the depth."""
    depths: tuple[int, ...]
    """Usual depths for small images, each about twice the one before."""
    large: str | None
    """Family for large images; None where the literature has none. Its name and depth are a network's."""


SIX = (8, 14, 20, 32, 56, 110, 218, 434, 1202)
"""Depths 6n + 2."""
WIDER = 161
"""Layers of the DenseNet that does not differ in depth alone: its growth rate is 48, that of the others 32."""
DENSENET = (10, 16, 22, 40, 58, 100)
FAMILIES: dict[str, Family] = {
    "plain": Family("plain", "cifar_plain{}", SIX, "plain"),
    "resnet": Family("residual", "cifar_resnet{}", SIX, "resnet"),
    "preresnet": Family("pre-activation residual", "cifar_preresnet{}", SIX, "preresnet"),
    "wideresnet": Family("wide residual", "cifar_wideresnet{}_4", (10, 16, 22, 28, 40), None),
    "densenet": Family("dense", "cifar_densenet{}_k12", DENSENET, "densenet"),
    "densenet_bc": Family("dense, bottlenecks", "cifar_densenet_bc{}_k12", DENSENET, "densenet"),
}
"""Wide networks have factor 4, dense ones growth rate 12; the dense networks for large images are DenseNet-BC."""


def network_name(family: str, depth: int, *, large: bool) -> str:
    """Return the name of a family's network of a depth, such as ``cifar_densenet_bc100_k12``.

    Args:
        family: One of :data:`FAMILIES`.
        depth: Layers with weights, as the literature counts them.
        large: Whether images have more than 64 pixels a side.

    Raises:
        UserError: There is no such family, not for such images, or not of this depth; the nearest are named.
    """
    from howdeep.networks import spec_of  # imports torch, which the options of a command do without

    members = _family(family, large=large)
    name = f"{members.large}{depth}" if large else members.small.format(depth)
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
