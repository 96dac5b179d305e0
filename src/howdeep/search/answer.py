"""What a search has found: networks that the evidence cannot tell apart, what the limit is, what comes next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from howdeep.analysis.evaluation import exchanged
from howdeep.search.candidates import CandidateCosts, Dropped
from howdeep.search.families import LARGE_SIDE
from howdeep.search.options import Budgets
from howdeep.search.study import SEARCH_SHARE, RoundResult
from howdeep.util.intervals import of_change, of_difference, of_share
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
    """How it did on the rounds that it passed; the end of the chosen one's training is not among them."""
    failed: bool
    """Whether its training diverged."""


@dataclass(frozen=True)
class Verdict:
    """Why not larger, why not smaller."""

    alike: tuple[str, ...]
    """Networks that had as much time as the chosen one in the last round, and that the evidence cannot tell from it:
    the 95 % interval of the paired difference of their errors holds zero, one training each."""
    limit: str
    """``train``, ``latency``, ``parameters`` or ``memory``: the budget that kept larger ones out, or with which the
    error still falls; ``data``: the network knows its training images; ``ladder``: larger networks were not asked for;
    ``nothing``: neither size nor twice the time showed more than chance; ``unknown``: the evidence does not say."""
    finding: str
    """The evidence, in one sentence."""
    advice: str
    """What to do, in one sentence."""
    onward: str
    """Where three times the time would go, in one sentence."""


MORE_TIME = 3
"""How many times the budget is thought of that comes next."""
TWICE = 2.0
"""A training says whether time helps only beside one of at least so many times its length."""
WORTH_POINTS, WORTH_SHARE = 0.5, 0.1
"""A gain that is worth a word: points of error, and the share of the error."""


def verdict(
    chosen: Candidate,
    final: RoundResult,
    candidates: Sequence[Candidate],
    dropped: Sequence[Dropped],
    budgets: Budgets,
    images: int,
    side: int,
) -> Verdict:
    """Return what the rounds say.

    In this order: where nothing larger than the chosen network took part and it did best, what kept larger ones out is
    the limit; else time is, where its error fell from its last round to its end, or a network that costs more did
    better after equally many epochs; else the data is, where it knows its training images twice as well as others; else
    nothing is, where twice the time brought nothing worth a word and no larger network was left without a clear
    difference; else nobody can say.

    Args:
        chosen: The chosen network.
        final: The end of its training.
        candidates: All networks that took part, the chosen one among them.
        dropped: Those that did not, and why.
        budgets: What was allowed.
        images: Validation images, from which the intervals come.
        side: Of the images, in pixels.
    """
    others = [one for one in candidates if one is not chosen and (one.rounds or one.failed)]
    evidence = _Evidence(chosen, final, sorted(others, key=_cost), dropped, budgets, images)
    limit, finding = evidence.limit()
    smaller = f"; smaller images (--size {LARGE_SIDE}) train faster" if limit == "train" and side > LARGE_SIDE else ""
    alike = tuple(one.costs.network for one in evidence.alike)
    return Verdict(alike, limit, finding, evidence.advice(limit) + smaller, evidence.onward())


def _cost(one: Candidate) -> float:
    return one.costs.seconds_per_step


@dataclass(frozen=True)
class _Evidence:
    """The chosen network among the others, cheap first, and those that were left out."""

    chosen: Candidate
    final: RoundResult
    others: Sequence[Candidate]
    dropped: Sequence[Dropped]
    budgets: Budgets
    images: int

    @property
    def name(self) -> str:
        return self.chosen.costs.network

    @property
    def rivals(self) -> list[Candidate]:
        """Those that had the same time on the last round of the chosen one."""
        return [one for one in self.others if len(one.rounds) >= len(self._search_rounds) > 0]

    @property
    def alike(self) -> list[Candidate]:
        return [one for one in self.rivals if not self._worse(one)]

    @property
    def larger(self) -> list[Candidate]:
        """Those of the family that took part and are deeper, wider or both, and neither shallower nor narrower."""
        return [one for one in self.others if self._contains(one.costs)]

    @property
    def barrier(self) -> Dropped | None:
        """The next deeper or next wider network, which missed a budget."""
        return next((one for one in self._next(self.dropped) if one.budget), None)

    @cached_property
    def _search_rounds(self) -> Sequence[RoundResult]:
        """The rounds of the chosen network in which others took part."""
        longest = max((len(one.rounds) for one in self.others), default=0)
        return self.chosen.rounds[:longest]

    def limit(self) -> tuple[str, str]:
        """Return what the limit is, and the evidence."""
        untried = any(not one.budget for one in self._next(self.dropped))
        if not self.larger and not untried and all(self._worse(one) for one in self.rivals):
            best = "is the only network that was tried"
            if self.others:
                best = "did best, and nothing larger was tried"
            if self.barrier is not None:
                return self.barrier.budget, f"{self.name} {best}: larger ones miss the {self.barrier.budget} budget"
            return "ladder", f"{self.name} {best}"
        if time := self._fell() or self._larger_is_better():
            return "train", time
        training, validation = self.final.train_error_percent, self.final.validation_error_percent
        if training < validation / 2 and of_difference(training, self.images, validation, self.images).beyond_chance:
            return "data", (
                f"{self.name} gets {training:.1f} % of its training images wrong and {validation:.1f} % of others"
            )
        if open_questions := self._open_questions():
            return "unknown", f"cannot say whether more time or size helps: {'; '.join(open_questions)}"
        shown = f"on {self.images:,} validation images neither {self._times:.2g} times the time nor more size than"
        return "nothing", f"{shown} {self.name} has shows more than chance"

    def advice(self, limit: str) -> str:
        """Return one sentence of advice."""
        barrier, latency = self.barrier, self.chosen.costs.latency.median_ms
        cheap = next((one.costs for one in self.alike if _cost(one) < _cost(self.chosen)), None)
        cheaper = (
            "" if cheap is None else f", or {cheap.network} where it must be cheap ({cheap.latency.median_ms:.2g} ms)"
        )
        if limit == "train":
            others = "" if self.budgets.latency_seconds is None else f", not latency ({latency:.2g} ms)"
            more = f"; {barrier.network} needs {barrier.reason}" if barrier and barrier.budget == "train" else ""
            return f"training time limits you{others}: train {self.name} for longer, or on a faster machine{more}"
        if limit == "data":
            return (
                "the data limits you, not size: more images, or stronger augmentation, before more layers or channels"
            )
        if limit == "ladder":
            costs = self.chosen.costs
            return f"go on: give --depths beyond {costs.depth}, or --widths beyond {costs.width}"
        if limit == "unknown":
            settle = " and ".join(dict.fromkeys(self._open_questions().values()))
            return f"take {self.name}{cheaper}; {settle} would settle it"
        if limit == "nothing":
            larger = "" if cheap else ": larger networks cost more and bring nothing that shows"
            return f"take {self.name}{cheaper}{larger}"
        assert barrier is not None, "a budget is the limit where a network misses it"
        return f"{limit} limits you: {barrier.network} would be next, with {barrier.reason}"

    def onward(self) -> str:
        """Return which networks three times the time would bring in: the next deeper, the next wider."""
        costs, seconds = self.chosen.costs, MORE_TIME * self.budgets.train_seconds
        undecided = [one.costs for one in self.larger if not one.failed and not self._worse(one)]
        enough = [one for one in self.dropped if one.needed and one.needed <= (1 - SEARCH_SHARE) * seconds]
        inside = [one for one in enough if one.budget in ("train", "")]
        deeper, wider = self._nearest([*undecided, *inside])
        named = [f"{what} ({one.network})" for what, one in (("deeper", deeper), ("wider", wider)) if one is not None]
        where = " or ".join(named) or f"{costs.network} for {MORE_TIME} times as many epochs"
        return f"with {seconds_text(seconds)}: {where}"

    def _nearest(
        self, networks: Sequence[CandidateCosts | Dropped]
    ) -> tuple[CandidateCosts | Dropped | None, CandidateCosts | Dropped | None]:
        """Return the next deeper network of the same width, and the next wider one of the same depth."""
        costs = self.chosen.costs
        family = [one for one in networks if one.family == costs.family]
        deeper = [one for one in family if one.width == costs.width and one.depth > costs.depth]
        wider = [one for one in family if one.depth == costs.depth and one.width > costs.width]
        depths, widths = sorted(deeper, key=lambda one: one.depth), sorted(wider, key=lambda one: one.width)
        return next(iter(depths), None), next(iter(widths), None)

    def _next(self, dropped: Sequence[Dropped]) -> list[Dropped]:
        return [one for one in self._nearest(dropped) if isinstance(one, Dropped)]

    def _contains(self, one: CandidateCosts) -> bool:
        """Return whether a network is the chosen one with more layers, more channels or both."""
        costs = self.chosen.costs
        return one.family == costs.family and one.depth >= costs.depth and one.width >= costs.width

    def _worse(self, one: Candidate) -> bool:
        """Return whether a network did worse than the chosen one, on the last round that both passed."""
        last = min(len(one.rounds), len(self.chosen.rounds)) - 1
        if one.failed or last < 0:
            return one.failed
        return of_change(*self._exchanged(one.rounds[last], self.chosen.rounds[last]), self.images).low > 0

    def _exchanged(self, one: RoundResult, other: RoundResult) -> tuple[float, float]:
        """Return how many validation images only the one answers wrong, and how many only the other.

        Where two processes list the images in another order, as many as of independent answers.
        """
        if (counts := exchanged(one.answers, other.answers)) is not None:
            return counts
        mine, others = one.validation_error_percent / 100, other.validation_error_percent / 100
        return self.images * mine * (1 - others), self.images * others * (1 - mine)

    @property
    def _times(self) -> float:
        """How many times as long its last training was as the one before."""
        return self.final.seconds / self.chosen.rounds[-1].seconds if self.chosen.rounds else 1.0

    def _fell(self) -> str:
        """Return how the error fell from the last round to the end, or nothing where it did not, or has no way to go.

        Where it goes on falling as a power of the time, three times the time must show on these images.
        """
        if not self.chosen.rounds:
            return ""
        before, after = self.chosen.rounds[-1], self.final
        fell = of_change(*self._exchanged(after, before), self.images).high < 0
        if not fell or not after.validation_error_percent:
            return ""
        ratio = after.validation_error_percent / before.validation_error_percent
        power = math.log(ratio) / math.log(max(self._times, TWICE))
        gained = after.validation_error_percent * (1 - MORE_TIME**power)
        if of_change(0.0, gained / 100 * self.images, self.images).high >= 0:
            return ""
        return (
            f"from {seconds_text(before.seconds)} to {seconds_text(after.seconds)} of training the validation error of"
            f" {self.name} fell from {before.validation_error_percent:.1f} to"
            f" {after.validation_error_percent:.1f} %"
        )

    def _open_questions(self) -> dict[str, str]:
        """Return why nobody can say whether more time or size helps, and what would settle it."""
        more_time = f"--train-budget of {seconds_text(MORE_TIME * self.budgets.train_seconds)}"
        questions: dict[str, str] = {}
        if self._times < TWICE:
            questions["no training of it was twice as long as another"] = more_time
        else:
            error = self.final.validation_error_percent
            change = of_change(*self._exchanged(self.final, self.chosen.rounds[-1]), self.images)
            gain = min(-change.low, of_share(error, self.images).high)
            if gain > max(WORTH_POINTS, WORTH_SHARE * error):
                open_gain = f"{self.images:,} validation images leave a gain of {gain:.1f} points open"
                questions[open_gain] = "more validation images"
        alike = self.alike
        if not self.larger:
            questions["nothing larger took part"] = more_time
        undecided = [one for one in self.larger if one not in alike and not self._worse(one)]
        if undecided:
            after = seconds_text(undecided[0].rounds[-1].seconds)
            what = f"{undecided[0].costs.network} was left after {after} without a clear difference"
            questions[what] = more_time
        return questions

    def _larger_is_better(self) -> str:
        """Return by how much a network that costs more was ahead after equally many epochs, or nothing.

        What the chosen one had reached by then lies between two of its rounds, in proportion to log(epochs): as if
        each image were answered as in one of the two, drawn in that proportion.
        """
        for one in self.others:
            if _cost(one) <= _cost(self.chosen) or one.failed:
                continue
            ahead = one.rounds[-1]
            pairs = (pair for pair in pairwise(self.chosen.rounds) if pair[0].epochs <= ahead.epochs <= pair[1].epochs)
            if (pair := next(pairs, None)) is None:
                continue
            share = math.log(ahead.epochs / pair[0].epochs) / math.log(pair[1].epochs / pair[0].epochs)
            both = zip(*(self._exchanged(ahead, each) for each in pair), strict=True)
            wrong, right = (sooner + share * (later - sooner) for sooner, later in both)
            if of_change(wrong, right, self.images).high < 0:
                error = ahead.validation_error_percent
                return (
                    f"after {ahead.epochs:.1f} epochs {one.costs.network} is at {error:.1f} %"
                    f" and {self.name} at about {error + 100 * (right - wrong) / self.images:.1f} %:"
                    " more layers or channels help where there is time for them"
                )
        return ""
