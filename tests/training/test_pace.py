"""How many threads a run computes with: watched while it trains, recorded, and the same after a resume."""

import io
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console

from howdeep.runs.folder import Run, open_run
from howdeep.runtime.precision import Trial
from howdeep.runtime.timing import threads_of
from howdeep.training import loop, pace, watching
from howdeep.training.config import TrainConfig
from howdeep.training.loop import train
from howdeep.training.pace import IN_A_ROW, Pace, pace_of
from howdeep.util.errors import Stopped

CPU = torch.device("cpu")
SECONDS = 0.1


def paced(counts: list[int], threads: int, expected: float | None = SECONDS) -> Pace:
    return Pace(counts, threads, expected, threads)


def config(**options) -> TrainConfig:
    """Two epochs of ten mini-batches on the CPU."""
    forced = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous"}
    return TrainConfig(network="cifar_resnet8", data="digits", limit=160, batch_size=16, epochs=2, **forced, **options)


def trained(out: Path, **options) -> dict[str, torch.Tensor]:
    """Train and return the weights."""
    train(config(**options), out, console=Console(quiet=True))
    return open_run(out).chain(pytest.fail).state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_threads_are_timed_again_after_ten_steps_in_a_row_that_take_three_times_as_long() -> None:
    watched = paced([1, 2], 2)
    assert [watched.stalls(3.1 * SECONDS) for _ in range(IN_A_ROW)] == [False] * 9 + [True]
    assert watched.fewer == [1, 2]


def test_one_ordinary_step_among_slow_ones_begins_the_count_anew() -> None:
    watched = paced([1, 2], 2)
    steps = [3.1] * 9 + [2.9] + [3.1] * 9
    assert not any(watched.stalls(step * SECONDS) for step in steps)
    assert watched.stalls(3.1 * SECONDS)


@pytest.mark.parametrize("watched", [paced([1, 2], 1), paced([2], 2), paced([1, 2], 2, None)])
def test_nothing_is_watched_where_there_is_no_choice_or_nothing_to_expect(watched: Pace) -> None:
    assert not any(watched.stalls(1e9) for _ in range(2 * IN_A_ROW))


def test_after_timing_again_steps_are_compared_with_what_it_found() -> None:
    watched = paced([1, 2, 4], 4)
    watched.settle(2, 10 * SECONDS, trained=50.0, timing=1.0)
    assert not any(watched.stalls(29 * SECONDS) for _ in range(2 * IN_A_ROW))
    assert watched.fewer == [1, 2]


def test_more_threads_are_tried_again_for_a_twentieth_of_the_time() -> None:
    watched = paced([1, 2, 4], 4)
    assert not watched.may_rise(1e9)  # it has all that there are
    watched.settle(1, SECONDS, trained=50.0, timing=1.0)
    assert watched.more == [1, 2, 4]
    assert [watched.may_rise(trained) for trained in (51.0, 69.9, 70.0)] == [False, False, True]


def recorded(out: Path, events: list[dict], **chosen: int) -> Run:
    arithmetic = {"precision": "fp32", "memory_format": "contiguous", **chosen}
    trials = [{**arithmetic, "seconds_per_step": SECONDS}]
    run = Run(out, {"choices": {"chosen": arithmetic, "trials": trials}})
    for event in events:
        run.log({"event": pace.EVENT, **event})
    return run


def test_a_run_resumes_with_the_threads_of_its_last_change_before_that_step(tmp_path: Path) -> None:
    events = [{"step": step, "threads": n, "seconds_per_step": s} for step, n, s in ((10, 2, 0.2), (20, 1, 0.3))]
    run = recorded(tmp_path, events, threads=4)
    found = {step: pace_of(run, "auto", CPU, step) for step in (9, 10, 19, 20)}
    assert {step: one.threads for step, one in found.items()} == {9: 4, 10: 2, 19: 2, 20: 1}
    assert {step: one.expected for step, one in found.items()} == {9: SECONDS, 10: 0.2, 19: 0.2, 20: 0.3}
    assert found[20].more[-1] == 4


def test_a_run_that_began_on_a_busy_machine_tries_more_threads_once_that_is_little_of_its_time(tmp_path: Path) -> None:
    with threads_of(2):
        begun = pace_of(recorded(tmp_path, [], threads=1), "auto", CPU, 0)
    assert begun.more == [1, 2]
    steps = pace.TIMED_STEPS / pace.SHARE
    assert [begun.may_rise(count * SECONDS) for count in (steps - 1, steps + 1)] == [False, True]


@pytest.mark.parametrize(("seconds", "after"), [(0.85, 1), (0.75, 2)])
def test_more_threads_must_be_clearly_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, after: int
) -> None:
    """After the first of two epochs two threads are said to take so much of the time of one."""
    trials = [Trial("fp32", "contiguous", share * SECONDS, 3, None, 0.0, n) for n, share in ((1, 1.0), (2, seconds))]
    monkeypatch.setattr(watching, "measure", lambda *_, **__: trials)
    monkeypatch.setattr("howdeep.training.precision.trials_of", lambda *_, **__: trials[:1])
    monkeypatch.setattr(Pace, "may_rise", lambda *_: True)
    with threads_of(2):
        threads = stopped_at(monkeypatch, 0)
        trained(tmp_path / "run")
    assert threads == [1] * 10 + [after] * 10


def test_threads_that_are_asked_for_are_used_and_not_watched(tmp_path: Path) -> None:
    found = pace_of(recorded(tmp_path, [], threads=2), 1, CPU, 0)
    assert (found.threads, found.before, list(found.counts)) == (1, 2, [1])


def test_threads_that_were_chosen_and_threads_that_were_asked_for_give_the_same_bits(tmp_path: Path) -> None:
    chosen = trained(tmp_path / "auto")
    with threads_of(2):
        asked = trained(tmp_path / "one", threads=1)
        assert torch.get_num_threads() == 2
    assert same(chosen, asked)


def stopped_at(monkeypatch: pytest.MonkeyPatch, last: int) -> list[int]:
    """Send a signal at a step; return the list that receives every step's threads."""
    step, threads = loop.train_step, []

    def watched(*given, **how):
        threads.append(torch.get_num_threads())
        if len(threads) == last:
            signal.raise_signal(signal.SIGTERM)
        return step(*given, **how)

    monkeypatch.setattr(loop, "train_step", watched)
    return threads


def test_a_run_that_meets_a_busy_machine_takes_fewer_threads_and_resumes_with_them_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step counts as slow; which threads are then the fastest is not left to the machine."""
    monkeypatch.setattr(pace, "SLOW", 0.0)
    monkeypatch.setattr(pace, "IN_A_ROW", 3)
    found = [Trial("fp32", "contiguous", SECONDS, 3, None, 0.0, 1)]
    monkeypatch.setattr(watching, "measure", lambda *_, threads, **__: found if list(threads) == [1, 2] else [])
    chosen = [Trial("fp32", "contiguous", SECONDS, 3, None, 0.0, 2)]
    monkeypatch.setattr("howdeep.training.precision.trials_of", lambda *_, **__: chosen)
    monkeypatch.setattr(Pace, "may_rise", lambda *_: False)
    with threads_of(2):
        threads = stopped_at(monkeypatch, 0)
        whole = trained(tmp_path / "whole")
        assert threads == [2] * 3 + [1] * 17
        with monkeypatch.context() as until_stopped:
            stopped_at(until_stopped, 13)
            with pytest.raises(Stopped):
                trained(tmp_path / "parts")
        threads.clear()
        parts = trained(tmp_path / "parts")
        assert threads == [1] * 7
    assert same(whole, parts)
    for name in ("whole", "parts"):
        (event,) = [one for one in open_run(tmp_path / name).metrics() if one["event"] == "threads"]
        assert event == {
            "event": "threads",
            "step": 3,
            "before": 2,
            "threads": 1,
            "seconds_per_step": SECONDS,
            "reason": "the machine is busy",
        }


def test_another_number_that_is_asked_for_later_is_one_line_and_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_at(monkeypatch, 18)
    with pytest.raises(Stopped):
        trained(tmp_path / "run", threads=1)
    console = Console(record=True, width=100, file=io.StringIO())
    train(config(threads=2), tmp_path / "run", console=console)
    line = "threads 1 → 2 at step 18: --threads; bits repeat per number of threads"
    assert [text for text in console.export_text().splitlines() if "→" in text] == [line]
    (event,) = [one for one in open_run(tmp_path / "run").metrics() if one["event"] == "threads"]
    assert (event["step"], event["before"], event["threads"], event["reason"]) == (18, 1, 2, "--threads")
