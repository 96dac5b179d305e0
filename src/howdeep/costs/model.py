"""The costs of a network as one record, and a model of them that is fitted on a few networks."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from howdeep.costs.predicting import Fit, fit, memory_features, saving_features, time_features, weight_bytes
from howdeep.networks.describe import Description


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
    memory_save_bytes: float | None
    """Peak of training with ``--memory save``."""


TIMES, PEAKS = ("latency_ms", "inference_ms", "training_ms"), ("memory_bytes", "memory_save_bytes")
FEATURES: dict[str, Callable[[Description], list[float]]] = {
    **dict.fromkeys(TIMES, time_features),
    "memory_bytes": memory_features,
    "memory_save_bytes": saving_features,
}


@dataclass(frozen=True)
class CostModel:
    """How each cost follows from what is counted."""

    fits: dict[str, Fit]
    """By name; costs that were not measured have none."""
    measuring: Fit
    """Seconds that measuring takes."""
    precision: str
    """Of training."""

    def costs(self, network: Description) -> Costs:
        """Return what is predicted for a network; None for costs that have no fit."""
        return _costs({
            name: _known(name, network, self.precision) + one(FEATURES[name](network))
            for name, one in self.fits.items()
        })  # fmt: skip

    def seconds(self, network: Description) -> float:
        """Return how long measuring a network takes."""
        return self.measuring(time_features(network))

    @property
    def error_percent(self) -> Costs:
        """Largest relative error on what it was fitted on."""
        return _costs({name: one.error_percent for name, one in self.fits.items()})


def model_of(
    networks: Sequence[Description], costs: Sequence[Costs], seconds: Sequence[float], precision: str
) -> CostModel:
    """Return the model of least squared relative error.

    Args:
        networks: What was measured.
        costs: What each cost.
        seconds: What measuring each took.
        precision: Of training.
    """
    fits = {}
    for name, features in FEATURES.items():
        values = [value for one in costs if (value := getattr(one, name)) is not None]
        if len(values) == len(costs):
            known = [_known(name, network, precision) for network in networks]
            fits[name] = fit([features(network) for network in networks], values, known)
    return CostModel(fits, fit([time_features(network) for network in networks], seconds), precision)


def errors_of(predicted: Costs, measured: Costs) -> Costs:
    """Return 100 · (predicted / measured − 1)."""
    pairs = zip(astuple(predicted), astuple(measured), strict=True)
    return Costs(*(100 * (one / other - 1) if one is not None and other else None for one, other in pairs))


def difference_of(more: Costs, less: Costs) -> Costs:
    """Return what one network costs more than another."""
    pairs = zip(astuple(more), astuple(less), strict=True)
    return Costs(*(one - other if one is not None and other is not None else None for one, other in pairs))


def _known(name: str, network: Description, precision: str) -> float:
    return weight_bytes(network, precision) if name in PEAKS else 0.0


def _costs(values: dict[str, float]) -> Costs:
    return Costs(**{name: values.get(name) for name in FEATURES})
