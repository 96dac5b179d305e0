"""Finalists of published networks are trained in the time that is left: two for a short cycle first, where it pays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from howdeep.runs import folder as runs
from howdeep.search.answer import RUNS, FinalError
from howdeep.search.entrants import file_name
from howdeep.search.finalists import ENOUGH_EPOCHS, Candidate
from howdeep.search.pacing import Pacing
from howdeep.search.probing import QUIET, Probing
from howdeep.search.sharing import (
    FEWEST_STEPS,
    MOST_EPOCHS,
    USED,
    Trainings,
    steps_in,
)
from howdeep.search.transfer import Other, Training
from howdeep.training.config import TrainConfig
from howdeep.training.loop import TrainResult, advance, train
from howdeep.util.text import seconds_text


@dataclass(frozen=True)
class Done:
    """What training has led to."""

    chosen: Candidate
    """What is recommended."""
    trainings: tuple[Training, ...]
    """In their order; the answer comes from the last one."""
    test: dict | None
    """Its evaluation on the test split."""
    others: tuple[Other, ...]
    """Another finalist on the test split."""
    needed_seconds: float
    """Budget in which there would be a training, where there was none; or one that is long enough to say something,
    and of both finalists."""


@dataclass(frozen=True)
class Tuning:
    """Finalists are trained, in the time that is left."""

    pacing: Pacing

    @property
    def probing(self) -> Probing:
        """What was probed."""
        return self.pacing.probing

    @property
    def finalists(self) -> Sequence[Candidate]:
        """The lowest error first, the fastest last."""
        return self.pacing.finalists

    def done(self) -> Done:
        """Train, and read the test split of what is recommended."""
        plan, best, report = self.pacing.plan(), self.finalists[0], self.probing.report
        if plan.both:
            return self._after_short(plan)
        if plan.alone is not None:
            one, steps = self.finalists[plan.alone], plan.steps[plan.alone]
            report(f"training {one.text}: {steps:,} steps in one cycle; one training")
            trained, result = self._trained(one, self._fastest(one, self._config(one), steps), "trained")
            needed = self._needed(trained)
            if len(self.finalists) > 1:
                needed = max(needed, self.pacing.needed_for_both(trained))
            return Done(one, (trained,), result.test, (), needed)
        report(f"no time for {FEWEST_STEPS} steps of training: a classifier alone is fitted")
        needed, threads = self.pacing.needed(), self.probing.speed(best.probed).threads
        plain = {"precision": "fp32", "memory_format": "channels_last", "threads": threads}
        trained, result = self._trained(best, replace(self._config(best), tune="classifier", **plain), "classifier")
        return Done(best, (trained,), result.test, (), needed)

    def _needed(self, last: Training) -> float:
        """Return about the budget in which the last training would be long enough."""
        more = max(0.0, ENOUGH_EPOCHS / last.epochs - 1) if last.epochs else 0.0
        return self.probing.clock.spent + more * last.seconds + self.probing.ending

    def _config(self, one: Candidate, seed: int = 0) -> TrainConfig:
        """Return how a finalist is trained; the epochs are not decided yet."""
        entrant, start = self.probing.entrant(one.start), one.start
        own = entrant.config
        config = replace(own, limit=len(self.pacing.dataset(one).split("train")), seed=own.seed + seed)
        if start.whole:
            return config
        first = entrant.first_units(one.depth)
        return replace(config, weights=None, pretrained=False, size=None, from_run=str(first))

    def _fastest(self, one: Candidate, config: TrainConfig, steps: int) -> TrainConfig:
        """Return how a finalist is trained for so many steps."""
        speed, epochs = self.pacing.speed(one), steps / self.pacing.per_epoch(one)
        return replace(config, epochs=epochs, precision=speed.precision, memory_format=speed.memory_format)

    def _run(self, one: Candidate, kind: str) -> Path:
        start = one.start
        units = "whole" if start.whole else f"first{start.units}{start.head}"
        return self.probing.options.out / RUNS / f"{file_name(start.network)}-{start.size}-{units}-{kind}"

    def _trained(self, one: Candidate, config: TrainConfig, kind: str) -> tuple[Training, TrainResult]:
        """Train until time is up, and read the test split."""
        run, dataset, clock = self._run(one, kind), self.pacing.dataset(one), self.probing.clock
        started = clock.spent
        result = train(config, run, console=QUIET, dataset=dataset, expired=lambda: self.pacing.left() < 0)
        seconds = self.probing.journal.result(f"seconds of {run.name}", lambda: clock.spent - started)
        trained = training_of(one, run, seconds)
        self.probing.report(_training_line(trained))
        return trained, result

    def _short(self, one: Candidate, steps: int, seed: int) -> "Short":
        """Train for a short cycle, no longer than that was to take; the test split is not read."""
        probing, clock, run = self.probing, self.probing.clock, self._run(one, f"short{seed or ''}")
        config, pace = self._fastest(one, self._config(one, seed), steps), self.pacing.pace(one)
        allowed = (pace.beginning + steps * pace.per_step) / USED

        def compute() -> float:
            started, dataset = clock.spent, self.pacing.dataset(one)
            advance(config, run, console=QUIET, dataset=dataset, expired=lambda: clock.spent - started > allowed)
            return clock.spent - started

        seconds = probing.journal.result(f"short training of {one.text}, seed {config.seed}", compute)
        clock.save()
        trained = training_of(one, run, seconds)
        probing.report(_training_line(trained))
        return Short(one, config, trained)

    def _after_short(self, plan: Trainings) -> Done:
        """Train both finalists for a short cycle, and the better one on, from what it has learned."""
        probing, report = self.probing, self.probing.report
        report(f"training {len(plan.steps)} finalists for a short cycle each")
        short = [self._short(one, steps, 0) for one, steps in zip(self.finalists, plan.steps, strict=True)]
        if probing.journal.result("second seed", lambda: self._time_for_another_seed(short)):
            report("with another seed:")
            short += [self._short(one, steps, 1) for one, steps in zip(self.finalists, plan.steps, strict=True)]
        better = min(self.finalists, key=lambda one: (mean_error(short, one), one.ms))
        tried = min((one for one in short if one.one is better), key=lambda one: one.trained.validation_error_percent)
        others = []
        for one in self.finalists:
            if one is not better and one.start.whole:
                lost = next(each for each in short if each.one is one)
                test = final_error(self._tested(lost).test)
                others.append(Other(what=f"{one.text}, trained", latency=one.depth.latency, test=test))

        def left() -> int:
            return steps_in(
                USED * self.pacing.left(), self.pacing.onward(better, tried.trained), self.pacing.per_epoch(better)
            )

        steps = probing.journal.result("final steps", left)
        done = [one.trained for one in short if one is not tried] + [tried.trained]
        if not steps:
            return Done(better, tuple(done), self._tested(tried).test, tuple(others), self._needed(tried.trained))
        seeds = "one training each" if len(short) == len(self.finalists) else "two seeds each until here"
        report(f"training {better.text} on from its weights: {steps:,} steps; {seeds}")
        own = {"weights": None, "pretrained": False, "size": None, "from_run": tried.trained.run, "classifier": "auto"}
        longer = replace(self._fastest(better, tried.config, steps), **own)
        trained, result = self._trained(better, longer, "trained")
        return Done(better, (*done, trained), result.test, tuple(others), self._needed(trained))

    def _time_for_another_seed(self, short: Sequence["Short"]) -> bool:
        """Return whether all can be trained once more, and the better one for as long as is of use after that."""
        one = min(short, key=lambda one: one.trained.validation_error_percent)
        pace, most = self.pacing.onward(one.one, one.trained), MOST_EPOCHS * self.pacing.per_epoch(one.one)
        again = sum(each.trained.seconds for each in short)
        return USED * self.pacing.left() > again + pace.beginning + most * pace.per_step

    def _tested(self, short: "Short") -> TrainResult:
        """Read the test split of a network that is not trained on."""
        run, dataset = Path(short.trained.run), self.pacing.dataset(short.one)
        return train(short.config, run, console=QUIET, dataset=dataset, expired=lambda: True)


@dataclass(frozen=True)
class Short:
    """A short training."""

    one: Candidate
    """Of which finalist."""
    config: TrainConfig
    trained: Training


def mean_error(short: Sequence[Short], candidate: Candidate) -> float:
    """Return the validation error of a finalist after its short trainings, the mean over seeds."""
    return mean(one.trained.validation_error_percent for one in short if one.one is candidate)


def training_of(one: Candidate, run: Path, seconds: float) -> Training:
    """Return what a run folder says of a training."""
    opened = runs.open_run(run)
    events, kept = opened.metrics(), opened.kept(lambda _: None)
    epochs = [event for event in events if event["event"] == "epoch"]
    before = next(event for event in events if event["event"] == "start")["validation_error_percent"]
    assert kept is not None, "the recipe keeps the best epoch"
    return Training(
        start=one.start,
        run=str(run),
        seed=opened.record["config"]["seed"],
        steps=epochs[-1]["step"] if epochs else 0,
        epochs=epochs[-1]["epoch"] if epochs else 0.0,
        seconds=seconds,
        before_percent=before,
        kept_epoch=kept.state["epoch"],
        train_error_percent=epochs[-1]["train_error_percent"] if epochs else None,
        validation_error_percent=kept.state["error_percent"],
        validation_images=kept.state["images"],
    )


def final_error(test: dict | None) -> FinalError:
    """Return an evaluation on the test split as a record holds it."""
    assert test is not None, "data that are trained on have a test split"
    return FinalError(test["error_percent"], test["standard_error"], test["n"])


def _training_line(one: Training) -> str:
    kept = f"epoch {one.kept_epoch:.3g} kept" if one.kept_epoch else "no epoch had fewer errors"
    after = f"{one.validation_error_percent:.1f} % after {one.epochs:.3g} epochs ({kept})" if one.steps else "as it is"
    return f"  {one.start.text}: {one.before_percent:.1f} % before, {after}; {seconds_text(one.seconds)}"
