"""How long finalists are trained: the time that is left is measured out, so that all of it ends within the budget."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from time import perf_counter

import torch

from howdeep.data import Dataset, augmentation_of, steps_per_epoch
from howdeep.runtime.precision import best_of
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import threads_of
from howdeep.search.entrants import Entrant
from howdeep.search.finalists import Candidate
from howdeep.search.probing import Probing
from howdeep.search.sharing import (
    FEWEST_STEPS,
    LEAST_OF_A_STEP,
    MOST_OF_A_STEP,
    PROBING,
    SHORT,
    USED,
    Images,
    Pace,
    Trainings,
    steps_in,
    trained_on,
    trainings,
)
from howdeep.search.transfer import Training
from howdeep.training.feed import SplitFeed
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.util.records import from_json

BESIDE = 1.05
"""What an epoch takes per second of its steps, validation left out."""
WARM, TIMED, LONG_ENOUGH = 1, 8, 4.0
"""Steps by which the speed of a training is measured, after one that is not; they end after so many seconds."""
TRIED = 12
"""Steps in which every training measures first how many threads are fastest."""


@dataclass(frozen=True)
class TrainingSpeed:
    """How a network is trained fastest here, and how fast that is."""

    precision: str
    memory_format: str
    seconds_per_step: float
    """Preparing images included."""


def speed_of(entrant: Entrant, candidate: Candidate, dataset: Dataset, device: torch.device) -> TrainingSpeed:
    """Return the speed of a training, by some steps of a copy on real mini-batches."""
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
    step, seconds = steps.on(best.arithmetic), []
    with threads_of(best.threads):
        started = perf_counter()
        for batch in feed.training(0, WARM + TIMED):
            step(batch)
            now = perf_counter()
            seconds.append(now - started)
            started = now
            if len(seconds) > WARM and sum(seconds[WARM:]) > LONG_ENOUGH:
                break
    return TrainingSpeed(best.precision, best.memory_format, fmean(seconds[WARM:]))


@dataclass(frozen=True)
class Pacing:
    """The time of the trainings, after everything before them and before all that comes after."""

    probing: Probing
    finalists: Sequence[Candidate]
    """The lowest error first, the fastest last."""

    @cached_property
    def images(self) -> Images:
        """On how many images finalists are trained."""
        probing = self.probing
        slowest = max(probing.speed(one.probed).seconds_per_image for one in self.finalists)

        def images() -> dict:
            return asdict(trained_on(self.left(), slowest, probing.images, probing.there))

        return from_json(Images, probing.journal.result("training images", images))

    # --- how long

    def plan(self) -> Trainings:
        """Return how long finalists are trained; what measuring their speed takes is spent by then."""

        def plan() -> dict:
            fastest = self.finalists[-1]
            per_epoch = self.per_epoch(fastest)
            if not steps_in(USED * self.left(), self._guess(fastest, LEAST_OF_A_STEP), per_epoch):
                return asdict(Trainings((0,) * len(self.finalists)))
            paces = [self.pace(one) for one in self.finalists]
            return asdict(trainings(USED * self.left(), paces, per_epoch))

        return from_json(Trainings, self.probing.journal.result("plan", plan))

    def left(self) -> float:
        """Return the seconds that are left for training: the test split is to be read too."""
        return self.probing.budget - self.probing.clock.spent - self.probing.ending

    def pace(self, one: Candidate) -> Pace:
        """Return what a training takes, as it was measured."""
        return self._pace_of(one, self.speed(one).seconds_per_step)

    def _guess(self, one: Candidate, of_a_step: float) -> Pace:
        """Return about what a training takes, by the seconds in which images are read."""
        recipe = self.probing.entrant(one.start).config.resolved_recipe()
        return self._pace_of(one, of_a_step * self.probing.speed(one.probed).seconds_per_image * recipe.batch_size)

    def _pace_of(self, one: Candidate, step: float) -> Pace:
        """Return what a training takes, by the seconds of a step alone."""
        speed = self.probing.speed(one.probed)
        validating = speed.seconds_per_image * self.images.validation / self.per_epoch(one)
        return Pace(speed.beginning(self.images) + TRIED * step, BESIDE * step + validating)

    def onward(self, one: Candidate, trained: Training) -> Pace:
        """Return what it takes to train on: no classifier is fitted, and steps are as slow as they were."""
        speed, pace = self.probing.speed(one.probed), self.pace(one)
        reading = speed.reading(Images(0, self.images.validation))
        observed = (trained.seconds - pace.beginning) / max(1, trained.steps)
        return Pace(speed.opening_seconds + reading + TRIED * pace.per_step, max(pace.per_step, observed))

    def per_epoch(self, one: Candidate) -> int:
        dataset, recipe = self.dataset(one), self.probing.entrant(one.start).config.resolved_recipe()
        return steps_per_epoch(len(dataset.split("train")), recipe.batch_size)

    def speed(self, one: Candidate) -> TrainingSpeed:
        entrant = self.probing.entrant(one.start)

        def speed() -> dict:
            return asdict(speed_of(entrant, one, self.dataset(one), self.probing.device))

        return from_json(TrainingSpeed, self.probing.journal.result(f"speed of training {one.text}", speed))

    def needed(self) -> float:
        """Return the budget in which the faster finalist would be trained, after what was spent or a longer probing."""
        pace = self._guess(self.finalists[-1], MOST_OF_A_STEP)
        after = (pace.beginning + FEWEST_STEPS * pace.per_step) / USED + self.probing.ending
        return max(self.probing.clock.spent + after, after / (1 - PROBING))

    def needed_for_both(self, alone: Training) -> float:
        """Return the budget in which both finalists would be trained, where one was alone."""
        shortest = [pace.beginning + FEWEST_STEPS * pace.per_step for pace in map(self.pace, self.finalists)]
        after = len(shortest) * max(shortest) / SHORT / USED + self.probing.ending
        return max(self.probing.clock.spent - alone.seconds + after, after / (1 - PROBING))

    def dataset(self, one: Candidate) -> Dataset:
        """Return the images that a finalist is trained on."""
        entrant = self.probing.entrant(one.start)
        return entrant.training_data(self.images.training, self.images.validation)
