"""Which networks a table of costs is about: names and depths become specs, and a few of them are to be measured."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from howdeep.errors import UserError
from howdeep.foreign.libraries import is_library_name
from howdeep.networks import Spec, spec_of

NAME = re.compile(r"(?P<family>.*?[a-z])(?P<depth>\d*)(?P<width>_k?\d+)?")
"""A family, its depth, and the width of wide and dense networks: cifar_densenet_bc, 100, _k12."""
FITTED = 3
"""Depths that a prediction is fitted on."""
BASE, MORE = 1, 2
"""Units of each stage, and how many more in one of them at a time, where stages differ."""


@dataclass(frozen=True)
class Plan:
    """The networks of one table."""

    title: str
    """What the user called them."""
    asked: tuple[Spec, ...]
    """Shallow first."""
    fitted: tuple[Spec, ...]
    """Those that a prediction is fitted on, asked for or not; all that were asked for where nothing is predicted."""

    @property
    def predicts(self) -> bool:
        """Whether anything is predicted: two networks at least to fit on, another one to predict."""
        return len(self.fitted) > 1 and any(spec not in self.fitted for spec in self.asked)


def plans_of(
    network: str, depths: Sequence[int] | None, measured: Sequence[int] | None, *, channels: int = 3
) -> list[Plan]:
    """Return what to measure and what to predict; one plan for each kind of unit that the depths have.

    Args:
        network: A name of the catalogue; with depths also a family, such as ``cifar_resnet``.
        depths: Layers; None is the network itself.
        measured: Depths to fit on; None chooses (see :func:`fitted_on`).
        channels: Channels of the images.

    Raises:
        UserError: There is no such network or depth, or a measured depth is none that was asked for.
    """
    if depths is None:
        if is_library_name(network):
            raise UserError(f"{network} is not allowed: costs are those of catalogue names, see howdeep networks")
        spec = spec_of(network, channels=channels)
        return [Plan(network, (spec,), (spec,))]
    specs = [spec_of(at_depth(network, depth), channels=channels) for depth in sorted(set(depths))]
    _require(measured, [spec.depth for spec in specs])
    kinds: dict[Spec, list[Spec]] = {}
    for spec in specs:
        kinds.setdefault(kind_of(spec), []).append(spec)
    return [Plan(_title(network), tuple(alike), fitted_on(alike, measured)) for alike in kinds.values()]


def at_depth(network: str, depth: int) -> str:
    """Return the name of a network with another depth: (``cifar_wideresnet28_10``, 40) is ``cifar_wideresnet40_10``.

    Raises:
        UserError: It is a library's, which have no other depths.
    """
    found = NAME.fullmatch(network)
    if is_library_name(network):
        raise UserError(f"--depths is not allowed for {network}: only names of the catalogue have depths")
    return f"{found['family']}{depth}{found['width'] or ''}" if found else network


def kind_of(spec: Spec) -> Spec:
    """Return a spec without name, depth and units: networks of equal kind differ in the number of their units only."""
    return replace(spec, name="", depth=0, units=(0,) * len(spec.units))


def fitted_on(specs: Sequence[Spec], measured: Sequence[int] | None) -> tuple[Spec, ...]:
    """Return the networks that a prediction is fitted on.

    These are the depths that were named; else the shallowest three, where all stages have equally many units and one
    of the three has three times as many as another, so that the line has length; else small networks of the same kind.

    Args:
        specs: Of one kind, shallow first.
        measured: Depths, or None.
    """
    if measured is not None:
        return tuple(spec for spec in specs if spec.depth in measured)
    if len(specs) == 1:
        return tuple(specs)
    even = all(len(set(spec.units)) == 1 for spec in specs)
    if even and (len(specs) <= FITTED or specs[FITTED - 1].units[0] >= 3 * specs[0].units[0]):
        return tuple(specs[:FITTED])
    stages = len(specs[0].units)
    counts = [(number,) * stages for number in (1, 3, 9)] if even else _one_more(stages)
    return tuple(_with_units(specs, units) for units in counts)


def _one_more(stages: int) -> list[tuple[int, ...]]:
    """Return few units per stage, then more in one stage at a time: that tells the stages' costs apart."""
    more = [tuple(BASE + MORE * (stage == other) for other in range(stages)) for stage in range(stages)]
    return [(BASE,) * stages, *more]


def _with_units(specs: Sequence[Spec], units: tuple[int, ...]) -> Spec:
    asked = next((spec for spec in specs if spec.units == units), None)
    name = f"{specs[0].family} with {'-'.join(map(str, units))} units"
    return asked or replace(specs[0], name=name, depth=0, units=units)


def _title(network: str) -> str:
    found = NAME.fullmatch(network)
    return f"{found['family']}{found['width'] or ''}" if found else network


def _require(measured: Sequence[int] | None, depths: Sequence[int]) -> None:
    for depth in measured or ():
        if depth not in depths:
            allowed = ", ".join(map(str, depths))
            raise UserError(f"--measured {depth} is not allowed: it must be one of --depths {allowed}")
    if measured is not None and len(set(measured)) < 2:
        raise UserError(f"--measured {','.join(map(str, measured))} is not allowed: a line needs two depths at least")
