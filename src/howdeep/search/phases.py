"""Training for a search, phase by phase, and the time that it has used over all its starts.

Neither a stop nor a process that died takes any time.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from howdeep.data import Dataset, steps_per_epoch
from howdeep.runs.resume import Journal
from howdeep.search.candidates import CandidateCosts
from howdeep.search.study import AFRESH, RoundResult
from howdeep.training.config import TrainConfig
from howdeep.training.loop import advance, train
from howdeep.training.saving import NotFiniteError
from howdeep.util.text import seconds_text

FIRST_PHASE = 0.6
"""Share of the time left that the chosen network goes on for before the rest is planned anew, at the speed that it then
has shown: machines are shared, and the whole is to end on time."""
LATEST = 1.08
"""Share of the budget at which the training of the chosen network ends in any case, with its best epoch so far."""
FORWARD_SHARE = 0.4
"""Time of a forward pass without gradients, as a share of a training step's; for what the test split will take."""


class Clock(AbstractContextManager):
    """Seconds since the first start, without the pauses between a stop and the next start.

    Args:
        journal: Keeps them; written by :meth:`save`, and at the end of the context, errors included.
        since: When this start began, by ``time.perf_counter()``: a command takes seconds to load what it needs; None is
            now.
    """

    def __init__(self, journal: Journal, since: float | None = None) -> None:
        self.journal = journal
        self._before = float(journal.steps.get("seconds", 0.0))
        self._started = time.perf_counter() if since is None else since

    @property
    def spent(self) -> float:
        """Seconds until now."""
        return self._before + time.perf_counter() - self._started

    def excuse(self, seconds: float) -> None:
        """Leave out seconds in which nothing could be done."""
        self._before -= seconds

    def save(self) -> None:
        """Write the seconds down.

        Raises:
            SaveError: They could not be written.
        """
        self.journal.note("seconds", self.spent)

    def __exit__(self, *error: object) -> None:
        self.save()


class Left:
    """The time that is left, told anew whenever it is drawn."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __rich__(self) -> Text:
        left = max(0.0, self.seconds - self.clock.spent)
        return Text(f"{seconds_text(left)} of {seconds_text(self.seconds)} left")


@dataclass(frozen=True)
class Trainer:
    """Trains networks for a search.

    Args:
        config: How; the network and the epochs are those of each call.
        once: How a network is trained anew, in one cycle.
        folder: Where the run folders are.
        dataset: The images.
        clock: The time that was used; its journal keeps the length of each phase.
        budget: The time that there is.
        report: Receives one line per phase.
    """

    config: TrainConfig
    once: TrainConfig
    folder: Path
    dataset: Dataset
    clock: Clock
    budget: float
    report: Callable[[str], None]

    def run(self, network: str) -> Path:
        """Return the run folder of a network in the search."""
        return self.folder / network

    def last_run(self, network: str) -> Path:
        """Return the run folder in which the chosen network ends."""
        return self.folder / f"{network}-once" if AFRESH else self.run(network)

    def train_round(self, candidate: CandidateCosts, done: Sequence[RoundResult], until: float) -> RoundResult | None:
        """Train a network until it has had ``until`` seconds; return None if its training diverged."""
        so_far = done[-1].seconds if done else 0.0
        config = self._config(candidate, done, until - so_far)
        try:
            return self._trained(candidate, done, config, self.run(candidate.network))
        except NotFiniteError as error:
            self.report(f"  {candidate.network}: {error}")
            return None

    def to_the_end(
        self,
        candidate: CandidateCosts,
        done: Sequence[RoundResult],
        phases_done: int,
        keep: Callable[[Sequence[RoundResult]], None],
    ) -> dict | None:
        """Train the chosen network for the time that is left, and read the test split.

        Args:
            candidate: The network.
            done: The rounds that it has passed here, and the phases after them.
            phases_done: How many phases these are.
            keep: Receives all of them whenever there is one more.

        Returns:
            What was measured on the test split, if there is one.
        """
        phases, images = list(done), 0 if self.dataset.test is None else len(self.dataset.test)
        testing = FORWARD_SHARE * candidate.seconds_per_step * images / (self.config.batch_size or 1)
        train_on = self._anew if AFRESH else self._onward
        config = train_on(candidate, phases, phases_done, testing, keep)
        # All steps are done; what is left of a run is to read the test split.
        run = self.last_run(candidate.network)
        result = train(config, run, console=Console(quiet=True), dataset=self.dataset, expired=lambda: True)
        return result.test

    def _anew(
        self,
        candidate: CandidateCosts,
        phases: list[RoundResult],
        phases_done: int,
        testing: float,
        keep: Callable[[Sequence[RoundResult]], None],
    ) -> TrainConfig:
        """Train the chosen network from scratch, in one cycle; its weights are those of the best epoch."""
        left, pace = self.budget - self.clock.spent - testing, _pace(candidate, phases)
        steps = self._steps(f"steps of {candidate.network} from scratch", 0, left, pace)
        config, late = self._config_of(candidate, steps, self.once), LATEST * self.budget - testing
        if not phases_done:
            self.report(f"{candidate.network} from scratch, in one cycle:")
            run = self.last_run(candidate.network)
            phases.append(self._trained(candidate, [], config, run, lambda: self.clock.spent > late))
            keep(phases)
        return config

    def _onward(
        self,
        candidate: CandidateCosts,
        phases: list[RoundResult],
        phases_done: int,
        testing: float,
        keep: Callable[[Sequence[RoundResult]], None],
    ) -> TrainConfig:
        """Train the chosen network on from its last round, in two phases."""
        for share in (FIRST_PHASE, 1.0)[phases_done:]:
            left = self.budget - self.clock.spent - testing
            config = self._config(candidate, phases, share * left)
            phases.append(self._trained(candidate, phases, config, self.run(candidate.network)))
            keep(phases)
        return self._config_of(candidate, phases[-1].steps, self.config)

    def _config(self, candidate: CandidateCosts, done: Sequence[RoundResult], seconds: float) -> TrainConfig:
        """Return the options of a phase of this many seconds."""
        name = f"steps of {candidate.network} after {len(done)} phases"
        steps = self._steps(name, done[-1].steps if done else 0, seconds, _pace(candidate, done))
        return self._config_of(candidate, steps, self.config)

    def _steps(self, name: str, done: int, seconds: float, pace: float) -> int:
        """Return how many steps a network will have made; what was decided once stays, whatever the clock says."""
        return self.clock.journal.result(name, lambda: done + max(1, round(seconds / pace)))

    def _config_of(self, candidate: CandidateCosts, steps: int, config: TrainConfig) -> TrainConfig:
        """Return the options of a run of this many steps."""
        return replace(
            config,
            network=candidate.network,
            epochs=steps / self._per_epoch,
            checkpointing=candidate.checkpointing,
            precision=candidate.arithmetic.precision,
            memory_format=candidate.arithmetic.memory_format,
        )

    @property
    def _per_epoch(self) -> int:
        return steps_per_epoch(len(self.dataset.split("train")), self.config.batch_size or 1)

    def _trained(
        self,
        candidate: CandidateCosts,
        done: Sequence[RoundResult],
        config: TrainConfig,
        run: Path,
        expired: Callable[[], bool] = lambda: False,
    ) -> RoundResult:
        """Train a phase and return where it ended."""
        started = time.perf_counter()
        phase = advance(config, run, console=Console(quiet=True), dataset=self.dataset, expired=expired)
        wall = time.perf_counter() - started
        result = RoundResult(
            epochs=phase.epochs,
            steps=round(phase.epochs * self._per_epoch),
            # After a stop the wall has seen only a part of the phase.
            seconds=max(wall + (done[-1].seconds if done else 0.0), phase.seconds),
            train_error_percent=phase.train_error_percent,
            validation_error_percent=phase.validation_error_percent,
            validation_loss=phase.validation_loss,
            answers=phase.answers,
        )
        self.clock.save()
        left = self.budget - self.clock.spent
        self.report(
            f"  {candidate.network:20} {result.epochs:6.1f} epochs {result.seconds:6.0f} s"
            f"   train {result.train_error_percent:5.1f} %  val {result.validation_error_percent:5.1f} %"
            f"   {f'left {seconds_text(left)}' if left >= 0 else f'over by {seconds_text(-left)}'}"
        )
        return result


def _pace(candidate: CandidateCosts, done: Sequence[RoundResult]) -> float:
    """Return the seconds per step: of the last phase, or as they were measured before there was one."""
    if not done:
        return candidate.seconds_per_step
    seconds, steps = (done[-2].seconds, done[-2].steps) if len(done) > 1 else (0.0, 0)
    return max(1e-6, (done[-1].seconds - seconds) / max(1, done[-1].steps - steps))
