"""Processes that decode images: how they start and end."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader

from howdeep.data import Dataset, workers
from howdeep.data.workers import Request, answers
from howdeep.runtime.process import Interrupted


def test_a_signal_that_another_thread_receives_waits_until_the_workers_are_there(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Interrupting(DataLoader):
        def __iter__(self) -> Iterator:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(10):  # Python handles it between two of its instructions
                time.sleep(0.01)
            started.append(super().__iter__())
            return started[0]

    monkeypatch.setattr(workers, "DataLoader", Interrupting)
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with pytest.raises(Interrupted):
            next(answers(digits.split("validation"), iter([Request(torch.tensor([0]))]), 1, "cpu"))
    finally:
        done.set()
        other.join()
    assert len(started) == 1


def test_more_workers_than_processors_are_the_users_choice(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with pytest.warns(UserWarning, match="worker processes in total"):
        DataLoader([0], num_workers=2)  # type: ignore[arg-type]
    with warnings.catch_warnings(action="error"):
        (pixels,) = answers(digits.split("validation"), iter([Request(torch.tensor([0, 1]))]), 2, "cpu")
    assert len(pixels) == 2
