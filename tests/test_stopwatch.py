"""Times are medians of runs by turns, and threads are put back."""

import torch

from howdeep.networks import build
from howdeep.stopwatch import FEWEST_RUNS, by_turns, forward_times, threads_of


def test_sides_are_run_by_turns_and_once_before_the_clock() -> None:
    calls: list[str] = []
    found = by_turns([lambda: calls.append("a"), lambda: calls.append("b")], runs=6, seconds=100.0)
    assert calls == ["a", "b"] * (1 + 1 + 6)
    assert [timing.runs for timing in found] == [6, 6]


def test_long_runs_are_timed_fewer_times_but_never_too_few() -> None:
    (found,) = by_turns([lambda: None], runs=50, seconds=0.0)
    assert found.runs == FEWEST_RUNS


def test_a_deeper_network_takes_longer_and_quartiles_hold_the_median() -> None:
    chains = [build(name).eval() for name in ("cifar_resnet8", "cifar_resnet110")]
    shallow, deep = forward_times(chains, torch.zeros(1, 3, 32, 32), runs=7)
    assert 3 * shallow.median_ms < deep.median_ms
    for timing in (shallow, deep):
        assert timing.quartiles_ms[0] <= timing.median_ms <= timing.quartiles_ms[1]


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads_of(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
