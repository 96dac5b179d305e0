"""How the time of a search among published networks is shared: probing, short trainings, the final one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from howdeep.runtime.timing import RUNS, SECONDS

PROBING, MOST = 0.25, 0.5
"""Share of the time in which all networks are probed, everything before it included; and the largest one, where that is
too short for the fewest images."""
FEWEST_IMAGES, FEWEST_OF_A_CLASS = 50, 5
"""Of training: with fewer a classifier says nothing of the network."""
FEWEST_ANSWERS, HELD_OUT = 200, 4
"""Validation images, if there are so many: of fewer, 20 errors are 30 by chance. More are used beside many training
images, one beside four."""
FIT, FIT_A_NUMBER, EXACT = 0.1, 1e-7, 2.0
"""Seconds in which a classifier is fitted, and more of them per image, feature and class: measured on one core. And how
much longer it takes to the minimum, as a training begins."""
READING = 0.1
"""Share of the time left in which the training images may be read once, for the classifier that is trained on."""
FEWEST_STEPS = 140
"""Steps of a training. On photos of ten signs of hands 16 to 46 steps left a network worse than its first classifier,
138 left it better."""
SHORT_EPOCHS, MOST_EPOCHS = 8.0, 24.0
"""Longest cycle of two finalists, that of the recipe, and of the final training."""
SHORT = 0.5
"""Share of the time left in which two finalists are trained, each for as long."""
USED = 0.95
"""Share of the time left that is planned with."""
LEAST_OF_A_STEP, MOST_OF_A_STEP = 1.0, 4.0
"""What a step of training takes at least and, while it is not measured, about at most, in readings of its images."""


@dataclass(frozen=True)
class Images:
    """How many images every network is probed on: as many, so that they can be compared."""

    training: int
    validation: int
    """All answer the same ones."""


@dataclass(frozen=True)
class Speed:
    """How fast a network reads images here, and is probed."""

    seconds_per_image: float
    """Of a forward pass, decoding included."""
    fit_seconds_per_image: float
    """Of the classifiers at all depths."""
    fixed_seconds: float
    """Of probing beside that: all depths are timed, and fitting a classifier takes a while however few images."""
    opening_seconds: float
    """Of making the network a chain, as every training of it does again."""
    depths: int
    """At which it is probed."""
    threads: int
    """In which it reads images fastest."""

    def reading(self, images: Images) -> float:
        """Return the seconds in which so many images are read."""
        return self.seconds_per_image * (images.training + images.validation)

    def fitting(self, training: int) -> float:
        """Return about the seconds in which a classifier is fitted to so many images."""
        return FIT + self.fit_seconds_per_image * training / self.depths

    def probing(self, images: Images) -> float:
        """Return the seconds in which so many images can be probed."""
        return self.fixed_seconds + self.reading(images) + self.fit_seconds_per_image * images.training

    def beginning(self, images: Images) -> float:
        """Return the seconds in which a training begins: a classifier is fitted to all that is read."""
        return self.opening_seconds + self.reading(images) + EXACT * self.fitting(images.training)


def ending(speeds: Mapping[str, Sequence[Speed]], training: int, test: int) -> float:
    """Return the seconds of what comes after the trainings.

    The test split is read by every whole network, under classifiers that are fitted again, by the network that is
    recommended, which is timed then, and by another one that was trained.

    Args:
        speeds: Of every network, for each size of its images; the slowest counts.
        training: Images of the probe.
        test: Images of the test split.
    """
    read = {name: max(one.seconds_per_image for one in several) * test for name, several in speeds.items()}
    every = [one for several in speeds.values() for one in several]
    fitted = 2 * len(speeds) * max(one.fitting(training) for one in every)
    opened = 2 * max(one.opening_seconds for one in every)
    timed = 2 * RUNS * max(one.seconds_per_image for one in every)
    return sum(read.values()) + 2 * max(read.values()) + fitted + opened + min(SECONDS, timed)


def fewest_images(classes: int) -> int:
    """Return how many training images networks are probed on at least, if there are so many."""
    return max(FEWEST_IMAGES, FEWEST_OF_A_CLASS * classes)


def images_of(
    budget: float, spent: float, speeds: Mapping[str, Sequence[Speed]], there: Images, classes: int, test: int
) -> Images | float:
    """Return how many images are probed; or the smallest budget in seconds, where this one is too small.

    Args:
        budget: Seconds of everything.
        spent: Those until now.
        speeds: Of every network, for each size of its images.
        there: Images that there are.
        classes: Classes of the data.
        test: Images of the test split.
    """
    every = [one for several in speeds.values() for one in several]
    fewest = Images(min(there.training, fewest_images(classes)), min(there.validation, FEWEST_ANSWERS))
    needed = spent + sum(one.probing(fewest) for one in every)
    # At least the classifier of one network is fitted anew, in a run folder.
    after = max(one.beginning(fewest) for one in every) + ending(speeds, fewest.training, test)
    smallest = max(needed / MOST, (needed + after) / USED)
    if budget < smallest:
        return smallest
    # What more images take to be probed, one network takes at most once more to begin with them.
    more = max(0.0, min(PROBING * budget - needed, (USED * budget - needed - after) / 2))
    without, one = (sum(each.probing(Images(count, fewest.validation)) for each in every) for count in (0, 1))
    count = int((needed + more - spent - without) / (one - without))
    validation = min(there.validation, max(fewest.validation, count // HELD_OUT))
    training = min(there.training, max(fewest.training, count - (validation - fewest.validation)))
    return Images(training, validation)


def trained_on(seconds: float, seconds_per_image: float, probed: Images, there: Images) -> Images:
    """Return how many images finalists are trained on: all, or as many as can be read in a tenth of the time.

    Args:
        seconds: That are left.
        seconds_per_image: Of the slowest finalist.
        probed: Images of the probe; these are not fewer.
        there: Images that there are.
    """
    training = min(there.training, max(probed.training, int(READING * seconds / seconds_per_image)))
    return Images(training, min(there.validation, max(probed.validation, training // HELD_OUT)))


@dataclass(frozen=True)
class Pace:
    """What a training takes."""

    beginning: float
    """Seconds before its first step."""
    per_step: float
    """Seconds of a step, its share of the validations included."""


@dataclass(frozen=True)
class Trainings:
    """How long finalists are trained."""

    steps: tuple[int, ...]
    """Of every finalist: of two a short cycle each; or all of one, and none of the other; or none."""

    @property
    def both(self) -> bool:
        """Whether two are trained for a short cycle each."""
        return len(self.steps) > 1 and all(self.steps)

    @property
    def alone(self) -> int | None:
        """The place of the one that is trained in one cycle, where one is."""
        return next((place for place, steps in enumerate(self.steps) if steps), None) if not self.both else None


def trainings(seconds: float, paces: Sequence[Pace], steps_per_epoch: int) -> Trainings:
    """Return how long finalists are trained.

    Two are trained for a whole short cycle each, in equal time, where half of the time holds steps enough for both.
    Else one alone is trained, in one cycle of all the time: the one with the lowest error, where time holds the epochs
    of the recipe, or the faster one. Or none is.

    Args:
        seconds: That are left for it.
        paces: Of one or two finalists, the lowest error first.
        steps_per_epoch: Mini-batches of an epoch.
    """
    each = SHORT * seconds / len(paces)
    short = Trainings(tuple(steps_in(each, pace, steps_per_epoch, SHORT_EPOCHS) for pace in paces))
    if short.both:
        return short
    alone = [steps_in(seconds, pace, steps_per_epoch) for pace in paces]
    taken = 0 if alone[0] >= SHORT_EPOCHS * steps_per_epoch else len(alone) - 1
    return Trainings(tuple(steps if place == taken else 0 for place, steps in enumerate(alone)))


def steps_in(seconds: float, pace: Pace, steps_per_epoch: int, most_epochs: float = MOST_EPOCHS) -> int:
    """Return the steps of one training in so many seconds; 0 where they are too few to be worth it."""
    most = max(FEWEST_STEPS, round(most_epochs * steps_per_epoch))
    steps = min(most, int((seconds - pace.beginning) / pace.per_step))
    return steps if steps >= FEWEST_STEPS else 0
