"""Lesion studies: what happens to a trained network's answers when units are taken out, swapped or run twice.

Veit, Wilber and Belongie 2016 (arXiv 1605.06431), section 4; the original's verbs: delete, permute, duplicate.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import torch
from torch import Tensor

from howdeep.analysis.effects import Baseline, Effect, baseline_batch, baseline_of, counts, effect_of, per_class
from howdeep.analysis.options import LesionOptions
from howdeep.analysis.routes import Route, baseline, follow, places, without
from howdeep.chain import Chain, Unit, run
from howdeep.data.loaders import Loader, batches_of
from howdeep.runs.resume import Journal
from howdeep.runtime.modes import evaluating
from howdeep.runtime.parts import parts_of
from howdeep.util.errors import UserError
from howdeep.util.intervals import Interval
from howdeep.util.records import Shown
from howdeep.util.seeds import derive
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

    @property
    def interval(self) -> Interval | None:
        """Of the change; None where there is none."""
        if self.change_low is None or self.change_high is None:
            return None
        return Interval(self.change_low, self.change_high)


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
    loader: Loader,
    options: LesionOptions | None = None,
    *,
    autocast: torch.autocast | None = None,
    journal: Journal | None = None,
    report: Report = lambda line: None,
) -> Lesion:
    """Change a network in many ways and count what it then gets wrong.

    Shared work is done once: everything before the first changed unit, and whatever several changes have in common.

    Args:
        chain: The network; its mode is put back afterwards.
        loader: Labelled images (see :mod:`howdeep.data.loaders`).
        options: What is changed; None takes out each unit alone.
        autocast: The precision; None is that of the weights.
        journal: Where progress is shown and kept.
        report: Receives one line about the size of the work.

    Raises:
        UserError: Nothing can be changed, k is larger than the units, the network's logits are not finite, or the
            loader yields something else.
    """
    batches = batches_of(chain, loader)
    if not len(batches):
        raise UserError("there are no images to measure on")
    options, first = options or LesionOptions(), batches[0]
    with evaluating(chain):
        changes = changes_of(chain, first.images, options)
        routes = [baseline(chain), *(change.route for change in changes)]
        report(_size(chain, first.images, len(routes)))
        autocast = autocast or torch.autocast("cpu", enabled=False)

        def block(number: int) -> dict:
            """Return the raw counts of one batch: of the baseline network, and of every change."""
            batch = batches[number] if number else first
            with torch.inference_mode(), autocast:
                logits = [one.float() for one in follow(chain, batch.images, routes)]
                before, classes = baseline_batch(logits[0], batch.labels), logits[0].shape[1]
                return {
                    "wrong": per_class(batch.labels[before.wrong], classes),
                    "totals": per_class(batch.labels, classes),
                    "effects": [counts(before, one, classes) for one in logits[1:]],
                }

        results = (journal or Journal()).blocks("lesions", len(batches), block)
    whole = baseline_of(_sum([one["wrong"] for one in results]), _sum([one["totals"] for one in results]))
    sums = [_sum(list(of_change)) for of_change in zip(*(one["effects"] for one in results), strict=True)]
    effects = [(change, effect_of(one, whole.n)) for change, one in zip(changes, sums, strict=True)]
    kind, seed = options.kind, options.seed
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
        maps = chain.stem(parts_of(chain, images)[0])
    held = math.ceil(math.log2(routes)) + 1
    size = bytes_text(held * maps.numel() * maps.element_size())
    return f"{routes - 1:,} changes of {len(chain)} units; shared maps take at most {held} × the stem's: {size}"


@dataclass(frozen=True)
class Change:
    """One change of a network, and the route that carries it out."""

    route: Route
    """The way of the images."""
    units: tuple[int, ...]
    """The units that are out, or run twice, counted from 1; for swaps, the new order of all units."""
    k: int
    """How many units are out, or how many swaps were made."""
    draw: int
    """Number of the draw, from 0."""


def changes_of(chain: Chain, images: Tensor, options: LesionOptions) -> list[Change]:
    """Return what a study changes.

    Raises:
        UserError: k is larger than the units, no two units have equal shapes, or nothing can be changed.
    """
    able, at, route = removable(chain), places(chain), baseline(chain)

    def out(units: Sequence[int], draw: int = 0) -> Change:
        left = without(route, [at[unit] for unit in units])
        return Change(left, tuple(unit + 1 for unit in units), len(units), draw)

    def stream(*parts: int | str) -> random.Random:
        return random.Random(derive(options.seed, "lesion", options.kind, *parts))

    draws = [(k, draw) for k in range(1, options.max_k + 1) for draw in range(options.draws)]
    if options.kind == "delete":
        changes = [out([unit]) for unit in able]
    elif options.kind == "random":
        if options.max_k > len(able):
            raise UserError(f"k {options.max_k} is not allowed: {len(able)} of {len(chain)} units can be taken out")
        changes = [out(sorted(stream(k, draw).sample(able, k)), draw) for k, draw in draws]
    elif options.kind == "pairs":
        pairs = list(combinations(able, 2))
        if options.sample is not None and options.sample < len(pairs):
            pairs = sorted(stream().sample(pairs, options.sample))
        changes = [out(pair) for pair in pairs]
    elif options.kind == "permute":
        swaps = [pair for group in alike(chain, images) for pair in combinations(group, 2)]
        if not swaps:
            raise UserError("no two units of this network have equal shapes, so that none can change places")
        changes = [_swapped(route, at, stream(k, draw).choices(swaps, k=k), draw) for k, draw in draws]
    else:
        twice = sorted(unit for group in alike(chain, images) for unit in group)
        changes = [Change((*route[: at[i] + 1], *route[at[i] :]), (i + 1,), 1, 0) for i in twice]
    if not changes:
        raise UserError(
            f"no unit of this network can be changed in this way ({options.kind}): it has {len(chain)} units"
        )
    return changes


def _swapped(route: Route, at: Sequence[int], swaps: Sequence[tuple[int, int]], draw: int) -> Change:
    """Return the change in which pairs of units change places, one after the other; links stay where they are."""
    order = list(range(len(at)))
    for first, second in swaps:
        order[first], order[second] = order[second], order[first]
    moved = {at[position]: route[at[unit]] for position, unit in enumerate(order)}
    swapped = tuple(moved.get(place, step) for place, step in enumerate(route))
    return Change(swapped, tuple(unit + 1 for unit in order), len(swaps), draw)


def removable(chain: Chain) -> list[int]:
    """Return the units that can be taken out, counted from 0."""
    return [index for index, unit in enumerate(chain.units) if unit.merge.removable]


@torch.inference_mode()
def alike(chain: Chain, images: Tensor) -> list[list[int]]:
    """Return the units whose output has the shape of their input, those of one shape together."""
    x, groups, index = chain.stem(images[:1]), {}, 0
    for module, gate in chain.steps():
        y = run([(module, gate)], x)
        if isinstance(module, Unit):
            if y.shape == x.shape:
                groups.setdefault(tuple(x.shape), []).append(index)
            index += 1
        x = y
    return list(groups.values())


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
