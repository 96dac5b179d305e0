"""Costs that are exactly a sum of what the units cost are found again, whatever the family."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdeep.costs.counting import described
from howdeep.costs.predicting import checkpointing_features, fit, memory_features, time_features, weight_bytes
from howdeep.networks import spec_of
from howdeep.networks.counting import Description, describe
from howdeep.runtime.checkpointing import Checkpointed


def networks(*names: str) -> list[Description]:
    return [described(spec_of(name), None) for name in names]


@given(start=st.floats(0, 1e3), unit=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_a_cost_that_is_affine_in_the_units_is_predicted_at_1202_layers(start: float, unit: float) -> None:
    *few, deep = networks("cifar_resnet8", "cifar_resnet20", "cifar_resnet56", "cifar_resnet1202")
    for features in (time_features, memory_features):
        model = fit([features(one) for one in few], [start + unit * one.units for one in few])
        assert model.error_percent < 1e-6
        assert model(features(deep)) == pytest.approx(start + unit * deep.units, rel=1e-9)


def test_a_dense_network_costs_the_more_the_later_a_unit_comes() -> None:
    """Exactly 3 per unit and 1e-6 per multiply-add, which grow with the square of the depth."""
    few, (deep,) = (
        networks(*(f"cifar_densenet_bc{depth}_k12" for depth in (10, 22, 40))),
        networks("cifar_densenet_bc100_k12"),
    )

    def true(one: Description) -> float:
        return 5 + 3 * one.units + 1e-6 * sum(part.macs for part in one.parts if part.index)

    model = fit([time_features(one) for one in few], [true(one) for one in few])
    assert model(time_features(deep)) == pytest.approx(true(deep), rel=1e-9)


def test_stages_that_cost_differently_are_told_apart() -> None:
    """Costs of 7, 5, 3 and 2 per unit of the four stages, from networks with few units."""
    spec = spec_of("resnet50")
    counts = [(1, 1, 1, 1), (3, 1, 1, 1), (1, 3, 1, 1), (1, 1, 3, 1), (1, 1, 1, 3)]
    few = [describe(replace(spec, units=units)) for units in counts]

    def true(units: tuple[int, ...]) -> float:
        return 11 + sum(cost * count for cost, count in zip((7, 5, 3, 2), units, strict=True))

    model = fit([time_features(one) for one in few], [true(units) for units in counts])
    assert model(time_features(describe(spec))) == pytest.approx(true((3, 4, 6, 3)), rel=1e-9)


def test_relative_errors_count_and_no_cost_falls_with_depth() -> None:
    """One constant for 1 and 3 has the least squared relative error at 1.2, not at their mean."""
    model = fit([[1.0], [1.0]], [1.0, 3.0])
    assert model.coefficients == pytest.approx((1.2,))
    assert model.error_percent == pytest.approx(60)
    falling = fit([[1.0, 1.0], [1.0, 2.0]], [4.0, 3.0])
    assert falling.coefficients[1] == 0


@pytest.mark.parametrize("costs", [[], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]])
def test_what_cannot_be_fitted_is_refused(costs: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot be fitted"):
        fit([[1.0, 2.0]] * len(costs), costs)


def test_stages_are_counted_by_the_size_of_their_maps() -> None:
    (network,) = networks("resnet50")
    units = sum(part.macs for part in network.parts if part.index)
    assert time_features(network) == [1.0, 3.0, 4.0, 6.0, 3.0, float(units)]


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_resnet56", "cifar_densenet_bc100_k12"])
def test_the_borders_that_are_counted_are_those_that_training_keeps(name: str) -> None:
    """With S segments of a stage's equal maps, borders and segments are whole multiples of a map."""
    from howdeep.networks import skeleton

    network = describe(spec_of(name))
    segments = Checkpointed(skeleton(spec_of(name))).segments
    body = [part for part in network.parts if part.name not in ("stem", "head")]
    size = math.ceil(len(body) / segments)
    read = [math.prod(part.input) for part in body]
    starts = range(0, len(body), size)
    kept = [sum(read[: end + 1 : size]) + 4 * sum(read[end : end + size]) for end in starts]
    assert checkpointing_features(network) == [1.0, float(max(kept))]


def test_saved_memory_grows_with_the_root_of_the_depth() -> None:
    few, many = (checkpointing_features(one)[1] for one in networks("cifar_resnet128", "cifar_resnet1202"))
    assert 2 < many / few < 4.5


def test_the_bytes_of_weights_are_known_and_not_fitted() -> None:
    few = networks("cifar_resnet8", "cifar_resnet20")
    known = [weight_bytes(one, "bf16") for one in few]
    assert known[0] == 14 * few[0].parameters
    assert weight_bytes(few[0], "fp32") == 12 * few[0].parameters
    rest = fit([checkpointing_features(one) for one in few], [bytes_ + 1000 for bytes_ in known], known)
    assert rest(checkpointing_features(few[1])) == pytest.approx(1000)
