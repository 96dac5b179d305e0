"""Linear decay to the digit, exactly so many open units, draws that depend on seed and step alone, their statistics."""

import json
import math
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import untimed
from torch import Tensor

from howdeep.survival import Survival, expected_open
from howdeep.util.errors import UserError

LINEAR = Survival("linear", 0.5)
DRAWS = 4000
rules = st.builds(Survival, st.sampled_from(["linear", "uniform"]), st.floats(0.05, 1))
counts = st.builds(Survival, st.just("exactly"), open_units=st.integers(1, 12))


@pytest.fixture(scope="module")
def opened() -> Tensor:
    """Gates of 4,000 steps of a chain of 54 units, shape (steps, units)."""
    gates = [LINEAR.draw(54, seed=0, step=step) for step in range(DRAWS)]
    return torch.tensor(gates, dtype=torch.float64)


# --- probabilities


@pytest.mark.parametrize(("unit", "death"), [(1, 0.00925926), (19, 0.17592593), (37, 0.34259259), (54, 0.5)], ids=str)
def test_linear_decay_closes_the_units_of_the_110_layer_network_as_often_as_published(unit: int, death: float) -> None:
    assert 1 - LINEAR.probabilities(54)[unit - 1] == pytest.approx(death, abs=1e-8)


@pytest.mark.parametrize(("last", "units", "open_units"), [(0.5, 54, 40.25), (0.2, 54, 32.0), (0.5, 50, 37.25)])
def test_expected_open_units_are_the_published_ones(last: float, units: int, open_units: float) -> None:
    assert expected_open(Survival("linear", last), units) == pytest.approx(open_units, abs=1e-12)


@untimed
@given(units=st.integers(1, 2000))
def test_decay_to_one_half_leaves_three_quarters_of_the_units_open(units: int) -> None:
    assert expected_open(LINEAR, units) == pytest.approx((3 * units - 1) / 4)


@untimed
@given(rule=rules, units=st.integers(1, 600))
def test_survival_never_grows_with_depth_and_ends_at_its_last_value(rule: Survival, units: int) -> None:
    p = rule.probabilities(units)
    assert len(p) == units
    assert p[-1] == pytest.approx(rule.last, abs=1e-15)
    assert all(later <= earlier for earlier, later in pairwise(p))
    assert all(0 < value <= 1 for value in p)
    assert rule.expected(units) == p


def test_uniform_and_constant_survival() -> None:
    assert Survival("uniform", 0.8).probabilities(3) == (0.8, 0.8, 0.8)
    assert Survival().probabilities(3) == (1.0, 1.0, 1.0)
    assert Survival("linear", 1.0).probabilities(7) == (1.0,) * 7


@pytest.mark.parametrize(
    ("rule", "random"),
    [
        (Survival(), False),
        (Survival("linear", 1.0), False),
        (LINEAR, True),
        (Survival("uniform", 0.9), True),
        (Survival("exactly", open_units=29), True),
    ],
)
def test_a_rule_is_random_only_if_some_unit_can_close(rule: Survival, random: bool) -> None:
    assert rule.random is random
    always = all(gate == 1.0 for step in range(20) for gate in rule.draw(30, seed=0, step=step))
    assert always is not random


# --- text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("constant", Survival()),
        ("linear:0.5", LINEAR),
        ("linear:1", Survival("linear", 1.0)),
        ("uniform:0.8", Survival("uniform", 0.8)),
        ("exactly:23", Survival("exactly", open_units=23)),
    ],
)
def test_a_rule_is_read_and_written_as_text(text: str, rule: Survival) -> None:
    assert Survival.parse(text) == rule
    assert str(rule) == text
    assert str(Survival.parse(text, "sample")) == f"{text} per sample"


@pytest.mark.parametrize("mode", ["batch", "sample"])
@pytest.mark.parametrize("text", ["linear:0.123456789", "exactly:23"])
def test_a_rule_survives_plain_data(text: str, mode: str) -> None:
    rule = Survival.parse(text, mode)
    assert Survival(**json.loads(json.dumps(asdict(rule)))) == rule


def test_a_record_from_before_there_was_a_count_of_open_units_is_read() -> None:
    record = {"schedule": "linear", "last": 0.5, "mode": "batch"}
    assert Survival(**record) == LINEAR


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linaer:0.5", r"^unknown survival rule 'linaer'; did you mean linear\?$"),
        ("", r"^unknown survival rule ''; known: constant, exactly, linear, uniform$"),
        ("linear", r"^survival 'linear' is not allowed: write constant, linear:0\.5, uniform:0\.8 or exactly:23$"),
        ("uniform:", r"^survival 'uniform:' is not allowed: write"),
        ("constant:1", r"^survival 'constant:1' is not allowed: write"),
        ("linear:half", r"^survival 'linear:half' is not allowed: 'half' is not a number$"),
        ("linear:0", r"^survival 0\.0 is not allowed: it must be above 0 and at most 1$"),
        ("linear:1.01", r"^survival 1\.01 is not allowed"),
        ("uniform:-0.5", r"^survival -0\.5 is not allowed"),
        ("uniform:nan", r"^survival nan is not allowed"),
        ("exactly:", r"^survival 'exactly:' is not allowed: write"),
        ("exactly:0", r"^survival exactly:0 is not allowed: it must be a whole number, at least 1$"),
        ("exactly:-2", r"^survival exactly:-2 is not allowed: it must be a whole number, at least 1$"),
        ("exactly:2.5", r"^survival exactly:2\.5 is not allowed: it must be a whole number, at least 1$"),
        ("exactly:nan", r"^survival exactly:nan is not allowed: it must be a whole number, at least 1$"),
    ],
)
def test_a_wrong_rule_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Survival.parse(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "exactly"}, r"^open_units None is not allowed for survival 'exactly': only exactly has it$"),
        ({"schedule": "linear", "open_units": 3}, r"^open_units 3 is not allowed for survival 'linear'"),
        (
            {"schedule": "exactly", "open_units": 2.5},
            r"^survival exactly:2\.5 is not allowed: it must be a whole number",
        ),
    ],
)
def test_a_count_of_open_units_belongs_to_one_rule(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Survival(**given)


def test_more_open_units_than_there_are_is_refused_with_the_most_that_can_be() -> None:
    rule, told = (
        Survival.parse("exactly:24"),
        r"^survival exactly:24 is not allowed for 23 units: at most 23 can be open$",
    )
    rule.check(24)
    for use in (rule.check, rule.expected, lambda units: rule.draw(units, seed=0, step=0)):
        with pytest.raises(UserError, match=told):
            use(23)


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(UserError, match=r"^unknown survival mode 'samples'; did you mean sample\?$"):
        Survival.parse("linear:0.5", "samples")


# --- draws


@pytest.mark.parametrize("mode", ["batch", "sample"])
@pytest.mark.parametrize("text", ["linear:0.5", "exactly:23"])
def test_a_draw_depends_on_seed_and_step_alone(text: str, mode: str) -> None:
    rule = Survival.parse(text, mode)

    def draw(seed: int, step: int) -> list:
        return [torch.as_tensor(gate).tolist() for gate in rule.draw(54, seed=seed, step=step, batch=16)]

    torch.manual_seed(0)
    first = draw(0, 3)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    assert draw(0, 3) == first
    assert torch.equal(state, torch.random.get_rng_state())
    assert draw(0, 4) != first
    assert draw(1, 3) != first


def test_a_draw_for_the_batch_is_one_number_per_unit_on_the_host() -> None:
    gates = LINEAR.draw(54, seed=0, step=0)
    assert len(gates) == 54
    assert all(isinstance(gate, float) for gate in gates)
    assert set(gates) == {0.0, 1.0}


@untimed
@given(rule=rules | counts, step=st.integers(0, 100), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_what_processes_draw_for_their_samples_is_the_draw_of_the_whole_batch(
    rule: Survival, step: int, sizes: list[int]
) -> None:
    rule, batch = replace(rule, mode="sample"), sum(sizes)
    whole = rule.draw(12, seed=5, step=step, batch=batch)
    starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    pieces = [
        rule.draw(12, seed=5, step=step, batch=batch, samples=slice(start, start + size))
        for start, size in zip(starts, sizes, strict=True)
    ]
    for unit, gate in enumerate(whole):
        assert isinstance(gate, Tensor)
        assert gate.dtype is torch.bool
        assert gate.shape == (batch,)
        assert torch.equal(gate, torch.cat([piece[unit] for piece in pieces]))  # type: ignore[arg-type]


def test_a_draw_per_sample_needs_the_size_of_the_batch() -> None:
    """Without it every mask would be empty, and every unit closed for every sample."""
    with pytest.raises(ValueError, match="batch"):
        Survival("linear", 0.5, "sample").draw(54, seed=0, step=0)


def test_the_mean_number_of_open_units_is_the_published_one(opened: Tensor) -> None:
    count = opened.sum(1)
    deviation = math.sqrt(sum(p * (1 - p) for p in LINEAR.probabilities(54)))
    assert deviation == pytest.approx(3.02, abs=0.005)
    assert count.mean().item() == pytest.approx(40.25, abs=4 * deviation / math.sqrt(DRAWS))
    # The standard error of a standard deviation is about itself over √(2n); gates that hang together change it.
    assert count.std().item() == pytest.approx(deviation, abs=4 * deviation / math.sqrt(2 * DRAWS))


def test_every_unit_is_open_as_often_as_its_survival(opened: Tensor) -> None:
    p = torch.tensor(LINEAR.probabilities(54), dtype=torch.float64)
    errors = (p * (1 - p) / DRAWS).sqrt()
    assert ((opened.mean(0) - p).abs() < 4.5 * errors).all()


@pytest.mark.parametrize("sample", [0, 4])
def test_the_gates_of_every_sample_have_the_law_of_the_rule(sample: int) -> None:
    rule, one = Survival("linear", 0.5, "sample"), slice(sample, sample + 1)
    draws = [rule.draw(54, seed=0, step=step, batch=5, samples=one) for step in range(DRAWS)]
    gates = torch.stack([torch.cat(list(draw)) for draw in draws]).double()  # type: ignore[arg-type]
    p = torch.tensor(rule.probabilities(54), dtype=torch.float64)
    errors = (p * (1 - p) / DRAWS).sqrt()
    assert ((gates.mean(0) - p).abs() < 4.5 * errors).all()
    # Units that hang together would change how much their number varies.
    assert gates.sum(1).std().item() == pytest.approx(3.02, abs=4 * 3.02 / math.sqrt(2 * DRAWS))


@untimed
@given(rule=rules, step=st.integers(0, 100), batch=st.integers(1, 300))
def test_as_many_parts_keep_a_unit_as_its_survival_says(rule: Survival, step: int, batch: int) -> None:
    gates = replace(rule, mode="sample").draw(9, seed=1, step=step, batch=batch)
    for gate, p in zip(gates, rule.probabilities(9), strict=True):
        assert isinstance(gate, Tensor)
        parts = min(8, batch)
        first_of_each = -(-torch.arange(parts) * batch // parts)
        assert abs(int(gate[first_of_each].sum()) - p * parts) < 1 + 1e-9
        assert int((gate != gate.roll(1)).sum()) <= 2  # one run on the circle


def test_draws_of_neighbouring_steps_and_units_are_independent(opened: Tensor) -> None:
    last = opened[:, -2:] - opened[:, -2:].mean(0)
    bound = 4.5 * 0.25 / math.sqrt(DRAWS)
    assert (last[:, 0] * last[:, 1]).mean().abs() < bound
    assert (last[1:, 1] * last[:-1, 1]).mean().abs() < bound


# --- exactly so many


@untimed
@given(units=st.integers(1, 200), data=st.data(), seed=st.integers(0, 2**31), step=st.integers(0, 10**6))
def test_exactly_as_many_units_are_open_in_every_step(units: int, data: st.DataObject, seed: int, step: int) -> None:
    count = data.draw(st.integers(1, units))
    gates = list(Survival("exactly", open_units=count).draw(units, seed=seed, step=step))
    assert (gates.count(1.0), gates.count(0.0)) == (count, units - count)


@untimed
@given(units=st.integers(1, 60), data=st.data(), step=st.integers(0, 10**6), batch=st.integers(1, 20))
def test_exactly_as_many_units_are_open_for_every_sample(
    units: int, data: st.DataObject, step: int, batch: int
) -> None:
    count = data.draw(st.integers(1, units))
    gates = Survival("exactly", mode="sample", open_units=count).draw(units, seed=0, step=step, batch=batch)
    opened = torch.stack(list(gates))  # type: ignore[arg-type]
    assert (opened.dtype, opened.shape) == (torch.bool, (units, batch))
    assert (opened.sum(0) == count).all()


@untimed
@given(units=st.integers(1, 200), data=st.data())
def test_evaluation_counts_every_unit_with_the_share_that_is_open(units: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, units))
    rule = Survival("exactly", open_units=count)
    assert rule.expected(units) == (count / units,) * units
    assert expected_open(rule, units) == pytest.approx(count)


@pytest.fixture(scope="module", params=["batch", "sample"])
def subsets(request: pytest.FixtureRequest) -> Tensor:
    """4,000 draws of 23 of 54 units, shape (draws, units)."""
    rule = Survival("exactly", mode=request.param, open_units=23)
    if rule.mode == "sample":
        return torch.stack(list(rule.draw(54, seed=0, step=0, batch=DRAWS))).T.double()  # type: ignore[arg-type]
    return torch.tensor([rule.draw(54, seed=0, step=step) for step in range(DRAWS)], dtype=torch.float64)


def test_every_unit_is_open_equally_often(subsets: Tensor) -> None:
    p = 23 / 54
    assert ((subsets.mean(0) - p).abs() < 4.5 * math.sqrt(p * (1 - p) / DRAWS)).all()


def test_every_pair_of_units_is_open_equally_often(subsets: Tensor) -> None:
    """A window of neighbours, or a stride, would open every unit equally often as well."""
    together = (subsets.T @ subsets / DRAWS)[tuple(torch.triu_indices(54, 54, 1))]
    p = 23 * 22 / (54 * 53)
    assert ((together - p).abs() < 5 * math.sqrt(p * (1 - p) / DRAWS)).all()


def test_subsets_of_neighbouring_steps_are_independent(subsets: Tensor) -> None:
    p = 23 / 54
    centred = subsets - p
    # The product of two indicators of variance p(1 − p) has that standard deviation.
    assert ((centred[1:] * centred[:-1]).mean(0).abs() < 4.5 * p * (1 - p) / math.sqrt(DRAWS)).all()
