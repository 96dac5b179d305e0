"""Finalists of published networks are trained in the time that is left: two for a short cycle first, where it pays."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

import torch

from howdeep.data import Dataset, augmentation_of, steps_per_epoch
from howdeep.runs import folder as runs
from howdeep.runtime.precision import best_of
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import threads_of
from howdeep.search.answer import RUNS, FinalError
from howdeep.search.entrants import Entrant, file_name
from howdeep.search.finalists import Candidate
from howdeep.search.probing import QUIET, Probing
from howdeep.search.sharing import FEWEST_STEPS, PROBING, USED, Images, Trainings, steps_in, trained_on, trainings
from howdeep.search.transfer import Other, Training
from howdeep.training.config import TrainConfig
from howdeep.training.feed import SplitFeed
from howdeep.training.loop import Phase, TrainResult, advance, train
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.util.records import from_json, to_json
from howdeep.util.text import seconds_text

BESIDE = 1.05
"""What an epoch takes per second of its steps, validation left out."""
WARM, TIMED = 3, 8
"""Steps by which the pace of a training is measured, after some that are not."""


@dataclass(frozen=True)
class Pace:
    """How a network is trained fastest here, and how fast that is."""

    precision: str
    memory_format: str
    seconds_per_step: float
    """Preparing images included."""


def pace_of(entrant: Entrant, candidate: Candidate, dataset: Dataset, device: torch.device) -> Pace:
    """Return the pace of a training, by some steps of a copy on real mini-batches."""
    config = entrant.config
    recipe = config.resolved_recipe().settled(given=True)
    steps = TrainingSteps(entrant.up_to(candidate.depth), batch_shape(recipe, dataset), recipe, device)
    best = best_of(trials_of(config, steps))
    feed = SplitFeed(
        dataset=dataset,
        normalization=entrant.normalization,
        augmentation=augmentation_of(dataset, config.augmentation, config.flip),
        recipe=recipe,
        seed=config.seed,
        device=device,
        channels_last=best.arithmetic.channels_last,
        workers=config.workers,
        ranks=Ranks(),
    )
    step, started = steps.step(best.arithmetic), 0.0
    with threads_of(best.threads):
        for number, _ in enumerate(feed.training(0, WARM + TIMED)):
            if number == WARM:
                started = perf_counter()
            step()
    return Pace(best.precision, best.memory_format, (perf_counter() - started) / TIMED)


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
    """Budget in which there would be a training, where there was none."""


@dataclass(frozen=True)
class Tuning:
    """Finalists are trained, in the time that is left."""

    probing: Probing
    finalists: Sequence[Candidate]
    """The lowest error first."""

    def done(self) -> Done:
        """Train, and read the test split of what is recommended."""
        plan, best = self._plan(), self.finalists[0]
        if plan.short:
            return self._after_short(plan)
        if not plan.final:
            self.probing.report(f"no time for {FEWEST_STEPS} steps of training: a classifier alone is fitted")
            trained, result = self._trained(best, replace(self._config(best), tune="classifier"), "classifier", 0)
            return Done(best, (trained,), result.test, (), self._needed())
        steps, per_epoch = plan.final, self._per_epoch(best)
        self.probing.report(f"training {best.text}: {steps:,} steps in one cycle; one training")
        trained, result = self._trained(best, replace(self._config(best), epochs=steps / per_epoch), "trained", steps)
        return Done(best, (trained,), result.test, (), 0.0)

    @cached_property
    def images(self) -> Images:
        """On how many images finalists are trained."""
        probing = self.probing
        slowest = max(probing.speeds[one.probed.text].seconds_per_image for one in self.finalists)

        def images() -> dict:
            return asdict(trained_on(self._left(), slowest, probing.images, probing.there))

        return from_json(Images, probing.journal.result("training images", images))

    # --- how long

    def _plan(self) -> Trainings:
        def plan() -> dict:
            beginnings = [self._beginning(one) for one in self.finalists]
            first, *_ = self.finalists
            seconds = USED * (self._left() - max(beginnings))
            per_step = [self._per_step(one) for one in self.finalists]
            several = trainings(seconds - (max(beginnings) * len(beginnings)), per_step, self._per_epoch(first))
            alone = trainings(seconds, per_step[:1], self._per_epoch(first))
            return asdict(several if several.short else alone)

        found = self.probing.journal.result("plan", plan)
        return Trainings(tuple(found["short"]), found["final"])

    def _left(self) -> float:
        """Return the seconds that are left for training: the test split is to be read too."""
        return self.probing.budget - self.probing.clock.spent - self._ending()

    def _ending(self) -> float:
        """Return what the end takes: every network reads the test split once, the chosen one after its training."""
        seconds = 0.0
        for one in self.probing.entrants:
            seconds += self.probing.speeds[one.text].seconds_per_image * len(one.dataset.split("test"))
        return seconds + self._fitting(self.finalists[0]) * 2

    def _beginning(self, one: Candidate) -> float:
        """Return what the start of a training takes: all images are read once, and a classifier is fitted."""
        images, speed = self.images, self.probing.speeds[one.probed.text]
        reading = speed.seconds_per_image * (images.training + images.validation)
        return speed.opening_seconds + reading + self._fitting(one)

    def _fitting(self, one: Candidate) -> float:
        """Return about what a classifier takes to fit: its share of the probe's time."""
        return one.probed.seconds / len(one.probed.probe.depths)

    def _per_step(self, one: Candidate) -> float:
        """Return the seconds of a step, its share of the validations included."""
        validation = self.probing.speeds[one.probed.text].seconds_per_image * self.images.validation
        return BESIDE * self._pace(one).seconds_per_step + validation / self._per_epoch(one)

    def _per_epoch(self, one: Candidate) -> int:
        dataset, recipe = self._dataset(one), self.probing.entrant(one.start).config.resolved_recipe()
        return steps_per_epoch(len(dataset.split("train")), recipe.batch_size)

    def _pace(self, one: Candidate) -> Pace:
        entrant = self.probing.entrant(one.start)

        def pace() -> dict:
            return asdict(pace_of(entrant, one, self._dataset(one), self.probing.device))

        return from_json(Pace, self.probing.journal.result(f"pace of {one.text}", pace))

    def _needed(self) -> float:
        """Return the budget in which the first finalist would be trained."""
        best = self.finalists[0]
        seconds = FEWEST_STEPS * self._per_step(best) / USED + self._beginning(best) + self._ending()
        return seconds / (1 - PROBING)

    # --- training

    def _dataset(self, one: Candidate) -> Dataset:
        """Return the images that a finalist is trained on."""
        entrant = self.probing.entrant(one.start)
        return entrant.training_data(self.images.training, self.images.validation)

    def _config(self, one: Candidate) -> TrainConfig:
        """Return how a finalist is trained; the epochs are not decided yet."""
        entrant, start, pace = self.probing.entrant(one.start), one.start, self._pace(one)
        arithmetic = {"precision": pace.precision, "memory_format": pace.memory_format}
        config = replace(entrant.config, limit=len(self._dataset(one).split("train")), **arithmetic)
        if start.whole:
            return config
        first = entrant.first_units(one.depth)
        return replace(config, weights=None, pretrained=False, size=None, from_run=str(first))

    def _run(self, one: Candidate, kind: str) -> Path:
        start = one.start
        units = "whole" if start.whole else f"first{start.units}{start.head}"
        return self.probing.options.out / RUNS / f"{file_name(start.network)}-{start.size}-{units}-{kind}"

    def _trained(self, one: Candidate, config: TrainConfig, kind: str, steps: int) -> tuple[Training, TrainResult]:
        """Train to the end and read the test split."""
        run, clock = self._run(one, kind), self.probing.clock
        started = clock.spent
        result = train(config, run, console=QUIET, dataset=self._dataset(one))
        seconds = self.probing.journal.result(f"seconds of {run.name}", lambda: clock.spent - started)
        trained = training_of(one, run, steps, seconds)
        self.probing.report(_training_line(trained))
        return trained, result

    def _short(self, one: Candidate, steps: int) -> tuple[Training, TrainConfig, Phase]:
        """Train for a short cycle; the test split is not read."""
        probing, run = self.probing, self._run(one, "short")
        config = replace(self._config(one), epochs=steps / self._per_epoch(one))

        def compute() -> dict:
            started = probing.clock.spent
            phase = advance(config, run, console=QUIET, dataset=self._dataset(one))
            return {"phase": to_json(phase), "seconds": probing.clock.spent - started}

        found = probing.journal.result(f"short training of {one.text}", compute)
        probing.clock.save()
        trained = training_of(one, run, steps, found["seconds"])
        probing.report(_training_line(trained))
        return trained, config, from_json(Phase, found["phase"])

    def _after_short(self, plan: Trainings) -> Done:
        """Train both finalists for a short cycle, and the better one on, from what it has learned."""
        probing = self.probing
        probing.report(f"training {len(plan.short)} finalists for a short cycle each")
        short = {one.text: self._short(one, steps) for one, steps in zip(self.finalists, plan.short, strict=True)}
        errors = {text: phase.validation_error_percent for text, (_, _, phase) in short.items()}
        better = min(self.finalists, key=lambda one: (errors[one.text], one.ms))
        tried, config, _ = short[better.text]
        others = []
        for one in self.finalists:
            if one is not better and one.start.whole:
                _, lost, _ = short[one.text]
                test = train(lost, self._run(one, "short"), console=QUIET, dataset=self._dataset(one)).test
                others.append(Other(what=f"{one.text}, trained", latency=one.depth.latency, test=final_error(test)))
        observed = (tried.seconds - self._beginning(better)) / tried.steps

        def left() -> int:
            per_step = max(self._per_step(better), observed)
            return steps_in(USED * (self._left() - self._beginning(better)), per_step, self._per_epoch(better))

        steps = probing.journal.result("final steps", left)
        done = [trained for trained, _, _ in short.values() if trained is not tried] + [tried]
        if not steps:
            result = train(config, self._run(better, "short"), console=QUIET, dataset=self._dataset(better))
            return Done(better, tuple(done), result.test, tuple(others), 0.0)
        probing.report(
            f"training {better.text} on from its weights: {steps:,} steps; one training each, no second seed"
        )
        longer = replace(
            config,
            weights=None,
            pretrained=False,
            size=None,
            from_run=tried.run,
            classifier="auto",
            epochs=steps / self._per_epoch(better),
        )
        trained, result = self._trained(better, longer, "trained", steps)
        return Done(better, (*done, trained), result.test, tuple(others), 0.0)


def training_of(one: Candidate, run: Path, steps: int, seconds: float) -> Training:
    """Return what a run folder says of a training."""
    opened = runs.open_run(run)
    events, kept = opened.metrics(), opened.kept(lambda _: None)
    epochs = [event for event in events if event["event"] == "epoch"]
    before = next(event for event in events if event["event"] == "start")["validation_error_percent"]
    assert kept is not None, "the recipe keeps the best epoch"
    return Training(
        start=one.start,
        run=str(run),
        steps=steps,
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
    kept = f"epoch {one.kept_epoch:.3g} kept" if one.kept_epoch else "no epoch better beyond chance"
    after = f"{one.validation_error_percent:.1f} % after {one.epochs:.3g} epochs ({kept})" if one.steps else "as it is"
    return f"  {one.start.text}: {one.before_percent:.1f} % before, {after}; {seconds_text(one.seconds)}"
