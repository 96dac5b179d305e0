"""Lesion studies: what happens to a trained network's answers when units are taken out, swapped or run twice.

Veit, Wilber and Belongie 2016 (arXiv 1605.06431), section 4; the original's verbs: delete, permute, duplicate.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import torch
from torch import Tensor

from howdeep.analysis import changes as plans
from howdeep.analysis.changes import Change, Kind, baseline, follow
from howdeep.analysis.effects import Baseline, Effect, baseline_batch, baseline_of, counts, effect_of, per_class
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.runs.resume import Journal
from howdeep.util.errors import UserError, unknown
from howdeep.util.records import Shown
from howdeep.util.text import Report, bytes_text


@dataclass(frozen=True, kw_only=True)
class UnitEffect:
    """What happens without one unit, or with that unit run twice."""

    index: int
    """Number of the unit, from 1."""
    name: str
    """What it is called."""
    removable: bool
    """Whether this was possible; the rest is None where it was not."""
    error_percent: float | None = None
    standard_error: float | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    wrong: tuple[int, ...] | None = None
    score_change: float | None = None
    not_finite: int | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of units taken out, or one new order."""

    k: int
    """Units taken out, or swaps made."""
    draw: int
    """Number of the draw, from 0."""
    units: tuple[int, ...]
    """The units that are out, from 1; or all units in their new order."""
    kendall_tau: float | None
    """Kendall's τ of a new order, 1 for the old one; None where nothing was swapped."""
    effect: Effect
    """What it did."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All draws of one k."""

    k: int
    """Units taken out, or swaps made."""
    draws: int
    """How many."""
    error_percent: float
    """Mean over the draws."""
    standard_error: float | None
    """Of that mean, from the spread between draws; None with one draw."""


@dataclass(frozen=True, kw_only=True)
class Lesion(Shown):
    """A lesion study."""

    kind: str
    """``delete``, ``random``, ``pairs``, ``permute`` or ``duplicate``."""
    baseline: Baseline
    """The network as it is."""
    units: tuple[UnitEffect, ...] = ()
    """One per unit, for ``delete`` and ``duplicate``."""
    trials: tuple[Trial, ...] = ()
    """One per set or order, for the others."""
    by_k: tuple[Summary, ...] = ()
    """The trials by k, for ``random`` and ``permute``."""
    seed: int = 0
    """Seed of the draws."""


def lesion(
    chain: Chain,
    batches: Sequence[Batch],
    *,
    kind: Kind = "delete",
    max_k: int = 10,
    draws: int = 10,
    sample: int | None = None,
    seed: int = 0,
    autocast: torch.autocast | None = None,
    journal: Journal | None = None,
    report: Report = lambda line: None,
) -> Lesion:
    """Change a network in many ways and count what it then gets wrong.

    Shared work is done once: everything before the first changed unit, and whatever several changes have in common.

    Args:
        chain: The network, in evaluation mode.
        batches: Images and labels.
        kind: What is changed.
        max_k: For ``random`` and ``permute``: the most units taken out, or swaps.
        draws: For the same: draws of every k.
        sample: For ``pairs``: how many; None is all of them.
        seed: Seed of the draws.
        autocast: The precision; None is that of the weights.
        journal: Where progress is shown and kept.
        report: Receives one line about the size of the work.

    Raises:
        UserError: Nothing can be changed, k is larger than the units, or the network's logits are not finite.
    """
    if not len(batches):
        raise UserError("there are no images to measure on")
    first = batches[0]
    changes = changes_of(chain, first.images, kind=kind, max_k=max_k, draws=draws, sample=sample, seed=seed)
    routes = [baseline(chain), *(change.route for change in changes)]
    report(_size(chain, first.images, len(routes)))
    autocast = autocast or torch.autocast("cpu", enabled=False)

    def block(number: int) -> dict:
        """Return the raw counts of one batch: of the baseline network, and of every change."""
        batch = batches[number] if number else first
        with torch.inference_mode(), autocast:
            logits = {number: one.float() for number, one in follow(chain, batch.images, routes)}
            before, classes = baseline_batch(logits[0], batch.labels), logits[0].shape[1]
            return {
                "wrong": per_class(batch.labels[before.wrong], classes),
                "totals": per_class(batch.labels, classes),
                "effects": [counts(before, logits[number], classes) for number in range(1, len(routes))],
            }

    results = (journal or Journal()).blocks("lesions", len(batches), block)
    whole = baseline_of(_sum([one["wrong"] for one in results]), _sum([one["totals"] for one in results]))
    sums = [_sum(list(of_change)) for of_change in zip(*(one["effects"] for one in results), strict=True)]
    effects = [(change, effect_of(one, whole.n)) for change, one in zip(changes, sums, strict=True)]
    if kind in ("delete", "duplicate"):
        by_unit = {change.units[0]: asdict(effect) for change, effect in effects}
        units = tuple(
            UnitEffect(index=index, name=name, removable=index in by_unit, **by_unit.get(index, {}))
            for index, name in enumerate(chain.names, 1)
        )
        return Lesion(kind=kind, baseline=whole, units=units, seed=seed)
    trials = tuple(
        Trial(
            k=change.k,
            draw=change.draw,
            units=change.units,
            kendall_tau=kendall_tau(change.units) if kind == "permute" else None,
            effect=effect,
        )
        for change, effect in effects
    )
    return Lesion(kind=kind, baseline=whole, trials=trials, by_k=() if kind == "pairs" else _by_k(trials), seed=seed)


def _size(chain: Chain, images: Tensor, routes: int) -> str:
    """Return how much there is to do, and what the shared maps take at most (see :func:`routes.follow`)."""
    with torch.inference_mode():
        maps = chain.stem(images)
    held = math.ceil(math.log2(routes)) + 1
    size = bytes_text(held * maps.numel() * maps.element_size())
    return f"{routes - 1:,} changes of {len(chain)} units; shared maps take at most {held} × the stem's: {size}"


def changes_of(
    chain: Chain, images: Tensor, *, kind: str, max_k: int, draws: int, sample: int | None, seed: int
) -> list[Change]:
    """Return what a study changes.

    Raises:
        UserError: The kind is unknown, a number is out of range, or nothing can be changed.
    """
    for name, value in (("max-k", max_k), ("draws", draws), ("sample", sample)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} is not allowed: it must be at least 1")
    kinds = {
        "delete": lambda: plans.delete(chain),
        "random": lambda: plans.delete_random(chain, max_k=max_k, draws=draws, seed=seed),
        "pairs": lambda: plans.delete_pairs(chain, sample=sample, seed=seed),
        "permute": lambda: plans.permute(chain, images, max_k=max_k, draws=draws, seed=seed),
        "duplicate": lambda: plans.duplicate(chain, images),
    }
    if kind not in kinds:
        raise unknown("kind", kind, get_args(Kind))
    changes = kinds[kind]()
    if not changes:
        raise UserError(f"no unit of this network can be changed in this way ({kind}): it has {len(chain)} units")
    return changes


def _sum(rows: list[list]) -> list:
    """Return the sums of the columns; exact for counts, correctly rounded for the rest."""
    return [math.fsum(column) if isinstance(column[0], float) else sum(column) for column in zip(*rows, strict=True)]


def kendall_tau(order: Sequence[int]) -> float:
    """Return Kendall's τ between an order and 1, 2, 3, …: 1 for the same, −1 for the reverse."""
    from scipy.stats import kendalltau

    tau, _ = kendalltau(range(len(order)), order)
    return float(tau)  # type: ignore[arg-type]


def _by_k(trials: Sequence[Trial]) -> tuple[Summary, ...]:
    summaries = []
    for k in sorted({trial.k for trial in trials}):
        errors = [trial.effect.error_percent for trial in trials if trial.k == k]
        deviation = statistics.stdev(errors) / math.sqrt(len(errors)) if len(errors) > 1 else None
        mean = statistics.fmean(errors)
        summaries.append(Summary(k=k, draws=len(errors), error_percent=mean, standard_error=deviation))
    return tuple(summaries)
