"""Latencies are measured in the fewest runs: how exact they are is promised, and tested, by the stopwatch."""

from functools import partial

import pytest

from howdeep.cutting import cut as cutting
from howdeep.cutting import first
from howdeep.deploying.latency import latencies


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cutting, first):
        monkeypatch.setattr(module, "latencies", partial(latencies, seconds=0))
