"""What a recipe and its options leave open is chosen by measuring, before the first step.

precision, memory format, threads    the fastest correct ones of a few steps
a new classifier                     begins as the logistic regression on what it reads
norm statistics                      frozen, unless short trials say otherwise beyond chance
frozen units                         by the time of a step
"""

from dataclasses import replace
from typing import TypeVar

from howdeep.chain import Chain
from howdeep.runtime import precision
from howdeep.runtime.timing import threads_of
from howdeep.training.classifier import begin_as_regression
from howdeep.training.config import TrainConfig
from howdeep.training.feed import Feed
from howdeep.training.precision import TrainingSteps, choose
from howdeep.training.recipes import Recipe
from howdeep.training.session import Place, arithmetic_of
from howdeep.training.trials import Trials
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
    """Return the recipe as trials left it, the mini-batches as they are laid out, and the choices for the record.

    Args:
        chain: The network with its rule for the gates. Its new classifier, if it has one, gets its first weights.
        recipe: How it is trained.
        feed: Its mini-batches.
        config: What of it all is forced.
        place: Where it is trained.
        start: What the record says of given weights, ``reset`` the parameters of a new classifier; ``regression`` is
            noted there. None for initial weights, of which nothing is tried.
        choices: Those of a run that was begun, which stay.

    Raises:
        UserError: The classifier alone is to be trained, and cannot be.
    """
    total = recipe.total(feed.steps_per_epoch)
    if choices is None:
        settled = recipe.settled(given=start is not None)
        steps = TrainingSteps(chain, feed.shape, settled, place.device, config.checkpointing)
        choices = choose(config, steps, total, place.ranks, place.report)
    arithmetic = arithmetic_of(choices)
    feed = feed.laid_out(channels_last=arithmetic.channels_last)
    if start is not None:
        precision.place(chain, arithmetic, place.device)
        with threads_of(choices["chosen"]["threads"]):
            new, report = start["reset"], place.report
            start["regression"] = begin_as_regression(chain, new, feed, place.ranks, report) if new else None
            if recipe.tune == "classifier" and start["regression"] is None:
                raise UserError(f"--tune classifier is not allowed: {config.network} has no single linear layer for it")
            if "training" not in choices:
                trials = Trials(chain, recipe, feed, config, place.ranks, place.device, arithmetic, total)
                choices["training"] = trials.settle(report)
    if "training" in choices:
        recipe = replace(recipe, **choices["training"]["chosen"])
    return recipe, feed, choices
