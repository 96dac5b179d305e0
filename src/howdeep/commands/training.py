"""Training: one network, ladders of depths, the depth that fits, the story in a few minutes."""

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from howdeep.commands.output import ResultOptions
from howdeep.runtime.ranks import this_process
from howdeep.search.options import FitOptions, LadderConfig
from howdeep.training.config import TrainConfig
from howdeep.util.options import Flat


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network into a run folder; the same command again resumes where it stopped."""

    config: Flat[TrainConfig]
    out: Path
    """The run folder."""

    def run(self) -> int:
        """Train."""
        from howdeep.training.loop import train

        train(self.config, self.out)
        if this_process().first:
            print(self.out)
        return 0


@dataclass(frozen=True, kw_only=True)
class _Ladder:
    """A ladder of depths, and where its runs lie."""

    config: Flat[LadderConfig]
    out: Path
    """Folder of the runs; the same command again resumes where it stopped."""


@dataclass(frozen=True, kw_only=True)
class Degradation(ResultOptions, _Ladder):
    """Train families of networks at several depths, and say what keeps the deeper ones from being better."""

    def run(self) -> int:
        """Train, print a table and the diagnoses, draw a chart."""
        from howdeep.search.degradation import degradation

        self.check_files()
        record = degradation(self.config, self.out)
        self.finish(record.to_json(self.config), record)
        return 0


@dataclass(frozen=True, kw_only=True)
class Fit(ResultOptions, FitOptions):
    """Say how deep a network should be for some data and budgets, and train it; the same command again resumes."""

    def run(self) -> int:
        """Search, train and print the answer."""
        started = perf_counter()  # what is imported now takes seconds of the budget
        from howdeep.search.answer import ANSWER
        from howdeep.search.fit import fit

        self.check_files()
        answer = fit(self, since=started)
        if answer is None:
            return 0
        self.finish(json.loads((self.out / ANSWER).read_bytes()), answer)
        return 0


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Tell the whole story on real handwritten digits: what depth does to plain and to residual networks."""

    out: Path = Path("howdeep-demo")
    """Folder for the runs and the chart; the same command again resumes where it stopped."""
    seed: int = 0
    """Seed of everything."""

    def run(self) -> int:
        """Train, print a table, draw a chart."""
        from howdeep.demo import demo

        demo(self.out, seed=self.seed)
        return 0
