"""Times are medians of runs by turns, and threads are put back."""

from functools import partial

import pytest
import torch

from howdeep.networks import build
from howdeep.runtime import timing as stopwatch
from howdeep.runtime.timing import (
    FEWEST_RUNS,
    ROUNDS,
    by_turns,
    fastest_threads,
    race,
    thread_counts,
    threads_of,
)


def test_sides_are_run_by_turns_and_once_before_the_clock() -> None:
    calls: list[str] = []
    found = by_turns([lambda: calls.append("a"), lambda: calls.append("b")], runs=6, seconds=100.0)
    assert calls == ["a", "b"] * (1 + 1 + 6)
    assert [timing.runs for timing in found] == [6, 6]


def test_long_runs_are_timed_fewer_times_but_never_too_few() -> None:
    (found,) = by_turns([lambda: None], runs=50, seconds=0.0)
    assert found.runs == FEWEST_RUNS


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads_of(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def raced(monkeypatch: pytest.MonkeyPatch, times: dict[str, list[float]]) -> tuple[list[str], dict]:
    """Race sides that take so many milliseconds; return who ran when, and what was found."""
    clock, ran = {name: iter(row) for name, row in times.items()}, []

    def seconds_of(side, device) -> float:
        side()
        return next(clock[ran[-1]]) / 1000

    monkeypatch.setattr(stopwatch, "seconds_of", seconds_of)
    return ran, race({name: partial(ran.append, name) for name in times})


def test_a_race_is_run_by_turns_and_once_before_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, found = raced(monkeypatch, {"a": [10, 11, 12], "b": [13, 14, 15]})
    assert ran == ["a", "b"] * (1 + ROUNDS)
    assert found == {"a": [0.010, 0.011, 0.012], "b": [0.013, 0.014, 0.015]}


def test_who_is_clearly_slower_leaves_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, found = raced(monkeypatch, {"slow": [7000], "fast": [10, 10, 10], "sometimes": [14, 16]})
    assert ran == ["slow", "fast", "sometimes"] * 2 + ["fast", "sometimes", "fast"]
    assert {name: len(seconds) for name, seconds in found.items()} == {"slow": 1, "fast": 3, "sometimes": 2}


def test_the_best_stays_in_the_race_whatever_disturbs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = raced(monkeypatch, {"a": [10, 10, 90], "b": [90]})
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 3, "b": 1}


def test_threads_to_choose_from_are_torchs_own_half_of_them_and_one() -> None:
    for own, counts in ((1, [1]), (2, [2, 1])):
        with threads_of(own):
            assert thread_counts("auto", torch.device("cpu")) == counts
            assert thread_counts("auto", torch.device("cuda")) == [own]
            assert thread_counts(3, torch.device("cpu")) == [3]
    with threads_of(5):
        assert thread_counts("auto", torch.device("cpu")) == [5, 3, 1]


def test_the_threads_of_forward_passes_are_among_those_to_choose_from_and_are_put_back() -> None:
    chain, images, cpu = build("cifar_resnet8").eval(), torch.zeros(40, 3, 8, 8), torch.device("cpu")
    with threads_of(2):
        assert fastest_threads(chain, lambda: images, "auto", cpu) in (1, 2)
        assert torch.get_num_threads() == 2


def test_no_image_is_read_where_there_is_no_choice_of_threads() -> None:
    chain = build("cifar_resnet8").eval()
    with threads_of(1):
        assert fastest_threads(chain, lambda: pytest.fail("read"), "auto", torch.device("cpu")) == 1
    assert fastest_threads(chain, lambda: pytest.fail("read"), 7, torch.device("cpu")) == 7
