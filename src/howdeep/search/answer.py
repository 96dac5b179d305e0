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
    """Whether its training blew up."""


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
    chosen: Candidate, candidates: Sequence[Candidate], dropped: Sequence[Dropped], budgets: Budgets, images: int,
    side: int,
) -> Verdict:  # fmt: skip
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
    family = sorted(
        (one for one in candidates if one.costs.family == chosen.costs.family and one.rounds),
        key=lambda one: one.costs.depth,
    )
    depths = _alike(chosen, family, images)
    limit, finding = _limit(chosen, family, dropped, images)
    advice = _advice(limit, chosen, family, depths, dropped, budgets)
    smaller = f"; smaller images (--size {LARGE_SIDE}) train faster" if limit == "train" and side > LARGE_SIDE else ""
    return Verdict(depths, limit, finding, advice + smaller)


def _limit(
    chosen: Candidate, family: Sequence[Candidate], dropped: Sequence[Dropped], images: int
) -> tuple[str, str]:  # fmt: skip
    """Return what the limit is, and the evidence."""
    barrier = _barrier(chosen, dropped)
    if chosen is family[-1] and (len(family) == 1 or _gains(family, images)):
        if barrier is None:
            return "ladder", f"the deepest network that was tried, {chosen.costs.network}, did best"
        return barrier.budget, f"{chosen.costs.network} is the deepest that the budgets allow"
    if time := _still_falls(chosen, images) or _deeper_is_better(chosen, family, images):
        return "train", time
    last = chosen.rounds[-1]
    if _apart(last.train_error_percent, last.validation_error_percent, images) and (
        last.train_error_percent < last.validation_error_percent / 2
    ):
        return "data", (
            f"{chosen.costs.network} gets {last.train_error_percent:.1f} % of its training images wrong and"
            f" {last.validation_error_percent:.1f} % of others"
        )
    return "nothing", f"more time and more depth than {chosen.costs.network} has did not help"


def _advice(
    limit: str, chosen: Candidate, family: Sequence[Candidate], depths: tuple[int, int], dropped: Sequence[Dropped],
    budgets: Budgets,
) -> str:  # fmt: skip
    """Return one sentence of advice."""
    name, barrier = chosen.costs.network, _barrier(chosen, dropped)
    if limit == "train":
        others = "" if budgets.latency_seconds is None else f", not latency ({chosen.costs.latency.median_ms:.2g} ms)"
        next_one = f"; {barrier.network} needs {barrier.reason}" if barrier and barrier.budget == "train" else ""
        return f"training time limits you{others}: train {name} for longer, or on a faster machine{next_one}"
    if limit == "data":
        return "the data limits you, not depth: more images, or stronger augmentation, before more layers"
    if limit == "ladder":
        return f"go deeper: give --depths beyond {chosen.costs.depth}"
    if limit == "nothing":
        return _shallowest(name, family, depths)
    assert barrier is not None, "a budget is the limit where a network misses it"
    return f"{limit} limits you, not training time: {barrier.network} would be next, with {barrier.reason}"


def _shallowest(name: str, family: Sequence[Candidate], depths: tuple[int, int]) -> str:
    least = next(one for one in family if one.costs.depth == depths[0])
    if least.costs.network == name:
        return f"take {name}: deeper networks cost more and bring nothing that shows"
    return (
        f"take {name}, or {least.costs.network} where it must be cheap: {least.costs.latency.median_ms:.2g} ms,"
        " and the evidence cannot tell them apart"
    )


def _barrier(chosen: Candidate, dropped: Sequence[Dropped]) -> Dropped | None:
    """Return the next deeper network of the family that was left out."""
    deeper = [one for one in dropped if one.family == chosen.costs.family and one.depth > chosen.costs.depth]
    return min(deeper, key=lambda one: one.depth, default=None)


def _alike(chosen: Candidate, family: Sequence[Candidate], images: int) -> tuple[int, int]:
    """Return the ends of the run of depths around the chosen one that cannot be told from it."""
    at = family.index(chosen)
    low = high = at
    while low > 0 and not _worse(family[low - 1], chosen, images):
        low -= 1
    while high + 1 < len(family) and not _worse(family[high + 1], chosen, images):
        high += 1
    return family[low].costs.depth, family[high].costs.depth


def _worse(one: Candidate, chosen: Candidate, images: int) -> bool:
    """Return whether a network did worse than the chosen one, on the last round that both passed."""
    if one.failed:
        return True
    last = min(len(one.rounds), len(chosen.rounds)) - 1
    mine, best = (each.rounds[last].validation_error_percent for each in (one, chosen))
    return mine > best and _apart(mine, best, images)


def _gains(family: Sequence[Candidate], images: int) -> bool:
    """Return whether the deepest network did better than the one before, on the last round that both passed."""
    before, last = family[-2], family[-1]
    return before.failed or _worse(before, last, images)


def _still_falls(chosen: Candidate, images: int) -> str:
    """Return how the error fell with the last stretch of training, or nothing where it did not."""
    if len(chosen.rounds) < 2:
        return ""
    before, after = chosen.rounds[-2:]
    falls = after.validation_error_percent < before.validation_error_percent
    if not falls or not _apart(before.validation_error_percent, after.validation_error_percent, images):
        return ""
    return (
        f"from {seconds_text(before.seconds)} to {seconds_text(after.seconds)} of training the validation error of"
        f" {chosen.costs.network} fell from {before.validation_error_percent:.1f}"
        f" to {after.validation_error_percent:.1f} %"
    )


def _deeper_is_better(chosen: Candidate, family: Sequence[Candidate], images: int) -> str:
    """Return by how much a deeper network was ahead after equally many epochs, or nothing where none was."""
    for one in family:
        last, deeper = one.rounds[-1], one.costs.depth > chosen.costs.depth and not one.failed
        own = _error_at(last.epochs, chosen.rounds) if deeper else None
        ahead = own is not None and last.validation_error_percent < own
        if own is not None and ahead and _apart(last.validation_error_percent, own, images):
            return (
                f"after {last.epochs:.1f} epochs {one.costs.network} is at {last.validation_error_percent:.1f} %"
                f" and {chosen.costs.network} at about {own:.1f} %: more layers help where there is time for them"
            )
    return ""


def _error_at(epochs: float, rounds: Sequence[RoundResult]) -> float | None:
    """Return the error after some epochs, between two rounds in proportion to log(epochs); None outside of them."""
    for before, after in pairwise(rounds):
        if before.epochs <= epochs <= after.epochs:
            share = math.log(epochs / before.epochs) / math.log(after.epochs / before.epochs)
            return before.validation_error_percent + share * (
                after.validation_error_percent - before.validation_error_percent
            )
    return None


def _apart(one: float, other: float, images: int) -> bool:
    """Return whether two errors in percent differ by more than chance.

    As if they were counted on images of their own: of a round the counts are kept and not the answers. On the same
    images that is the more careful way.
    """
    return of_difference(one, images, other, images).beyond_chance
