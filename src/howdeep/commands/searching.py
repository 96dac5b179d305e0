"""Ladders of depths: degradation and fit."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from howdeep.commands.options import check_files
from howdeep.commands.output import Output
from howdeep.search.ladder import LadderConfig
from howdeep.search.options import FitOptions
from howdeep.util.options import Flat, OptionalFile


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Train families of networks at several depths, and say what keeps the deeper ones from being better."""

    config: Flat[LadderConfig]
    out: Path
    """Folder of the runs; the same command again goes on where it stopped."""
    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Train, print a table and the diagnoses, draw a chart."""
        from howdeep.search.degradation import degradation
        from howdeep.show import figures

        check_files(self.output, self.figure)
        found = degradation(self.config, self.out)
        self.output.finish(
            found.to_json(self.config),
            found.table(),
            figure=self.figure,
            draw=lambda place: figures.save(found.figure(), place),
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Fit(FitOptions):
    """Say how deep a network should be for some data and budgets, and train it; the same command again goes on."""

    figure: OptionalFile = None
    """Draw a chart into this file: .svg, .png or .html."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Search, train and print the answer."""
        from howdeep.search.fit import ANSWER, fit
        from howdeep.show import figures

        check_files(self.output, self.figure)
        answer = fit(self)
        if answer is None:
            return 0
        self.output.finish(
            json.loads((self.out / ANSWER).read_bytes()),
            answer.table(),
            figure=self.figure,
            draw=lambda place: figures.save(answer.figure(), place),
        )
        return 0
