"""The clock counts what was worked, not what was paused."""

from pathlib import Path

import pytest

from howdeep.runs.resume import Journal
from howdeep.search import phases as clocks
from howdeep.search.phases import Clock


def test_pauses_between_two_starts_do_not_count_and_loading_before_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: now[0])
    with Clock(Journal.open(tmp_path / "steps", {}), since=96.0) as first:
        now[0] = 126.0
        assert first.spent == 30.0
    now[0] = 1000.0
    second = Clock(Journal.open(tmp_path / "steps", {}))
    now[0] = 1005.0
    assert second.spent == 35.0


def test_the_time_of_a_start_that_failed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: now[0])

    def work() -> None:
        with Clock(Journal.open(tmp_path / "steps", {})):
            now[0] = 7.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert Journal.open(tmp_path / "steps", {}).steps == {"seconds": 7.0}


def test_time_that_was_waited_for_a_process_that_is_gone_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: now[0])
    with Clock(Journal.open(tmp_path / "steps", {})) as clock:
        now[0] = 30.0
        clock.excuse(12.0)
        assert clock.spent == 18.0
