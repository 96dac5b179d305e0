"""Which published network, at which depth: those worth training, and what keeps the answer from being better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from howdeep.analysis.choice import changes
from howdeep.analysis.depths import Change, Depth
from howdeep.analysis.evaluation import exchanged
from howdeep.search.options import Budgets
from howdeep.search.sharing import FEWEST_STEPS
from howdeep.search.transfer import Probed, Start, Training, Verdict
from howdeep.util.intervals import of_difference
from howdeep.util.text import seconds_text

ENOUGH_EPOCHS = 8.0
"""Those of the recipe: a training that had as many says nothing of more."""
KNOWN = 0.5
"""A training error below this share of the validation error means that the network knows its training images."""


@dataclass(frozen=True)
class Candidate:
    """A published network for images of some size, up to some depth, under a classifier that was fitted there."""

    probed: Probed
    depth: Depth

    @property
    def start(self) -> Start:
        """The same, without numbers."""
        return self.probed.start(self.depth)

    @property
    def error(self) -> float:
        """Validation error in percent."""
        return self.depth.fitted.error_percent

    @property
    def ms(self) -> float:
        """Milliseconds for one image."""
        return self.depth.latency.median_ms

    @property
    def text(self) -> str:
        """Which one it is, in a few words."""
        return self.start.text

    def misses(self, budgets: Budgets) -> str:
        """Return the first budget that it misses; empty where it meets all."""
        if budgets.latency_seconds is not None and self.ms > 1000 * budgets.latency_seconds:
            return "latency"
        if budgets.parameters is not None and self.depth.parameters > budgets.parameters:
            return "parameters"
        return ""


def candidates_of(probed: Sequence[Probed]) -> list[Candidate]:
    """Return every network at every depth."""
    return [Candidate(one, depth) for one in probed for depth in one.probe.depths]


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that none is better than in both error and latency, by rising latency and so by falling error."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (one.ms, one.error)):
        if not kept or one.error < kept[-1].error:
            kept.append(one)
    return kept


def against(candidates: Sequence[Candidate], other: Candidate) -> list[Change]:
    """Return the errors of several minus that of another one, image by image."""
    pairs = [exchanged(one.depth.fitted.answers, other.depth.fitted.answers) for one in candidates]
    return changes([pair for pair in pairs if pair is not None], other.probed.probe.n)


def worse(change: Change) -> bool:
    """Return whether an error is higher beyond chance: its 95 % interval, of this comparison alone, leaves out zero."""
    return change.low > 0


def finalists(candidates: Sequence[Candidate], budgets: Budgets) -> list[Candidate]:
    """Return who is worth training: the lowest error within the budgets, and the fastest that is not worse by more.

    By more than chance, that is; it may be the same one. Only the front is compared: what is on it is better than the
    rest without being dearer.
    """
    *others, lowest = front([one for one in candidates if not one.misses(budgets)])
    alike = (one for one, change in zip(others, against(others, lowest), strict=True) if not worse(change))
    faster = next(alike, None)
    return [lowest] if faster is None else [lowest, faster]


def guessing_percent(labels: Sequence[int]) -> float:
    """Return the error of who always says the most frequent class, in percent."""
    return 100 * (1 - max(map(labels.count, set(labels))) / len(labels))


def verdict(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    budgets: Budgets,
    last: Training,
    needed_seconds: float,
    *,
    untrained: Candidate | None = None,
) -> Verdict:
    """Return what keeps the answer from being better, by the first rule that holds.

    A budget, where a network beyond it did significantly better before training; training time, where there was none
    for it, or where less than the epochs of the recipe helped; nobody knows, where so few did not help; the data, where
    the network gets less than half as many of its training images wrong, significantly; nobody knows, where there was
    no time to train the finalist with the lowest error; else nothing.

    Args:
        chosen: What is recommended, as it was probed.
        candidates: Everything that was probed.
        budgets: What was allowed.
        last: The training that the answer comes from.
        needed_seconds: Budget in which there would be a training, where there was none; or one of enough epochs, and
            of both finalists.
        untrained: The finalist with the lowest error, where another one was trained alone.
    """
    best = front(candidates)[-1]
    if (missed := best.misses(budgets)) and worse(against([chosen], best)[0]):
        costs = f"{best.ms:.3g} ms" if missed == "latency" else f"{best.depth.parameters:,} parameters"
        return Verdict(
            missed,
            f"before training {best.text}, is at {best.error:.1f} % and {chosen.text}, at {chosen.error:.1f} %",
            f"{missed} limits you: {best.text}, takes {costs}",
        )
    if not last.steps:
        return Verdict(
            "train",
            f"there is no time for {FEWEST_STEPS} steps of training: only a classifier was fitted",
            f"training time limits you: --train-budget {math.ceil(needed_seconds)}s would leave time for one",
        )
    before, after = last.before_percent, last.validation_error_percent
    if last.epochs < ENOUGH_EPOCHS:
        took = f"{last.epochs:.3g} epochs ({seconds_text(last.seconds)})"
        if last.kept_epoch:
            return Verdict(
                "train",
                f"{took} took the validation error from {before:.1f} to {after:.1f} %",
                f"training time limits you: {chosen.start.network} may still gain from more",
            )
        return Verdict(
            "unknown",
            f"cannot say whether training helps: {took} brought nothing that shows, and more may",
            f"take it; --train-budget {math.ceil(needed_seconds)}s, for {ENOUGH_EPOCHS:g} epochs, would tell",
        )
    n, training = last.validation_images, last.train_error_percent
    if training is not None and training < KNOWN * after and of_difference(training, n, after, n).beyond_chance:
        return Verdict(
            "data",
            f"it gets {training:.1f} % of its training images wrong and {after:.1f} % of others",
            "the data limits you: more images, or stronger augmentation, before a larger network",
        )
    helped = f"took the validation error from {before:.1f} to {after:.1f} %"
    done = f"{last.epochs:.3g} epochs of training {helped if last.kept_epoch else 'brought nothing that shows'}"
    if untrained is not None and after > 0:
        return Verdict(
            "unknown",
            f"{done}; whether {untrained.text}, would be better cannot be said: there was no time to train it",
            f"take it; --train-budget {math.ceil(needed_seconds)}s would try both",
        )
    return Verdict(
        "nothing",
        done,
        "take it: neither a larger network nor the budgets hold it back, as far as these images show",
    )
