"""The chosen network ends when its time does: trained anew in one cycle, or on from its last round."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.show.cases import candidate_costs

from howdeep.analysis.evaluation import Answers
from howdeep.runs.resume import Journal
from howdeep.search import phases
from howdeep.search.options import FitOptions
from howdeep.search.phases import Clock, Trainer
from howdeep.search.study import RoundResult
from howdeep.training.config import TrainConfig
from howdeep.training.loop import Phase

IMAGES, BATCH, BUDGET = 320, 32, 100.0
DATASET: Any = SimpleNamespace(test=None, split=lambda name: range(IMAGES))
COSTS = replace(candidate_costs(8), seconds_per_step=0.1)
ROUND = RoundResult(10.0, 100, 20.0, 1.0, 2.0, 0.1, Answers("i", ""))
"""100 steps in 20 seconds: twice as long as was measured before."""


class Work:
    """Training that only takes time, on a clock of its own; it notes what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, step: float) -> None:
        self.now, self.step, self.steps, self.asked = 30.0, step, {}, []
        monkeypatch.setattr(phases, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(phases, "advance", self.advance)
        monkeypatch.setattr(phases, "train", lambda *_, **__: SimpleNamespace(test=None))
        self.clock = Clock(Journal.open(folder / "steps", {}), since=0.0)

    def advance(self, config: TrainConfig, run: Path, *, expired: Callable[[], bool], **_: object) -> Phase:
        total = round((config.epochs or 0) * IMAGES / BATCH)
        self.asked.append((config.recipe, run.name, total))
        while self.steps.get(run, 0) < total and not expired():
            self.steps[run] = self.steps.get(run, 0) + 1
            self.now += self.step
        return Phase(self.steps[run] * BATCH / IMAGES, 1.0, 2.0, 0.1, Answers("i", ""), 0.0)


@pytest.mark.parametrize(
    ("afresh", "asked"),
    [
        (True, [("fast", "cifar_resnet8-once", 350)]),
        (False, [("extendable", "cifar_resnet8", 310), ("extendable", "cifar_resnet8", 450)]),
    ],
)
def test_it_is_trained_for_the_time_that_is_left_at_the_speed_that_it_had(
    afresh: bool, asked: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """70 of 100 seconds are left and a step takes 0.2: 350 steps, anew or after the 100 of the search."""
    monkeypatch.setattr(phases, "AFRESH", afresh)
    work = Work(monkeypatch, tmp_path, 0.2)
    work.steps[tmp_path / "cifar_resnet8"] = 100
    options = FitOptions(data="digits", train_budget="100s", batch_size=BATCH)
    extendable, once = (options.training(IMAGES, recipe) for recipe in ("extendable", "fast"))
    trainer = Trainer(extendable, once, tmp_path, DATASET, work.clock, BUDGET, lambda _: None)
    kept: list[list[RoundResult]] = []
    trainer.to_the_end(COSTS, [ROUND], 0, lambda done: kept.append(list(done)))
    assert work.asked == asked
    assert work.clock.spent == pytest.approx(BUDGET)
    assert [len(done) for done in kept] == [2, 3][: len(asked)]
    # A start that finds them all trains nothing again.
    trainer.to_the_end(COSTS, kept[-1], len(asked), lambda _: pytest.fail("trained again"))


def test_a_training_that_has_become_slow_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "AFRESH", True)
    work = Work(monkeypatch, tmp_path, 2.0)
    config = FitOptions(data="digits", train_budget="100s", batch_size=BATCH).training(IMAGES)
    trainer = Trainer(config, config, tmp_path, DATASET, work.clock, BUDGET, lambda _: None)
    trainer.to_the_end(COSTS, [ROUND], 0, lambda _: None)
    assert 1.0 < work.clock.spent / BUDGET <= phases.LATEST + 0.02
