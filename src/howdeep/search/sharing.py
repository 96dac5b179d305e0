"""How the time of a search among published networks is shared: probing, short trainings, the final one."""

from collections.abc import Sequence
from dataclasses import dataclass

PROBING, MOST = 0.25, 0.5
"""Share of the time in which all networks are probed, everything before it included; and the largest one, where that is
too short for the fewest images."""
FEWEST_IMAGES, FEWEST_OF_A_CLASS = 50, 5
"""Of training: with fewer a classifier says nothing of the network."""
FEWEST_ANSWERS, HELD_OUT = 200, 4
"""Validation images, if there are so many: of fewer, 20 errors are 30 by chance. More are used beside many training
images, one beside four."""
FIT, FIT_A_NUMBER = 0.1, 3e-7
"""Seconds in which a classifier is fitted, and more of them per image, feature and class: measured on one core."""
READING = 0.1
"""Share of the time left in which the training images may be read once, for the classifier that is trained on."""
FEWEST_STEPS = 140
"""Steps of a training. On photos of ten signs of hands 16 to 46 steps left a network worse than its first classifier,
138 left it better."""
MOST_EPOCHS = 24.0
"""Three times those of the recipe."""
SHORT = 0.5
"""Share of the time left in which two finalists are trained, each for as long."""
USED = 0.95
"""Share of the time left that is planned with."""


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
    threads: int
    """In which it reads images fastest."""

    def probing(self, images: Images) -> float:
        """Return the seconds in which so many images can be probed."""
        read = self.seconds_per_image * (images.training + images.validation)
        return self.fixed_seconds + read + self.fit_seconds_per_image * images.training


def fewest_images(classes: int) -> int:
    """Return how many training images networks are probed on at least, if there are so many."""
    return max(FEWEST_IMAGES, FEWEST_OF_A_CLASS * classes)


def images_of(budget: float, spent: float, speeds: Sequence[Speed], there: Images, classes: int) -> Images | float:
    """Return how many images are probed; or the smallest budget in seconds, where this one is too small.

    Args:
        budget: Seconds of everything.
        spent: Those until now.
        speeds: Of every network.
        there: Images that there are.
        classes: Classes of the data.
    """
    fewest = Images(min(there.training, fewest_images(classes)), min(there.validation, FEWEST_ANSWERS))
    needed = spent + sum(speed.probing(fewest) for speed in speeds)
    if needed > MOST * budget:
        return needed / MOST
    without, one = (sum(speed.probing(Images(count, fewest.validation)) for speed in speeds) for count in (0, 1))
    count = int((max(needed, PROBING * budget) - spent - without) / (one - without))
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
class Trainings:
    """How long finalists are trained."""

    short: tuple[int, ...]
    """Steps of a short cycle of each of two; none where there is one training alone."""
    final: int
    """Steps of the final training, as far as its speed is known; 0 where none is worth it."""


def trainings(seconds: float, seconds_per_step: Sequence[float], steps_per_epoch: int) -> Trainings:
    """Return how long finalists are trained, the best first.

    Two are trained for a whole short cycle each, in equal time, where half of the time holds steps enough for both.
    Else the best alone is trained, in one cycle of all the time; or none is.

    Args:
        seconds: That are left for it.
        seconds_per_step: Of each of one or two finalists.
        steps_per_epoch: Mini-batches of an epoch.
    """
    most = max(FEWEST_STEPS, round(MOST_EPOCHS * steps_per_epoch))
    if len(seconds_per_step) > 1:
        each = SHORT * seconds / len(seconds_per_step)
        short = tuple(min(most, int(each / one)) for one in seconds_per_step)
        if min(short) >= FEWEST_STEPS:
            return Trainings(short, steps_in((1 - SHORT) * seconds, seconds_per_step[0], steps_per_epoch))
    return Trainings((), steps_in(seconds, seconds_per_step[0], steps_per_epoch))


def steps_in(seconds: float, seconds_per_step: float, steps_per_epoch: int) -> int:
    """Return the steps of one training in so many seconds; 0 where they are too few to be worth it."""
    most = max(FEWEST_STEPS, round(MOST_EPOCHS * steps_per_epoch))
    steps = min(most, int(seconds / seconds_per_step))
    return steps if steps >= FEWEST_STEPS else 0
