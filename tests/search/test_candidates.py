"""Only networks that meet every budget take part, and an impossible budget is answered with a possible one."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import untimed

from howdeep.chain import Chain
from howdeep.data import Dataset, open_data
from howdeep.networks import spec_of
from howdeep.networks.counting import describe
from howdeep.runtime.deployment import HERE
from howdeep.runtime.precision import FP32, Trial
from howdeep.runtime.timing import Timing
from howdeep.search import candidates
from howdeep.search.candidates import BESIDE, FEWEST_EPOCHS, Candidates, measure_candidates
from howdeep.search.families import plane
from howdeep.search.options import Budgets
from howdeep.search.spread import competing, spread
from howdeep.search.study import final_share
from howdeep.training.config import TrainConfig
from howdeep.util.errors import UserError

CPU = torch.device("cpu")
CONFIG = TrainConfig(network="cifar_resnet8", data="digits", recipe="extendable", batch_size=128, device="cpu")
STEPS = 12  # of 1,437 digits
DEPTHS = (8, 14, 20, 32)


timed: list[str] = []
"""Networks of which steps were timed."""


def units(chain: Chain) -> int:
    return len(chain)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data("digits")


@pytest.fixture(autouse=True)
def _costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit takes 1 ms of latency, 10 ms of a training step, and 1 MB of memory, or a tenth where it is saved."""

    def trials(config, steps, tried=None) -> list[Trial]:
        timed.append(config.network)
        step = 0.01 * units(steps.chain)
        return [Trial(one.precision, one.memory_format, step, 3, None, 0.0, 1) for one in tried or (FP32,)]

    def times(chains: list[Chain], *_, **__) -> list[Timing]:
        return [Timing(units(chain), (units(chain), units(chain)), 20) for chain in chains]

    timed.clear()
    monkeypatch.setattr(candidates, "trials_of", trials)
    monkeypatch.setattr(candidates, "latencies", times)
    peaks = {False: 1_000_000, True: 100_000}
    monkeypatch.setattr(
        candidates, "peak_of_training", lambda spec, setting, checkpointing: sum(spec.units) * peaks[checkpointing]
    )


def measured(
    dataset: Dataset,
    depths: tuple[int, ...] = DEPTHS,
    report: Callable = print,
    widths: tuple[int, ...] = (1,),
    /,
    *,
    spent: float = 0.0,
    **limits: float,
) -> Candidates:
    budgets = Budgets(**{"train_seconds": 1e6, **limits})
    members = plane("resnet", depths, widths, large=False)
    return measure_candidates(CONFIG, members, budgets, dataset, CPU, HERE, lambda: spent, report)


def test_everyone_takes_part_where_nothing_is_limited(digits: Dataset) -> None:
    found = measured(digits)
    assert [one.depth for one in found.networks] == list(DEPTHS)
    assert found.dropped == ()
    assert found.networks[0].parameters == 75_290 - 288  # one channel instead of three
    assert found.networks[1].seconds_per_step == pytest.approx(BESIDE * 0.06)


@pytest.mark.parametrize(
    ("budget", "value", "last"),
    [("latency_seconds", 0.0065, 14), ("parameters", 200_000, 14), ("memory_bytes", 0.65e6, 14)],
)
def test_networks_beyond_a_budget_are_left_out_with_all_deeper_ones(
    budget: str, value: float, last: int, digits: Dataset
) -> None:
    found = measured(digits, DEPTHS, lambda _: None, **{budget: value})  # type: ignore[arg-type]
    assert found.networks[-1].depth == last
    first, *deeper = found.dropped
    assert budget.startswith(first.budget)
    assert (first.depth, first.needed is not None) == (20, True)
    assert [(one.depth, one.needed, one.reason) for one in deeper] == [
        (32, None, "deeper than cifar_resnet20, which misses it")
    ]


def test_few_networks_are_timed_and_costs_of_the_others_follow(digits: Dataset) -> None:
    """A line is exact here: through 8 layers, and the first network of three times as many multiply-adds."""
    found = measured(digits, DEPTHS, print, (1, 2))
    assert timed == ["cifar_resnet8", "cifar_resnet8_w2", "cifar_resnet20", "cifar_resnet20_w2"]
    seconds = {(one.depth, one.width): one.seconds_per_step for one in found.networks}
    assert seconds == pytest.approx({place: BESIDE * 0.01 * (place[0] - 2) / 2 for place in seconds})
    assert [one.depth for one in found.networks if one.predicted] == [14, 32, 14, 32]
    wide = [one.macs for one in found.networks if one.width == 2]
    assert wide == [describe(spec_of(f"cifar_resnet{depth}_w2", channels=1), size=8).macs for depth in DEPTHS]


def test_timing_takes_a_small_share_of_the_budget(digits: Dataset) -> None:
    """What is too dear to be timed is about as fast as what was, by its multiply-adds."""
    found = measured(digits, (8, 20), print, (1, 2), train_seconds=1.9 * 15 * 0.03 / 0.05)
    assert timed == ["cifar_resnet8"]
    narrow, wide = (next(one for one in found.networks if (one.depth, one.width) == (8, width)) for width in (1, 2))
    assert (narrow.predicted, wide.predicted) == (False, True)
    assert wide.seconds_per_step / narrow.seconds_per_step == pytest.approx(wide.macs / narrow.macs)


def test_memory_is_saved_where_that_meets_the_budget(digits: Dataset) -> None:
    found = measured(digits, memory_bytes=6.5e6)
    assert [one.checkpointing for one in found.networks] == [False, False, True, True]


def test_who_would_end_half_trained_is_left_out(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "STEPS_OF_A_TRIAL", 0)  # all are timed, however short the time is
    per_epoch = STEPS * BESIDE * 0.03  # of 8 layers; 14 take twice as long
    found = measured(digits, (8, 14), train_seconds=1.01 * FEWEST_EPOCHS * 2 * per_epoch / final_share(2))
    assert [one.depth for one in found.networks] == [8, 14]
    found = measured(digits, (8, 14), train_seconds=0.99 * FEWEST_EPOCHS * 2 * per_epoch / final_share(2))
    assert [one.depth for one in found.networks] == [8]
    assert found.dropped[0].budget == "train"
    assert found.dropped[0].needed == pytest.approx(FEWEST_EPOCHS * 2 * per_epoch)


def test_epochs_are_those_of_the_chosen_networks_share(digits: Dataset) -> None:
    found = measured(digits, (8, 14), train_seconds=1000.0)
    assert found.networks[0].epochs == pytest.approx(final_share(2) * 1000.0 / (STEPS * BESIDE * 0.03))
    assert found.networks[0].epochs == pytest.approx(2 * found.networks[1].epochs)


@pytest.mark.parametrize(
    ("budget", "value", "told", "least"),
    [
        ("latency_seconds", 0.001, "--latency-budget 1ms", "3ms"),
        ("parameters", 1000, "--parameters-budget 1,000", "75,002"),
        ("memory_bytes", 1e5, "--memory-budget 0.1MB", "0.3MB"),
        ("train_seconds", 1.0, "--train-budget 1s", "6s"),
    ],
)
def test_an_impossible_budget_is_answered_with_the_least_that_would_do(
    budget: str, value: float, told: str, least: str, digits: Dataset
) -> None:
    """Of training time 3 s were used before."""
    with pytest.raises(UserError) as refused:
        measured(digits, DEPTHS, lambda _: None, spent=3.0, **{budget: value})  # type: ignore[arg-type]
    assert str(refused.value) == f"{told} is not allowed: cifar_resnet8, the smallest network, needs {least} here"


def test_what_is_measured_is_said_at_once(digits: Dataset) -> None:
    said: list[str] = []
    measured(digits, (8, 14, 20), said.append, latency_seconds=0.0065)
    assert said[0] == "  cifar_resnet20: left out, latency budget: 9.00 ms"
    assert said[1].startswith("  cifar_resnet8: 3.00 ms, 75,002 parameters, up to ")


def test_families_are_measured_one_by_one(digits: Dataset) -> None:
    members = [*plane("densenet", (10,), (1,), large=False), *plane("resnet", (8, 14), (1,), large=False)]
    found = measure_candidates(
        CONFIG, members, Budgets(1e6, latency_seconds=0.005), digits, CPU, HERE, lambda: 0.0, lambda _: None
    )
    assert [one.network for one in found.networks] == ["cifar_resnet8"]
    assert [one.network for one in found.dropped] == ["cifar_densenet10_k12", "cifar_resnet14"]


@dataclass(frozen=True)
class Priced:
    """A network and its cost, alone."""

    depth: int
    width: int
    seconds_per_step: float
    family: str = "resnet"


PLANE = [Priced(depth, width, depth * width**1.5) for width in (1, 2, 4, 8) for depth in (8, 14, 20, 32, 56, 110, 218)]


@pytest.mark.parametrize("most", [2, 3, 5, 8, 12])
def test_those_who_compete_are_spread_over_the_plane(most: int) -> None:
    taken = spread(PLANE, most)
    assert len(taken) == most
    assert taken[0] == PLANE[0]
    assert taken[-1] == PLANE[-1]
    assert {one.width for one in taken} == {1, 2, 4, 8} or most < 4
    costs = sorted(one.seconds_per_step for one in taken)
    assert max(late / early for early, late in pairwise(costs)) <= (costs[-1] / costs[0]) ** (2.5 / (most - 1))


@untimed
@given(
    st.lists(
        st.builds(Priced, st.just(8), st.sampled_from([1, 2, 4]), st.floats(0.01, 100)),
        min_size=1,
        max_size=20,
        unique=True,
    ),
    st.integers(2, 12),
)
def test_networks_of_one_width_that_compete_differ_by_a_quarter_in_cost(found: list[Priced], most: int) -> None:
    taken = spread(found, most)
    assert min(found, key=lambda one: one.seconds_per_step) in taken
    for one, other in combinations(taken, 2):
        ratio = max(one.seconds_per_step, other.seconds_per_step) / min(one.seconds_per_step, other.seconds_per_step)
        assert one.width != other.width or ratio >= 1.25


def test_as_many_compete_as_the_first_round_gives_the_dearest_three_quarters_of_an_epoch() -> None:
    """Rounds of 120 / K seconds each."""

    def taken(epoch_of_dearest: float) -> int:
        factor = epoch_of_dearest / PLANE[-1].seconds_per_step
        return len(competing(PLANE, lambda count: 120 / count, lambda one: factor * one.seconds_per_step))

    assert [taken(seconds) for seconds in (1.0, 10.0, 15.0, 30.0, 60.0)] == [12, 12, 10, 5, 3]
