"""The cost of any depth from a few measured ones: which to measure, and a sum of what the units cost.

Every cost is a sum with coefficients that are not negative, over quantities that are counted and not measured:

    time                 c₀ + Σ_s a_s · (units of stage s) + b · (multiply-adds of all units)
    latency              the same, and what the host's caches do not hold (see :mod:`howdeep.costs.caches`)
    memory               weights + c₀ + Σ_s a_s · (units of stage s) + b · (numbers that the units read)
    with checkpointing   weights + c₀ + b · (numbers at segment borders + 4 · numbers read in one segment)

A stage is all units whose maps are equally large. In a residual family both sums grow with the units, and the model is
the line through (units, cost). What weights take is known: 12 bytes each, for weight, gradient and momentum, and 2 for
the copy of bf16. A dense unit costs more the later it comes, which the last term carries. The
coefficients minimise the sum of squared relative errors (non-negative least squares, Lawson and Hanson 1974).
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from scipy.optimize import nnls

from howdeep.convert.libraries import is_library_name
from howdeep.costs.caches import Caches
from howdeep.networks import Spec, spec_of
from howdeep.networks.counting import Description, Part, Shape
from howdeep.util.errors import UserError

NAME = re.compile(r"(?P<family>.*?[a-z])(?P<depth>\d*)(?P<width>_[kw]?\d+)?")
"""A family, its depth and its width: cifar_densenet_bc, 100, _k12."""
FITTED = 3
"""Depths that a prediction is fitted on."""
BASE, MORE = 1, 2
"""Units of each stage, and how many more in one of them at a time, where stages differ."""
KEPT_BY_UNIT = 4
"""Maps that a unit keeps for its backward pass, counted in those that it reads: two convolutions and two norms."""
WEIGHT_BYTES, COPY_BYTES = 12, 2
"""Of one weight with its gradient and momentum, in float32; of its copy in bfloat16."""


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
    known = [spec.depth for spec in specs]
    if (other := next((depth for depth in measured or () if depth not in known), None)) is not None:
        allowed = ", ".join(map(str, known))
        raise UserError(f"--measured {other} is not allowed: it must be one of --depths {allowed}")
    if measured is not None and len(set(measured)) < 2:
        raise UserError(f"--measured {','.join(map(str, measured))} is not allowed: a line needs at least two depths")
    match = NAME.fullmatch(network)
    title = f"{match['family']}{match['width'] or ''}" if match else network
    kinds: dict[Spec, list[Spec]] = {}
    for spec in specs:
        kinds.setdefault(kind_of(spec), []).append(spec)
    return [Plan(title, tuple(alike), fitted_on(alike, measured)) for alike in kinds.values()]


def at_depth(network: str, depth: int) -> str:
    """Return the name of a network with another depth: (``cifar_wideresnet28_10``, 40) is ``cifar_wideresnet40_10``.

    Raises:
        UserError: It is a library's, which have no other depths.
    """
    match = NAME.fullmatch(network)
    if is_library_name(network):
        raise UserError(f"--depths is not allowed for {network}: only names of the catalogue have depths")
    return f"{match['family']}{depth}{match['width'] or ''}" if match else network


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
    if even:
        counts = [(number,) * stages for number in (1, 3, 9)]
    else:  # more in one stage at a time: that tells the stages' costs apart
        more = [tuple(BASE + MORE * (stage == other) for other in range(stages)) for stage in range(stages)]
        counts = [(BASE,) * stages, *more]
    asked = {spec.units: spec for spec in specs}
    return tuple(
        asked.get(units)
        or replace(specs[0], name=f"{specs[0].family} with {'-'.join(map(str, units))} units", depth=0, units=units)
        for units in counts
    )


@dataclass(frozen=True)
class LinearFit:
    """A cost as a sum of features."""

    coefficients: tuple[float, ...]
    """One per feature, none negative."""
    error_percent: float
    """Largest relative error on what it was fitted on."""

    def __call__(self, features: Sequence[float]) -> float:
        """Return the predicted cost."""
        return math.fsum(factor * value for factor, value in zip(self.coefficients, features, strict=True))


def fit(features: Sequence[Sequence[float]], costs: Sequence[float], known: Sequence[float] | None = None) -> LinearFit:
    """Return the coefficients of least squared relative error.

    Args:
        features: One row per measured network.
        costs: What was measured, above 0.
        known: The part of each cost that needs no fit; it is to be added to the predictions.

    Raises:
        ValueError: There is nothing to fit, or a cost is not above 0 and finite.
    """
    rows, measured = np.asarray(features, dtype=float), np.asarray(costs, dtype=float)
    if not len(rows) or not np.isfinite(measured).all() or (measured <= 0).any():
        raise ValueError(f"costs {list(costs)} cannot be fitted: there must be some, above 0 and finite")
    scale = np.maximum(rows.max(axis=0), 1e-300)
    relative = rows / measured[:, None]
    wanted = 1 - np.asarray(known or [0.0] * len(rows)) / measured
    solution, _ = nnls(relative / scale, wanted)
    coefficients = solution / scale
    errors = np.abs(relative @ coefficients - wanted)
    return LinearFit(tuple(float(value) for value in coefficients), 100 * float(errors.max()))


def time_features(network: Description) -> list[float]:
    """Return what time is a sum of."""
    return [1.0, *_units_per_stage(network), float(sum(unit.macs for unit in _units(network)))]


def memory_features(network: Description) -> list[float]:
    """Return what the peak memory of a training step is a sum of."""
    return [1.0, *_units_per_stage(network), float(sum(math.prod(unit.input) for unit in _units(network)))]


def checkpointing_features(network: Description) -> list[float]:
    """Return what the peak of a step is a sum of that keeps segment borders only (see ``runtime.checkpointing``).

    The peak is where the borders so far and what one segment keeps are most.
    """
    body = [part for part in network.parts if part.name not in ("stem", "head")]
    size = math.ceil(len(body) / max(1, round(2.5 * math.sqrt(len(body)))))
    segments = [body[start : start + size] for start in range(0, len(body), size)]
    borders, peaks = 0, []
    for segment in segments:
        borders += math.prod(segment[0].input)
        peaks.append(borders + KEPT_BY_UNIT * sum(math.prod(part.input) for part in segment))
    return [1.0, float(max(peaks))]


def weight_bytes(network: Description, precision: str) -> float:
    """Return what the weights of a network take in training.

    Args:
        network: The network.
        precision: ``fp32`` or ``bf16``, which keeps a copy of two bytes for the backward pass.
    """
    return float(network.parameters * (WEIGHT_BYTES + (COPY_BYTES if precision == "bf16" else 0)))


def _units(network: Description) -> list[Part]:
    return [part for part in network.parts if part.index is not None]


def _units_per_stage(network: Description) -> list[float]:
    counts: dict[Shape, int] = {}
    for unit in _units(network):
        counts[unit.output[1:]] = counts.get(unit.output[1:], 0) + 1
    return [float(count) for count in counts.values()]


@dataclass(frozen=True)
class Costs:
    """What one network costs."""

    latency_ms: float | None
    """One image alone."""
    inference_ms: float | None
    """Per image of a batch; its inverse is the throughput."""
    training_ms: float | None
    """Per image of a training step."""
    memory_bytes: float | None
    """Peak of training that keeps its activations, above an idle process; None where the system cannot say."""
    memory_checkpointing_bytes: float | None
    """Peak of training with ``--checkpointing``."""


TIMES, PEAKS = ("latency_ms", "inference_ms", "training_ms"), ("memory_bytes", "memory_checkpointing_bytes")
FEATURES: dict[str, Callable[[Description], list[float]]] = {
    **dict.fromkeys(TIMES, time_features),
    "memory_bytes": memory_features,
    "memory_checkpointing_bytes": checkpointing_features,
}


@dataclass(frozen=True)
class CostModel:
    """How each cost follows from what is counted."""

    fits: dict[str, LinearFit]
    """By name; costs that were not measured have none."""
    measuring: LinearFit
    """Seconds that measuring takes."""
    precision: str
    """Of training."""
    caches: Caches | None
    """Those of the host, where they matter."""

    def costs(self, network: Description) -> Costs:
        """Return what is predicted for a network; None for costs that have no fit."""
        return _costs(
            {
                name: _known(name, network, self.precision, self.caches) + one(FEATURES[name](network))
                for name, one in self.fits.items()
            }
        )

    def seconds(self, network: Description) -> float:
        """Return how long measuring a network takes."""
        return self.measuring(time_features(network))

    @property
    def error_percent(self) -> Costs:
        """Largest relative error on what it was fitted on."""
        return _costs({name: one.error_percent for name, one in self.fits.items()})


def model_of(
    networks: Sequence[Description],
    costs: Sequence[Costs],
    seconds: Sequence[float],
    precision: str,
    caches: Caches | None = None,
) -> CostModel:
    """Return the model of least squared relative error.

    Args:
        networks: What was measured.
        costs: What each cost.
        seconds: What measuring each took.
        precision: Of training.
        caches: Those of the host, where they matter.
    """
    fits = {}
    for name, features in FEATURES.items():
        values = [value for one in costs if (value := getattr(one, name)) is not None]
        if len(values) == len(costs):
            known = [_known(name, network, precision, caches) for network in networks]
            fits[name] = fit([features(network) for network in networks], values, known)
    return CostModel(fits, fit([time_features(network) for network in networks], seconds), precision, caches)


def errors_of(predicted: Costs, measured: Costs) -> Costs:
    """Return 100 · (predicted / measured − 1)."""
    pairs = zip(astuple(predicted), astuple(measured), strict=True)
    return Costs(*(100 * (one / other - 1) if one is not None and other else None for one, other in pairs))


def difference_of(more: Costs, less: Costs) -> Costs:
    """Return what one network costs more than another."""
    pairs = zip(astuple(more), astuple(less), strict=True)
    return Costs(*(one - other if one is not None and other is not None else None for one, other in pairs))


def _known(name: str, network: Description, precision: str, caches: Caches | None) -> float:
    """Return the part of a cost that no fit has to find."""
    if name in PEAKS:
        return weight_bytes(network, precision)
    return caches.more_ms(network) if caches is not None and name == "latency_ms" else 0.0


def _costs(values: dict[str, float]) -> Costs:
    return Costs(**{name: values.get(name) for name in FEATURES})
