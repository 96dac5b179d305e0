"""Only networks that meet every budget take part, and an impossible budget is answered with a possible one."""

from collections.abc import Callable

import pytest
import torch

from howdeep.chain import Chain
from howdeep.data import Dataset, open_data
from howdeep.runtime.deployment import HERE
from howdeep.runtime.precision import FP32, Trial
from howdeep.runtime.timing import Timing
from howdeep.search import candidates
from howdeep.search.candidates import BESIDE, FEWEST_EPOCHS, Candidates, measure_candidates
from howdeep.search.options import Budgets
from howdeep.search.study import final_share
from howdeep.training.config import TrainConfig
from howdeep.util.errors import UserError

CPU = torch.device("cpu")
CONFIG = TrainConfig(network="cifar_resnet8", data="digits", recipe="extendable", batch_size=128, device="cpu")
STEPS = 12  # of 1,437 digits
DEPTHS = (8, 14, 20, 32)


def units(chain: Chain) -> int:
    return len(chain)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data("digits")


@pytest.fixture(autouse=True)
def _costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit takes 1 ms of latency, 10 ms of a training step, and 1 MB of memory, or a tenth where it is saved."""

    def trials(config, steps, tried=(FP32,)) -> list[Trial]:
        return [Trial(one.precision, one.memory_format, 0.01 * units(steps.chain), 3, None, 0.0, 1) for one in tried]

    def times(chains: list[Chain], *_, **__) -> list[Timing]:
        return [Timing(units(chain), (units(chain), units(chain)), 20) for chain in chains]

    monkeypatch.setattr(candidates, "trials_of", trials)
    monkeypatch.setattr(candidates, "latencies", times)
    peaks = {False: 1_000_000, True: 100_000}
    monkeypatch.setattr(
        candidates, "peak_of_training", lambda spec, setting, checkpointing: sum(spec.units) * peaks[checkpointing]
    )


def measured(
    dataset: Dataset, depths: tuple[int, ...] = DEPTHS, report: Callable = print, **limits: float
) -> Candidates:
    budgets = Budgets(**{"train_seconds": 1e6, **limits})
    return measure_candidates(CONFIG, {"resnet": depths}, budgets, dataset, CPU, HERE, report)


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
    found = measured(digits, DEPTHS, lambda _: None, **{budget: value})
    assert found.networks[-1].depth == last
    first, *deeper = found.dropped
    assert budget.startswith(first.budget)
    assert (first.depth, first.needed is not None) == (20, True)
    assert [(one.depth, one.needed, one.reason) for one in deeper] == [
        (32, None, "deeper than cifar_resnet20, which misses it")
    ]


def test_memory_is_saved_where_that_meets_the_budget(digits: Dataset) -> None:
    found = measured(digits, memory_bytes=6.5e6)
    assert [one.checkpointing for one in found.networks] == [False, False, True, True]


def test_who_would_end_half_trained_is_left_out(digits: Dataset) -> None:
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
        ("train_seconds", 1.0, "--train-budget 1s", "2.07s"),
    ],
)
def test_an_impossible_budget_is_answered_with_the_least_that_would_do(
    budget: str, value: float, told: str, least: str, digits: Dataset
) -> None:
    with pytest.raises(UserError) as refused:
        measured(digits, DEPTHS, lambda _: None, **{budget: value})
    assert str(refused.value) == f"{told} is not allowed: cifar_resnet8, the smallest network, needs {least} here"


def test_what_is_measured_is_said_at_once(digits: Dataset) -> None:
    said: list[str] = []
    measured(digits, (8, 14, 20), report=said.append, latency_seconds=0.0065)
    assert said[0].startswith("  cifar_resnet8: 3.00 ms, 75,002 parameters, up to ")
    assert said[2] == "  cifar_resnet20: left out, latency budget: 9.00 ms"


def test_families_are_measured_one_by_one(digits: Dataset) -> None:
    ladders = {"densenet": (10,), "resnet": (8, 14)}
    found = measure_candidates(CONFIG, ladders, Budgets(1e6, latency_seconds=0.005), digits, CPU, HERE, lambda _: None)
    assert [one.network for one in found.networks] == ["cifar_resnet8"]
    assert [one.network for one in found.dropped] == ["cifar_densenet10_k12", "cifar_resnet14"]
