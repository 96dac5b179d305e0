"""Ladders: a family of networks and its depths, as names of the catalogue."""

from dataclasses import dataclass

from howdeep.errors import UserError, unknown

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
    """Name for large images; None where the literature has none."""
    large_depths: tuple[int, ...]
    """Depths that the literature has for large images."""


SIX = (8, 14, 20, 32, 56, 110, 218, 434, 1202)
"""Depths 6n + 2."""
DEEP = (18, 34, 50, 101, 152, 200)
DENSE, LARGE_DENSE = (10, 16, 22, 40, 58, 100), (121, 169, 201, 264)
FAMILIES: dict[str, Family] = {
    "plain": Family("plain", "cifar_plain{}", SIX, "plain{}", (18, 34)),
    "resnet": Family("residual", "cifar_resnet{}", SIX, "resnet{}", DEEP),
    "preresnet": Family("pre-activation residual", "cifar_preresnet{}", SIX, "preresnet{}", DEEP),
    "wideresnet": Family("wide residual", "cifar_wideresnet{}_4", (10, 16, 22, 28, 40), None, ()),
    "densenet": Family("dense", "cifar_densenet{}_k12", DENSE, "densenet{}", LARGE_DENSE),
    "densenet_bc": Family("dense, bottlenecks", "cifar_densenet_bc{}_k12", DENSE, "densenet{}", LARGE_DENSE),
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

    found = _family(family, large=large)
    name = str(found.large if large else found.small).format(depth)
    spec_of(name)
    return name


def usual_depths(family: str, *, large: bool) -> tuple[int, ...]:
    """Return the depths of a family that a ladder climbs where nobody says which, shallow first.

    Raises:
        UserError: There is no such family, or not for such images.
    """
    found = _family(family, large=large)
    return found.large_depths if large else found.depths


def _family(name: str, *, large: bool) -> Family:
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    family = FAMILIES[name]
    if large and family.large is None:
        raise UserError(f"family {name} is not allowed for images of more than {LARGE_SIDE} pixels a side")
    return family
