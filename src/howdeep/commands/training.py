"""Training: one network, ladders of depths, the depth that fits, the story in a few minutes."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from howdeep.commands.output import ResultOptions, remark
from howdeep.runtime.ranks import this_process
from howdeep.search.options import FitOptions, LadderConfig
from howdeep.training.config import TrainConfig
from howdeep.util.options import Flat

NEXT = {
    "lesion": "what each of its units is worth",
    "explore": "take units out by hand, on a page",
    "cut": "what fewer units would cost and save",
    "report": "all that is known of it, on one page",
}
"""What may come after a training."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network into a run folder; the same command resumes.

    Example: howdeep train cifar_resnet56 --data photos --out run
    """

    config: Flat[TrainConfig]
    out: Path
    """The run folder."""

    def run(self) -> int:
        """Train, say what may come next, and print the folder."""
        from howdeep.training.loop import train

        train(self.config, self.out)
        run = shlex.quote(str(self.out))
        for number, (command, what) in enumerate(NEXT.items()):
            remark(f"{'     ' if number else 'next:'} {f'howdeep {command} {run}':30}  {what}")
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
    """Train families at several depths: do deeper ones get worse?

    Example: howdeep degradation --data digits --out ladder --train-budget 30m
    """

    def run(self) -> int:
        """Train, print a table and the diagnoses, draw a chart."""
        from howdeep.search.degradation import degradation

        self.check_files()
        record = degradation(self.config, self.out)
        self.finish(record.to_json(self.config), record)
        return 0


@dataclass(frozen=True, kw_only=True)
class Fit(ResultOptions, FitOptions):
    """Say how deep and how wide a network should be, and train it.

    Example: howdeep fit --data photos --train-budget 30m --latency-budget 2ms
    """

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
    """Tell the whole story on real handwritten digits.

    Example: howdeep demo
    """

    out: Path = Path("howdeep-demo")
    """Folder for the runs and the chart; the same command again resumes where it stopped."""
    seed: int = 0
    """Seed of everything."""

    def run(self) -> int:
        """Train, print a table, draw a chart."""
        from howdeep.demo import demo

        demo(self.out, seed=self.seed)
        return 0
