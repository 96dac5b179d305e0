"""What a recipe and its options leave open is chosen by measuring, before the first step.

precision, memory format, threads    the fastest correct ones of a few steps
a new classifier                     begins as the logistic regression on what it reads
frozen units                         by the time of a step

Nothing else is: short trainings do not foretell long ones. 16 steps took the errors on photos of ten signs of hands
from 6 to 41 %, 138 from 12 to 2 %. Of photos of waste 17 % were wrong after a trial with the norm statistics of
mini-batches and 23 % with frozen ones (n = 252: beyond chance); after whole runs 8.7 and 7.9 % (n = 504, one seed).

Whether training helps, the run itself finds out: its start is epoch 0, which stays where no epoch has fewer errors.
"""

from dataclasses import replace
from typing import TypeVar

from howdeep.chain import Chain
from howdeep.runtime import precision
from howdeep.runtime.timing import threads_of
from howdeep.training.classifier import begin_as_regression
from howdeep.training.config import TrainConfig
from howdeep.training.feed import Feed
from howdeep.training.frozen_units import FrozenUnits
from howdeep.training.precision import TrainingSteps, choose
from howdeep.training.recipes import Recipe
from howdeep.training.session import Place, arithmetic_of
from howdeep.util.errors import UserError

F = TypeVar("F", bound=Feed)


def settle(
    chain: Chain,
    recipe: Recipe,
    feed: F,
    config: TrainConfig,
    place: Place,
    *,
    start: dict | None,
    choices: dict | None = None,
) -> tuple[Recipe, F, dict]:
    """Return the recipe with nothing left open, the mini-batches as they are laid out, and the choices for the record.

    Args:
        chain: The network with its rule for the gates. Its new classifier, if it has one, gets its first weights.
        recipe: How it is trained; how many units are frozen may be ``auto``.
        feed: Its mini-batches.
        config: What of it all is forced.
        place: Where it is trained.
        start: What the record says of given weights, ``reset`` the parameters of a new classifier; ``regression`` is
            noted there. None for initial weights, of which none is frozen.
        choices: Those of a run that was begun, which stay.

    Raises:
        UserError: The classifier alone is to be trained, and cannot be.
    """
    asked, recipe = recipe.freeze, replace(recipe, freeze=0 if recipe.freeze == "auto" else recipe.freeze)
    if choices is None:
        steps = TrainingSteps(chain, feed.shape, recipe, place.device, config.checkpointing)
        choices = choose(config, steps, recipe.total(feed.steps_per_epoch), place.ranks, place.report)
    arithmetic = arithmetic_of(choices)
    feed = feed.laid_out(channels_last=arithmetic.channels_last)
    if start is not None:
        precision.place(chain, arithmetic, place.device)
        with threads_of(choices["chosen"]["threads"]):
            new, report = start["reset"], place.report
            start["regression"] = begin_as_regression(chain, new, feed, place.ranks, report) if new else None
            if recipe.tune == "classifier" and start["regression"] is None:
                raise UserError(f"--tune classifier is not allowed: {config.network} has no single linear layer for it")
            if "frozen_units" not in choices:
                given = recipe, feed.shape, place.ranks, place.device, arithmetic, config.checkpointing
                units = FrozenUnits(chain, *given, passes=_passes(recipe, feed, new=bool(new)))
                choices["frozen_units"] = units.settled(0 if recipe.tune == "classifier" else asked, report)
    if (found := choices.get("frozen_units")) is not None:
        recipe = replace(recipe, freeze=found["units"])
    return recipe, feed, choices


def _passes(recipe: Recipe, feed: Feed, *, new: bool) -> float:
    """Return the images that are shown for validation and a new classifier, per image that is learnt from."""
    images = feed.steps_per_epoch * feed.whole
    epochs = max(1, recipe.total(feed.steps_per_epoch)) / feed.steps_per_epoch
    return ((epochs + 1) * feed.validated + new * (images + feed.validated)) / (epochs * images)
