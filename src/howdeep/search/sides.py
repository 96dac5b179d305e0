"""Photos are read at the largest side at which there is time to compare depths."""

import torch

from howdeep.data import Dataset, steps_per_epoch
from howdeep.networks import Spec, build, spec_of
from howdeep.networks.counting import describe_chain
from howdeep.runtime.precision import best_of
from howdeep.search.candidates import BESIDE, FEWEST_EPOCHS
from howdeep.search.families import LARGE_SIDE
from howdeep.search.options import FitOptions
from howdeep.search.study import final_share
from howdeep.training.precision import TrainingSteps, trials_of

SIDES = (128, 64, 32)
"""In pixels, where there is no time for images as they are: from 64 on, networks are those of small images."""
COMPARED = 2
"""Depths for which there should be time."""


def side_of(options: FitOptions, dataset: Dataset, seconds: float, device: torch.device) -> int | None:
    """Return the side in pixels at which images are read; None leaves it as it is.

    The smallest network of small images is timed, and what others take follows from their multiply-adds.

    Args:
        options: What is asked; with a size or depths of the user's there is nothing to choose.
        dataset: The images as they are.
        seconds: Time that is left.
        device: Where networks are trained.
    """
    own = min(dataset.height, dataset.width)
    if own <= LARGE_SIDE or options.size is not None or options.depths is not None or options.storage is not None:
        return None
    images = len(dataset.split("train"))
    config, family = options.training(images), options.family_names[0]
    recipe = config.resolved_recipe()
    seen = recipe.batch_size * steps_per_epoch(images, recipe.batch_size) * FEWEST_EPOCHS

    def smallest(side: int, count: int) -> list[Spec]:
        """Return the smallest networks of the first family for images of a side."""
        names = [one.network for one in options.plane(side, side)[:count]]
        return [spec_of(name, classes=len(dataset.classes), channels=dataset.channels) for name in names]

    def macs(spec: Spec, side: int) -> int:
        return describe_chain(build(spec), (dataset.channels, side, side), name="", family=family).macs

    (timed,) = smallest(LARGE_SIDE, 1)
    shape = (recipe.batch_size, dataset.channels, LARGE_SIDE, LARGE_SIDE)
    trial = best_of(trials_of(config, TrainingSteps(build(timed), shape, recipe, device)))
    per_mac = trial.seconds_per_step / (recipe.batch_size * macs(timed, LARGE_SIDE))
    for side in (own, *(side for side in SIDES if side < own)):
        networks = smallest(side, COMPARED)
        needed = BESIDE * seen * per_mac * max(macs(spec, side) for spec in networks)
        if needed <= final_share(len(networks)) * seconds:
            break
    return None if side == own else side
