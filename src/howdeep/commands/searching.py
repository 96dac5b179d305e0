"""Ladders of depths: degradation and fit."""

import json
from dataclasses import dataclass
from pathlib import Path

from howdeep.commands.options import ResultOptions
from howdeep.search.ladder import LadderConfig
from howdeep.search.options import FitOptions
from howdeep.util.options import Flat


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
        from howdeep.search.fit import ANSWER, fit

        self.check_files()
        answer = fit(self)
        if answer is None:
            return 0
        self.finish(json.loads((self.out / ANSWER).read_bytes()), answer)
        return 0
