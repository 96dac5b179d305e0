"""What a search has found: depths that the evidence cannot tell apart, what the limit is, one sentence of advice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from howdeep.search.candidates import CandidateCosts, Dropped
from howdeep.search.ladder import LARGE_SIDE
from howdeep.search.options import Budgets
from howdeep.search.study import RoundResult
from howdeep.util.intervals import of_difference
from howdeep.util.text import seconds_text


@dataclass(frozen=True)
class Candidate:
    """A network that took part, with everything that is known of it."""

    costs: CandidateCosts
    """What it costs."""
    rounds: tuple[RoundResult, ...]
    """How it did on the rounds that it passed."""
    failed: bool
    """Whether its training diverged."""


@dataclass(frozen=True)
class Verdict:
    """Why not deeper, why not shallower."""

    depths: tuple[int, int]
    """Least and greatest depth of the chosen family that the evidence cannot tell from the chosen one: the 95 %
    interval of the difference of their errors at equal training time holds zero, one training each."""
    limit: str
    """``train``, ``latency``, ``parameters`` or ``memory``: the budget that keeps the error up; ``data``: the network
    knows its training images; ``ladder``: deeper networks were not asked for; ``nothing``: depth brings nothing."""
    finding: str
    """The evidence, in one sentence."""
    advice: str
    """What to do, in one sentence."""


def verdict(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    dropped: Sequence[Dropped],
    budgets: Budgets,
    images: int,
    side: int,
) -> Verdict:
    """Return what the rounds say.

    In this order: where the deepest network that took part did best, what kept deeper ones out is the limit; else time
    is, where the chosen network's error still falls with it, or a deeper one did better after equally many epochs; else
    the data is, where the network knows its training images twice as well as others; else nothing is.

    Args:
        chosen: The chosen network; its last round is the end of its training.
        candidates: Everyone who took part, the chosen one among them.
        dropped: Who did not, and why.
        budgets: What was allowed.
        images: Validation images, from which the intervals come.
        side: Of the images, in pixels.
    """
    family = [one for one in candidates if one.costs.family == chosen.costs.family and one.rounds]
    deeper = [one for one in dropped if one.family == chosen.costs.family and one.depth > chosen.costs.depth]
    evidence = _Evidence(
        chosen,
        sorted(family, key=lambda one: one.costs.depth),
        min(deeper, key=lambda one: one.depth, default=None),
        budgets,
        images,
    )
    limit, finding = evidence.limit()
    smaller = f"; smaller images (--size {LARGE_SIDE}) train faster" if limit == "train" and side > LARGE_SIDE else ""
    return Verdict(evidence.depths(), limit, finding, evidence.advice(limit) + smaller)


@dataclass(frozen=True)
class _Evidence:
    """The chosen network among its family, shallow first, and the next deeper one that was left out."""

    chosen: Candidate
    family: Sequence[Candidate]
    barrier: Dropped | None
    budgets: Budgets
    images: int

    def limit(self) -> tuple[str, str]:
        """Return what the limit is, and the evidence."""
        name, last = self.chosen.costs.network, self.chosen.rounds[-1]
        gains = len(self.family) == 1 or self._worse(self.family[-2], self.family[-1])
        if self.chosen is self.family[-1] and gains:
            if self.barrier is None:
                return "ladder", f"the deepest network that was tried, {name}, did best"
            return self.barrier.budget, f"{name} is the deepest that the budgets allow"
        if time := self._still_falls() or self._deeper_is_better():
            return "train", time
        training, validation = last.train_error_percent, last.validation_error_percent
        if training < validation / 2 and self._apart(training, validation):
            return "data", (
                f"{name} gets {training:.1f} % of its training images wrong and {validation:.1f} % of others"
            )
        return "nothing", f"more time and more depth than {name} has did not help"

    def advice(self, limit: str) -> str:
        """Return one sentence of advice."""
        name, barrier = self.chosen.costs.network, self.barrier
        if limit == "train":
            latency = f", not latency ({self.chosen.costs.latency.median_ms:.2g} ms)"
            others = "" if self.budgets.latency_seconds is None else latency
            deeper = f"; {barrier.network} needs {barrier.reason}" if barrier and barrier.budget == "train" else ""
            return f"training time limits you{others}: train {name} for longer, or on a faster machine{deeper}"
        if limit == "data":
            return "the data limits you, not depth: more images, or stronger augmentation, before more layers"
        if limit == "ladder":
            return f"go deeper: give --depths beyond {self.chosen.costs.depth}"
        if limit == "nothing":
            least = next(one.costs for one in self.family if one.costs.depth == self.depths()[0])
            if least.network == name:
                return f"take {name}: deeper networks cost more and bring nothing that shows"
            cheap = f"{least.network} where it must be cheap: {least.latency.median_ms:.2g} ms"
            return f"take {name}, or {cheap}, and the evidence cannot tell them apart"
        assert barrier is not None, "a budget is the limit where a network misses it"
        return f"{limit} limits you, not training time: {barrier.network} would be next, with {barrier.reason}"

    def depths(self) -> tuple[int, int]:
        """Return the ends of the run of depths around the chosen one that cannot be told from it."""
        low = high = self.family.index(self.chosen)
        while low > 0 and not self._worse(self.family[low - 1], self.chosen):
            low -= 1
        while high + 1 < len(self.family) and not self._worse(self.family[high + 1], self.chosen):
            high += 1
        return self.family[low].costs.depth, self.family[high].costs.depth

    def _worse(self, one: Candidate, other: Candidate) -> bool:
        """Return whether a network did worse than another, on the last round that both passed."""
        if one.failed:
            return True
        last = min(len(one.rounds), len(other.rounds)) - 1
        mine, best = (each.rounds[last].validation_error_percent for each in (one, other))
        return mine > best and self._apart(mine, best)

    def _still_falls(self) -> str:
        """Return how the error fell with the last stretch of training, or nothing where it did not."""
        if len(self.chosen.rounds) < 2:
            return ""
        before, after = self.chosen.rounds[-2:]
        errors = before.validation_error_percent, after.validation_error_percent
        if errors[1] >= errors[0] or not self._apart(*errors):
            return ""
        return (
            f"from {seconds_text(before.seconds)} to {seconds_text(after.seconds)} of training the validation error of"
            f" {self.chosen.costs.network} fell from {errors[0]:.1f} to {errors[1]:.1f} %"
        )

    def _deeper_is_better(self) -> str:
        """Return by how much a deeper network was ahead after equally many epochs, or nothing where none was."""
        for one in self.family:
            if one.costs.depth <= self.chosen.costs.depth or one.failed:
                continue
            epochs, error = one.rounds[-1].epochs, one.rounds[-1].validation_error_percent
            own = _error_at(epochs, self.chosen.rounds)
            if own is not None and error < own and self._apart(error, own):
                return (
                    f"after {epochs:.1f} epochs {one.costs.network} is at {error:.1f} %"
                    f" and {self.chosen.costs.network} at about {own:.1f} %: more layers help where there is time for"
                    " them"
                )
        return ""

    def _apart(self, one: float, other: float) -> bool:
        """Return whether two errors in percent differ by more than chance.

        As if they were counted on images of their own: of a round the counts are kept and not the answers. On the same
        images that is the more careful way.
        """
        return of_difference(one, self.images, other, self.images).beyond_chance


def _error_at(epochs: float, rounds: Sequence[RoundResult]) -> float | None:
    """Return the error after some epochs, between two rounds in proportion to log(epochs); None outside of them."""
    for before, after in pairwise(rounds):
        if before.epochs <= epochs <= after.epochs:
            share = math.log(epochs / before.epochs) / math.log(after.epochs / before.epochs)
            return before.validation_error_percent + share * (
                after.validation_error_percent - before.validation_error_percent
            )
    return None
