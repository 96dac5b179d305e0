"""`howdeep fit --from` ends within its budget: everything takes time on a clock that counts what is done."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file

from howdeep import cli
from howdeep.analysis import depth_costs, fits, study
from howdeep.commands import training as commands
from howdeep.networks import build, spec_of
from howdeep.runs.folder import open_run
from howdeep.runtime.timing import Timing
from howdeep.search import entrants, finalists, pacing, phases, sharing
from howdeep.search.sharing import Speed
from howdeep.search.transfer import Transfer
from howdeep.training import beginning, choices, classifier, feed, loop
from howdeep.util.records import from_json

NAME = "cifar_resnet8"
IMAGE, STEP, OPENING, FIT, TIMED = 0.002, 1.0, 3.0, 0.1, 4.0
"""Seconds of reading an image, of a step of training, of opening a network, of a classifier, of timing all depths."""


class Work:
    """What is done takes its time; steps of training take longer than they did when they were timed, by a factor."""

    def __init__(self, patched: pytest.MonkeyPatch, slower: float) -> None:
        self.seconds, self.steps = 0.0, 0
        patched.setattr(phases, "time", SimpleNamespace(perf_counter=lambda: self.seconds))
        patched.setattr(commands, "perf_counter", lambda: self.seconds)
        for name, few in (("FEWEST_STEPS", 6), ("FEWEST_ANSWERS", 40), ("HELD_OUT", 10**6)):
            patched.setattr(sharing, name, few)
        patched.setattr(finalists, "worse", lambda change: False)  # all may be chance: there are two finalists
        known = Speed(IMAGE, 0.0, TIMED, OPENING, 9, 1)
        patched.setattr(entrants.Entrant, "speed", self.taking(100 * IMAGE, lambda entrant, device: known))
        for module in (study, feed):
            self.counted(patched, module, "evaluation_batches", lambda split, **how: IMAGE * len(split))
        for module in (fits, classifier):
            self.counted(patched, module, "regression", lambda *given, **how: FIT)
        for module in (entrants, beginning):
            self.counted(patched, module, "start_of", lambda *given: OPENING)
        self.counted(patched, choices, "choose", lambda *given: 4 * STEP * slower)
        self.counted(patched, loop, "train_step", lambda *given, **how: STEP * slower)
        fastest = pacing.TrainingSpeed("fp32", "contiguous", STEP)
        patched.setattr(pacing, "speed_of", self.taking(20 * STEP, lambda *given: fastest))
        for module, seconds in ((depth_costs, TIMED), (entrants, TIMED / 9)):
            patched.setattr(module, "latencies", self.taking(seconds, self.times))

    @staticmethod
    def times(chains, images, *given, **how) -> list[Timing]:
        return [Timing(1.0 + len(chain.body), (1.0, 9.0), 20) for chain in chains]

    def taking(self, seconds: float, work: Callable) -> Callable:
        def timed(*given, **how):
            self.seconds += seconds
            return work(*given, **how)

        return timed

    def counted(self, patched: pytest.MonkeyPatch, module, name: str, seconds: Callable) -> None:
        work = getattr(module, name)

        def timed(*given, **how):
            self.seconds += seconds(*given, **how)
            return work(*given, **how)

        patched.setattr(module, name, timed)


def test_all_of_the_budget_is_used_and_no_more_with_second_seeds_where_training_is_slower_than_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(build(spec_of(NAME), seed=0).state_dict(), tmp_path / "weights.safetensors")
    work, out = Work(monkeypatch, slower=2.0), tmp_path / "fit"
    asked = ["fit", "--data", "digits", "--from", NAME, "--weights", str(tmp_path / "weights.safetensors")]
    asked += ["--sizes", "8", "--limit", "32", "--train-budget", "225s", "--device", "cpu", "--out", str(out)]
    assert cli.run(asked) == 0
    found = from_json(Transfer, json.loads((out / "answer.json").read_text()))
    assert 0.85 * 225 < found.spent_seconds < 225
    assert work.seconds == pytest.approx(found.spent_seconds)  # nothing was done after it was told
    *short, last = found.trainings
    # Short cycles end where their time does, so that there is as much as was planned for what follows.
    assert [one.steps < open_run(Path(one.run)).record["ends"][-1] for one in short] == [True] * 4
    by_start = {start: [one for one in short if one.start == start] for start in found.finalists}
    assert [sorted(one.seed for one in several) for several in by_start.values()] == [[0, 1], [0, 1]]
    means = {start: mean(one.validation_error_percent for one in several) for start, several in by_start.items()}
    assert means[found.chosen] == min(means.values())
    tried = short[-1]
    assert tried.validation_error_percent == min(one.validation_error_percent for one in by_start[found.chosen])
    assert (tried.start, tried.run) == (found.chosen, open_run(Path(last.run)).record["config"]["from_run"])
