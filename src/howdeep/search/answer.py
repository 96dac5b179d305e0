"""What a search has found: depths that the evidence cannot tell apart, what the limit is, one sentence of advice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from howdeep.analysis.evaluation import exchanged
from howdeep.search.candidates import CandidateCosts, Dropped
from howdeep.search.families import LARGE_SIDE
from howdeep.search.options import Budgets
from howdeep.search.study import RoundResult
from howdeep.util.intervals import of_change, of_difference
from howdeep.util.text import seconds_text

ANSWER, RUNS = "answer.json", "runs"
"""The answer, in the folder of a search, and the folder of its runs."""


@dataclass(frozen=True)
class FinalError:
    """The test split, read once."""

    error_percent: float
    """Share of wrong answers."""
    standard_error: float
    """Of the error, in percent."""
    n: int
    """Images."""


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
    interval of the paired difference of their errors at equal training time holds zero, one training each."""
    limit: str
    """``train``, ``latency``, ``parameters`` or ``memory``: the budget that kept deeper ones out, or with which the
    error still falls; ``data``: the network knows its training images; ``ladder``: deeper networks were not asked for;
    ``nothing``: neither depth nor time showed more than chance."""
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
        candidates: All networks that took part, the chosen one among them.
        dropped: Those that did not, and why.
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
        alone = len(self.family) == 1
        if self.chosen is self.family[-1] and (alone or self._worse(self.family[-2], self.chosen)):
            if self.barrier is not None:
                return self.barrier.budget, f"{name} is the deepest that the budgets allow"
            best = "is the only network that was tried" if alone else "is the deepest that was tried, and did best"
            return "ladder", f"{name} {best}"
        if time := self._still_falls() or self._deeper_is_better():
            return "train", time
        training, validation = last.train_error_percent, last.validation_error_percent
        if training < validation / 2 and of_difference(training, self.images, validation, self.images).beyond_chance:
            return "data", (
                f"{name} gets {training:.1f} % of its training images wrong and {validation:.1f} % of others"
            )
        shown = f"on {self.images:,} validation images neither more time nor more depth than {name} has"
        return "nothing", f"{shown} shows more than chance"

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
        return f"{limit} limits you: {barrier.network} would be next, with {barrier.reason}"

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
        last = min(len(one.rounds), len(other.rounds)) - 1
        return one.failed or of_change(*self._exchanged(one.rounds[last], other.rounds[last]), self.images).low > 0

    def _exchanged(self, one: RoundResult, other: RoundResult) -> tuple[float, float]:
        """Return how many validation images only the one answers wrong, and how many only the other.

        Where two processes list the images in another order, as many as of independent answers.
        """
        if (counts := exchanged(one.answers, other.answers)) is not None:
            return counts
        mine, others = one.validation_error_percent / 100, other.validation_error_percent / 100
        return self.images * mine * (1 - others), self.images * others * (1 - mine)

    def _still_falls(self) -> str:
        """Return how the error fell with the last stretch of training, or nothing where it did not."""
        if len(self.chosen.rounds) < 2:
            return ""
        before, after = self.chosen.rounds[-2:]
        if of_change(*self._exchanged(after, before), self.images).high >= 0:
            return ""
        return (
            f"from {seconds_text(before.seconds)} to {seconds_text(after.seconds)} of training the validation error of"
            f" {self.chosen.costs.network} fell from {before.validation_error_percent:.1f} to"
            f" {after.validation_error_percent:.1f} %"
        )

    def _deeper_is_better(self) -> str:
        """Return by how much a deeper network was ahead after equally many epochs, or nothing where none was.

        What the chosen one had reached by then lies between two of its rounds, in proportion to log(epochs): as if
        each image were answered as in one of the two, drawn in that proportion.
        """
        for one in self.family:
            deeper = one.rounds[-1]
            around = (
                pair for pair in pairwise(self.chosen.rounds) if pair[0].epochs <= deeper.epochs <= pair[1].epochs
            )
            pair = next(around, None)
            if one.costs.depth <= self.chosen.costs.depth or one.failed or pair is None:
                continue
            share = math.log(deeper.epochs / pair[0].epochs) / math.log(pair[1].epochs / pair[0].epochs)
            both = zip(*(self._exchanged(deeper, each) for each in pair), strict=True)
            wrong, right = (sooner + share * (later - sooner) for sooner, later in both)
            if of_change(wrong, right, self.images).high < 0:
                error = deeper.validation_error_percent
                return (
                    f"after {deeper.epochs:.1f} epochs {one.costs.network} is at {error:.1f} %"
                    f" and {self.chosen.costs.network} at about {error + 100 * (right - wrong) / self.images:.1f} %:"
                    " more layers help where there is time for them"
                )
        return ""
