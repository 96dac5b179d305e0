"""Units are taken out of a trained network: by number, until it holds a budget, or until none is left that can go."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, Literal

from rich.console import Console

from howdeep.analysis.effects import BaselineBatch, Effect
from howdeep.chain import Chain, Concatenate
from howdeep.cutting.first import cut_to_first, or_gaps
from howdeep.cutting.frontier import WAYS, Frontier, errors_of, networks_tried
from howdeep.cutting.images import Images, images_of
from howdeep.cutting.options import CutBudget, listed, refuse_both
from howdeep.cutting.records import Cut, Point, Removal, Size
from howdeep.data.loaders import Loader
from howdeep.deploying.latency import Written, latencies, written
from howdeep.runs.resume import Journal
from howdeep.runtime.deployment import HERE, Deployment
from howdeep.runtime.modes import evaluating
from howdeep.transform.norms import batch_norms
from howdeep.transform.removal import narrows
from howdeep.util.errors import UserError
from howdeep.util.progress import ProgressBar
from howdeep.util.records import from_json, to_json
from howdeep.util.text import Report, counted

PATIENCE = 3
"""Cuts in a row that cost too much before no more are tried."""
ALL_SHOWN, FEW_SHOWN = 20, 4
"""Cut networks that are measured at most: of a whole frontier, and on the way to a budget."""


def cut(
    chain: Chain,
    loader: Loader | Images,
    *,
    latency: str | None = None,
    units: int | None = None,
    macs: str | None = None,
    error_increase: float | None = None,
    remove: Sequence[int] = (),
    first: Literal["auto"] | int | None = None,
    train: Loader | None = None,
    budget: CutBudget | None = None,
    where: Deployment = HERE,
    precision: str = "fp32",
    journal: Journal | None = None,
    console: Console | None = None,
    progress: Report = lambda _: None,
) -> Cut:
    """Take units out of a trained network, by number or until it holds a budget.

    Its batch norm is recalibrated, or the units behind each gap are refitted (see
    :mod:`howdeep.transform.refitting`), and that is kept where it is better on the calibration images, for each cut
    network anew (see :func:`howdeep.cutting.frontier.is_better`).

    Args:
        chain: The network, own or unravelled; it stays as it is.
        loader: Labelled images (see :mod:`howdeep.data.loaders`), for calibration, errors and repair. They are
            read once and held, as networks are compared image by image.
        latency: Time for one image, such as ``2ms``, on the host of the cut network.
        units: So many units stay.
        macs: Multiply-adds per image, such as ``50%`` of the network's or ``20M``.
        error_increase: Points of error above the network's; alone, as many units go as that allows.
        remove: Numbers, from 1, of the units to take out, whatever that costs; not with a budget.
        first: How many of the first units stay, under a new classifier (see :mod:`howdeep.cutting.first`); labels may
            then be classes that the network does not have. With ``auto`` a probe says how many; within a budget of
            time or MACs, units in between go instead where that has fewer errors.
        train: Labelled images that this classifier is fitted to; the others choose how strongly its weights decay.
        budget: The four as a record, in place of them. Neither budget, ``remove`` nor ``first`` measures the whole
            frontier.
        where: Where passes are timed: what runs them, threads, images at a time.
        precision: In which units are chosen: ``fp32``, ``bf16`` or ``auto``.
        journal: Where finished steps are kept.
        console: Where progress is shown if it is a terminal; None is standard error.
        progress: Receives what is being done, in a few words, many times; a KeyboardInterrupt that it raises stops.

    Returns:
        What was found, with the cut network as its ``chain``; of a whole frontier, the network as it is.

    Raises:
        UserError: No unit can go, or not one of those to remove; the network holds the budget as it is, or no cut
            does: the smallest possible value is named.
    """
    budget = budget or CutBudget.of(latency, units, macs, error_increase)
    refuse_both(budget, remove, first)
    if first is not None:
        images = loader if isinstance(loader, Images) else images_of(chain, loader, same_classes=False)
        begun = cut_to_first(chain, images, first, train, budget, where=where, console=console, progress=progress)
        within = partial(cut, loader=images, budget=budget, where=where, precision=precision)
        return or_gaps(begun, budget, partial(within, journal=journal, console=console, progress=progress))
    if train is not None:
        raise UserError("train is not allowed without first: no classifier is fitted")
    named = named_units(chain, remove)
    require_fewer(chain, budget.units)
    removable = sum(unit.merge.removable for unit in chain.units)
    if not removable:
        raise UserError(f"no unit of this network can be taken out: it has {len(chain)} units")
    out = removable if budget.units is None else min(removable, len(chain) - int(budget.units))
    with evaluating(chain):
        images = loader if isinstance(loader, Images) else images_of(chain, loader)
        # As the frontier counts it, at most.
        total = None if named else networks_tried(removable, out) * len(images.calibration)
        with ProgressBar(console or Console(stderr=True), total=total, counted=False) as bar:

            def report(line: str, done: float = 0) -> None:
                bar.show(line, more=done)
                progress(line)

            chosen = partial(report, "choosing units")
            frontier = Frontier(chain, images, journal or Journal(), precision=precision, advance=chosen)
            report("measuring the network")
            result = _Search(frontier, budget, named, frontier.answers(), where, report).result()
            if not result.chosen:
                return replace(result, chain=chain)
            assert result.choice is not None
            report("making the cut network")
            return replace(result, chain=frontier.made(result.choice.kept, result.order[: result.chosen]))


def require_fewer(chain: Chain, units: int | None) -> None:
    """Refuse a number of units that stay where a network has no more.

    Raises:
        UserError: As many stay as there are.
    """
    if units is not None and units >= len(chain):
        has = f"it has {counted(len(chain), 'unit')}, and at most {len(chain) - 1} can stay"
        raise UserError(f"units {units} is not allowed: {has}")


def named_units(chain: Chain, remove: Sequence[int]) -> list[Removal]:
    """Return the units of these numbers, from 1, by rising number.

    Raises:
        UserError: A number is there twice, there is no such unit, or it changes the shape and has no shortcut.
    """
    repeated = [number for number, times in Counter(remove).items() if times > 1]
    if repeated:
        raise UserError(f"remove {listed(remove)} is not allowed: unit {repeated[0]} is named twice")
    removable = [index for index, unit in enumerate(chain.units, 1) if unit.merge.removable]
    for number in remove:
        if not 1 <= number <= len(chain):
            raise UserError(f"remove {number} is not allowed: the network has {len(chain)} units, numbered from 1")
        if number not in removable:
            raise UserError(
                f"remove {number} is not allowed: {chain.names[number - 1]} changes the shape and has no shortcut;"
                f" units that can go: {listed(removable) or 'none'}"
            )
    return [Removal(index=number, name=chain.names[number - 1], distance=None) for number in sorted(remove)]


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """How many units go, and what was measured on the way."""

    out: int | None
    """Units that go; None for the whole frontier."""
    looked: int
    """Units of the order that were looked for."""
    shown: tuple[int, ...]
    """How many units are out of each cut that is shown."""
    sizes: tuple[Size, ...]
    """What the network costs, and then each of these cuts."""


@dataclass(frozen=True)
class _Search:
    """How a budget is met, or what named units cost."""

    frontier: Frontier
    budget: CutBudget
    named: Sequence[Removal]
    before: list[BaselineBatch]
    where: Deployment
    report: Report

    def result(self) -> Cut:
        """Return the order, what was chosen, and the points on the way."""
        frontier, images = self.frontier, self.frontier.images
        choice = from_json(_Choice, frontier.journal.result("choice", lambda: to_json(self._choice())))
        order = list(islice(self._removals(), choice.looked))
        shown = zip(choice.shown, choice.sizes[1:], strict=True)
        points = [Point(out=out, size=size, **self._effects(order, out)) for out, size in shown]
        limit, chosen = self.budget.error_increase, next((one for one in points if one.out == choice.out), None)
        if limit is not None and chosen is not None and chosen.best.change > limit:
            raise UserError(
                f"the budgets contradict each other: the smaller network has {chosen.out} units out, which costs"
                f" {chosen.best.change:.2f} points of error; error-increase {limit:g} is less"
            )
        return Cut(
            budget=self.budget,
            original=choice.sizes[0],
            baseline=errors_of(self.before),
            order=tuple(order),
            points=tuple(points),
            chosen=choice.out,
            threads=self.where.threads,
            notes=(*_notes(frontier.chain), *frontier.whole.notes),
            calibration_images=sum(len(batch.labels) for batch in images.calibration),
            statistics_images=sum(len(batch.labels) for batch in images.statistics),
            refitting_images=frontier.refitting_images,
        )

    def _removals(self) -> Iterator[Removal]:
        return iter(self.named) if self.named else self.frontier.removals()

    def _choice(self) -> _Choice:
        if count := len(self.named):
            return _Choice(out=count, looked=count, shown=(count,), sizes=self._sizes([], self.named))
        order: list[Removal] = []
        removals = self._removals()
        if self.budget.sized:
            return self._within_size(order, removals)
        out = self._within_error(order, removals) if self.budget.given else None
        order.extend(removals if out is None else ())
        shown = _spread(out or len(order), ALL_SHOWN)
        sizes = self._sizes([], *(order[:out] for out in shown))
        return _Choice(out=out, looked=len(order), shown=shown, sizes=sizes)

    def _within_size(self, order: list[Removal], removals: Iterator[Removal]) -> _Choice:
        """Take out unit after unit until the budget holds, and holds again when the shown cuts are timed by turns."""
        chain = self.frontier.chain
        indices = [index for index, unit in enumerate(chain.units, 1) if unit.merge.removable]
        removable = [Removal(index=index, name="", distance=None) for index in indices]
        original, smallest = self._sizes([], removable)
        if excess := self.budget.excess(smallest, original):
            fewer = "first K, or first auto, ends it earlier under a new classifier"
            raise UserError(f"no cut of this network holds {excess} is the smallest possible value; {fewer}")
        if self.budget.excess(original, original) is None:
            raise UserError("the network holds this budget as it is: there is nothing to take out")
        for removal in removals:
            order.append(removal)
            if len(chain) - len(order) > (self.budget.units or math.inf):
                continue
            if self.budget.excess(self._sizes(order)[0], original) is None:
                shown = _spread(len(order), FEW_SHOWN)
                sizes = self._sizes([], *(order[:out] for out in shown))
                # Timed anew, a larger one may hold it too.
                holding = [
                    out for out, size in zip(shown, sizes[1:], strict=True) if not self.budget.excess(size, sizes[0])
                ]
                if holding:
                    return _Choice(out=holding[0], looked=len(order), shown=shown, sizes=sizes)
        fastest = f"{smallest.latency.median_ms:.3g} ms"
        raise UserError(f"no cut held the budget both times that it was timed; the smallest takes {fastest}")

    def _within_error(self, order: list[Removal], removals: Iterator[Removal]) -> int:
        """Take out unit after unit until several cuts in a row cost too much; return the most that may go."""
        best, least, limit = 0, math.inf, self.budget.error_increase
        assert limit is not None
        for removal in removals:
            order.append(removal)
            effects = self._effects(order, len(order))
            change = effects[effects["kept"]].change
            least = min(least, change)
            if change <= limit:
                best = len(order)
            elif len(order) - best >= PATIENCE:
                break
        if not best:
            raise UserError(
                f"no cut of this network holds error-increase {limit:g}: the smallest is {least:.2f} points"
            )
        return best

    def _sizes(self, *cuts: Sequence[Removal]) -> tuple[Size, ...]:
        """Return what the network costs without these units, timed by turns; without none it is the network itself."""
        chains = [self.frontier.cut(removals) if removals else self.frontier.chain for removals in cuts]
        one = self.frontier.images.calibration[0].images[:1]
        self.report(f"timing {len(chains)} networks by turns" if len(chains) > 1 else "timing the cut network")
        folded = [self._whole if chain is self.frontier.chain else self.frontier.folded(chain) for chain in chains]
        times = latencies(folded, one, self.where)
        return tuple(Size.of(chain, one, timing) for chain, timing in zip(chains, times, strict=True))

    @cached_property
    def _whole(self) -> Written:
        """The network itself, which is timed again beside every few cuts."""
        one = self.frontier.images.calibration[0].images[:1]
        return written(self.frontier.folded(self.frontier.chain), one, self.where.runtime)

    def _effects(self, order: Sequence[Removal], out: int) -> dict[str, Any]:
        """Return what a cut gets wrong, as it is and repaired in every way, and which of these networks is kept."""
        frontier, order = self.frontier, order[:out]

        def measured() -> dict[str, Any]:
            self.report(f"measuring the network with {out} of {len(frontier.chain)} units out")
            effects, kept = frontier.effects((partial(frontier.made, way, order) for way in WAYS), self.before)
            named = zip(WAYS, effects, strict=True)
            return {**{way: to_json(effect) for way, effect in named}, "kept": WAYS[kept]}

        effects = frontier.journal.result(f"errors with {out} out", measured)
        return {**effects, **{name: from_json(Effect, effects[name]) for name in WAYS}}


def _spread(count: int, most: int) -> tuple[int, ...]:
    """Return at most so many of 1 … count, evenly spread, the last among them."""
    most = min(count, most)
    return tuple(sorted({round(count * part / most) for part in range(1, most + 1)}))


def _notes(chain: Chain) -> tuple[str, ...]:
    """Return what a reader should know of a cut network."""
    notes = []
    dense = any(isinstance(unit.merge, Concatenate) for unit in chain.units)
    if dense and not narrows(chain):
        notes.append(
            "the feature maps of dense units are zeros here, not left out: their parts are not of known layers"
        )
    if always := batch_norms(chain):
        notes.append(f"{always} norms have no running statistics: answers depend on the other images of a batch")
    return tuple(notes)
