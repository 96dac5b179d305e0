"""Several runs side by side: how deep is enough, by what the images and the seeds can tell.

Seeds of one network are one group. The best group has the lowest error; every other one is compared with it, and of
those that are not significantly worse, by an interval that leaves no great difference open, the cheapest is enough. A
cut is compared with its parent alone, as its record does, image by image.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from howdeep.analysis.evaluation import exchanged
from howdeep.cutting.records import Cut
from howdeep.show.figures.depth import DepthPoint
from howdeep.show.report.summary import Error, RunSummary
from howdeep.show.sentences import cut_text
from howdeep.show.tables import CHOSEN, Table
from howdeep.util.intervals import (
    NORMAL_95,
    OPEN,
    SIGNIFICANT,
    Interval,
    chance_of,
    chance_of_paired,
    of_change,
    of_difference,
    of_mean,
    of_several,
    of_share,
)
from howdeep.util.text import NONE, counted, listed, milliseconds, minus, plural, seconds_text, short, whole

NAMED = 4
"""Networks that a sentence names at most."""
MEANS = 3
"""Seeds from which on their mean has an interval: of two, Student's is thirteen times as wide as they are apart."""


@dataclass(frozen=True)
class Group:
    """Seeds of one network, tested on the same data; mostly one."""

    runs: tuple[RunSummary, ...]
    """At least one, each with an error."""
    label: str = ""
    """What a sentence calls it: by its layers where no other group has as many."""

    @property
    def one(self) -> RunSummary:
        """What all of them are."""
        return self.runs[0]

    @property
    def errors(self) -> tuple[Error, ...]:
        """Of each seed."""
        return tuple(run.error for run in self.runs if run.error is not None)

    @property
    def percent(self) -> float:
        """Mean error."""
        return statistics.fmean(error.percent for error in self.errors)

    @property
    def n(self) -> int:
        """Images: those of every seed, or of the one with the fewest."""
        return min(error.n or 0 for error in self.errors)

    @property
    def macs(self) -> float:
        """Multiply-adds; what is not known is not cheap."""
        return math.inf if self.one.macs is None else self.one.macs

    @property
    def interval(self) -> Interval:
        """95 %: by its images; or, where that is wider, by three seeds or more, and the range of two."""
        percents = [error.percent for error in self.errors]
        images = of_share(self.percent, self.n)
        seeds = of_mean(percents) if len(percents) >= MEANS else Interval(min(percents), max(percents))
        return Interval(max(0.0, min(images.low, seeds.low)), min(100.0, max(images.high, seeds.high)))

    @property
    def text(self) -> str:
        """Its error with the interval."""
        return f"{self.percent:.1f} % ({self.interval.low:.1f}–{self.interval.high:.1f})"

    @property
    def many(self) -> bool:
        """Whether a sentence that begins with its label is about several things: layers."""
        return self.label[:1].isdigit()


@dataclass(frozen=True)
class Difference:
    """A group against the best one."""

    points: float
    """Its error minus that of the best."""
    interval: Interval
    """95 %, of this one difference."""
    chance: float
    """How likely that or more is by chance, all comparisons of the page considered (Holm)."""
    paired: bool
    """Whether it is image by image."""

    @property
    def worse(self) -> bool:
        """Whether it is significantly worse."""
        return self.points > 0 and self.chance < SIGNIFICANT

    @property
    def alike(self) -> bool:
        """Whether it is not, and what the images and the seeds leave open is little."""
        return not self.worse and self.interval.high <= OPEN

    @property
    def unsettled(self) -> bool:
        """Whether it is neither: images or seeds are too few."""
        return not self.worse and not self.alike


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs that were tested on the same data, as far as they were."""

    rows: tuple[RunSummary, ...]
    """All runs, by family and depth."""
    headline: str
    """How deep is enough, or why that cannot be said."""
    finding: str
    """How many of the others are as good, in one short sentence."""
    details: tuple[str, ...] = ()
    """Which ones are and which are not, and how that was compared."""
    cuts: tuple[str, ...] = ()
    """Each cut against its parent."""
    groups: tuple[Group, ...] = ()
    """Those that are compared, in the order of the rows."""
    differences: tuple[Difference | None, ...] = ()
    """Of each group; None for the best one."""
    best: Group | None = None
    """Of the lowest error; None where errors are not compared."""
    enough: Group | None = None
    """The cheapest that is as good as the best one; None where training was too short for a verdict, or cheaper ones
    may be as good and images or seeds are too few to say so."""

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """How many runs, of how many layers, on what."""
        depths = sorted({row.depth for row in self.rows if row.depth is not None})
        layers = [("layers", f"{depths[0]:,} to {depths[-1]:,}" if len(depths) > 1 else f"{depths[0]:,}")]
        seconds = sum(row.seconds or 0.0 for row in self.rows)
        data = list(dict.fromkeys(row.data for row in self.rows if row.data))
        return (
            ("runs", f"{len(self.rows):,}"),
            *(layers if depths else []),
            *([("training time, all", seconds_text(seconds))] if seconds else []),
            ("data", "; ".join(data[:2]) + (" …" if len(data) > 2 else "")),
        )

    @property
    def points(self) -> tuple[DepthPoint, ...]:
        """Errors with intervals against depth; empty where there are not two depths to compare."""
        known = [group for group in self.groups if group.one.depth is not None]
        by_place = {(group.one.family, group.one.depth): group for group in reversed(known)}  # the first in the table
        if len({depth for _, depth in by_place}) < 2:
            return ()
        return tuple(
            DepthPoint(
                group.one.family,
                group.one.depth or 0,
                group.percent,
                *group.interval,
                runs=tuple(error.percent for error in group.errors) if len(group.errors) > 1 else (),
                enough=group is self.enough,
            )
            for group in known
            if by_place[group.one.family, group.one.depth] is group
        )


def compared(facts: Sequence[RunSummary]) -> Comparison | None:
    """Return the comparison of runs; None where there are fewer than two."""
    if len(facts) < 2:
        return None
    rows = tuple(sorted(facts, key=lambda row: (row.family, row.depth or 0, row.name)))
    tested = [row for row in rows if row.error is not None and row.error.split == "test" and row.error.n]
    if not tested:
        known = [(row.error.percent, row.name) for row in rows if row.error is not None]
        said = "no error is known of any of them"
        if known:
            lowest, name = min(known)
            said = f"the lowest validation error is that of {name}, {lowest:.1f} %"
        return Comparison(rows=rows, headline=f"{len(rows)} runs, none of them tested yet", finding=said)
    if len(data := {row.data for row in tested}) > 1:
        said = f"they were tested on {len(data)} sets of data, so their errors are not compared"
        return Comparison(rows=rows, headline=f"{len(rows)} runs on different data", finding=said)
    cuts = [(row.name, row.cut) for row in tested if row.cut is not None and row.cut.test is not None]
    effects = [cut.test.cut for _, cut in cuts if cut.test is not None]
    own = [chance_of_paired(one.interval) for one in effects]
    groups = _grouped([row for row in tested if row.cut is None or row.cut.test is None])
    if not groups:
        chances, headline = of_several(own), f"{counted(len(cuts), 'cut')}, each compared with its parent"
        worse = [_dear(cut, chance) for (_, cut), chance in zip(cuts, chances, strict=True)]
        said = f"{_share(worse, 'cut')} significantly worse than the whole network"
        return Comparison(rows=rows, headline=headline, finding=said, cuts=_of_cuts(cuts, chances))
    best = min(groups, key=lambda group: (group.percent, group.macs))
    alone = [None if group is best else difference(group, best) for group in groups]
    chances = iter(of_several([*(one.chance for one in alone if one is not None), *own]))
    differences = tuple(one and Difference(one.points, one.interval, next(chances), one.paired) for one in alone)
    as_good = [group for group, one in zip(groups, differences, strict=True) if one is None or one.alike]
    enough = min(as_good, key=lambda group: (group.macs, group.percent))
    pairs = zip(groups, differences, strict=True)
    cheaper = [(group, one) for group, one in pairs if one is not None and group.macs < best.macs]
    if best.one.learned_little or (enough is best and any(one.unsettled for _, one in cheaper)):
        enough = None
    finding, details = _finding(best, enough, groups, differences)
    details = (*details, *_little(groups), *_how(differences, len(cuts)))
    return Comparison(
        rows=rows,
        headline=_headline(best, enough, groups, cheaper),
        finding=finding,
        details=details,
        cuts=_of_cuts(cuts, list(chances)),
        groups=groups,
        differences=differences,
        best=best,
        enough=enough,
    )


def _grouped(rows: Sequence[RunSummary]) -> tuple[Group, ...]:
    """Return the seeds of each network together, each group with a label that no other has."""
    groups: dict[tuple, list[RunSummary]] = {}
    for row in rows:
        key = (row.network, row.family, row.trained) if row.trained else (row.name, id(row))
        groups.setdefault(key, []).append(row)
    found = [Group(tuple(runs)) for runs in groups.values()]
    families = {group.one.family for group in found}
    layers = [
        ""
        if group.one.depth is None
        else f"{group.one.depth:,} layers" + f" ({group.one.family})" * (len(families) > 1)
        for group in found
    ]
    names = [
        group.one.name if len(group.runs) == 1 else f"{group.one.network}, {len(group.runs)} seeds" for group in found
    ]
    return tuple(
        Group(group.runs, layer if layer and layers.count(layer) == 1 else name)
        for group, layer, name in zip(found, layers, names, strict=True)
    )


def difference(one: Group, other: Group) -> Difference:
    """Return a difference of the errors of two groups, as if it were the only one.

    It is paired where all records say which of the same images were answered wrong. Of several seeds it is the mean
    over the pairs of them that saw the same images, as wide as that of one pair, and wider by what the means over the
    seeds may be off.
    """
    points = one.percent - other.percent
    pairs = {
        (here, there): pair
        for here, first in enumerate(one.errors)
        for there, second in enumerate(other.errors)
        if (pair := exchanged(first.answers, second.answers)) is not None
    }
    paired = all(_evenly([pair[side] for pair in pairs], len(group.runs)) for side, group in enumerate((one, other)))
    if paired:
        worse, better = (statistics.fmean(pair[side] for pair in pairs.values()) for side in (0, 1))
        interval = of_change(worse, better, one.n)
    else:
        interval = of_difference(one.percent, one.n, other.percent, other.n)
    of_seeds = NORMAL_95 * math.hypot(*(_off(group) for group in (one, other)))
    low = points - math.hypot(points - interval.low, of_seeds)
    high = points + math.hypot(interval.high - points, of_seeds)
    interval = Interval(max(-100.0, low), min(100.0, high))
    return Difference(points, interval, chance_of(points, interval), paired)


def _evenly(seeds: Sequence[int], count: int) -> bool:
    """Return whether each of so many seeds is in some pairs, and in as many: then their mean is that of the seeds."""
    pairs = Counter(seeds)
    return len(pairs) == count and len(set(pairs.values())) == 1


def _off(group: Group) -> float:
    """Return the standard error of a mean over seeds; of one seed it is not known."""
    percents = [error.percent for error in group.errors]
    return statistics.stdev(percents) / math.sqrt(len(percents)) if len(percents) > 1 else 0.0


def _headline(
    best: Group, enough: Group | None, groups: Sequence[Group], cheaper: Sequence[tuple[Group, Difference]]
) -> str:
    images, error = f"on {best.n:,} images", f"{best.percent:.1f} % test error (95 %: {_ends(best)})"
    if best.one.learned_little:
        return f"No verdict: the best of them has learned little; {best.label}: {error} {images}"
    if len(groups) == 1:
        seeds = f", mean of {len(best.runs)} seeds," if len(best.runs) > 1 else ""
        return f"{best.one.name if len(best.runs) == 1 else best.one.network}: {error}{seeds} {images}"
    if enough is None:
        group, one = min((pair for pair in cheaper if pair[1].unsettled), key=lambda pair: pair[0].macs)
        said = f"{group.label}, {group.text}, {'are' if group.many else 'is'} enough"
        reach = f"up to {one.interval.high:.0f} points worse, or none"
        return f"{best.label}: {error}; whether {said} is not settled {images}: {reach}"
    first = f"{enough.label} {'are' if enough.many else 'is'} enough here"
    if enough is not best:
        better = f"{best.label}, {best.text}, {'are' if best.many else 'is'} not significantly better {images}"
        return f"{first}: {enough.percent:.1f} % test error (95 %: {_ends(enough)}); {better}"
    if cheaper:
        need = f"{best.label} {'are' if best.many else 'is'} worth it here"
        return f"{need}: {error}, significantly better than every cheaper network {images}"
    return f"{first}: {error}, the lowest of all and the cheapest {images}"


def _ends(group: Group) -> str:
    return f"{group.interval.low:.1f}–{group.interval.high:.1f}"


def _finding(
    best: Group, enough: Group | None, groups: Sequence[Group], differences: Sequence[Difference | None]
) -> tuple[str, tuple[str, ...]]:
    """Return how many groups are worse than the best one, and which are, and which are not."""
    others = [(group, one) for group, one in zip(groups, differences, strict=True) if one is not None]
    if not others:
        return f"only {best.one.name} was tested", ()
    worse = [group.label for group, one in others if one.worse]
    alike = [group.label for group, one in others if one.alike and group is not enough]
    unclear = [group.label for group, one in others if one.unsettled]
    said = f"{_share([one.worse for _, one in others], 'other network')} significantly worse than {best.label}"
    named = (
        ("not significantly worse", alike),
        (f"not settled, more than {OPEN:.0f} points are open", unclear),
        ("significantly worse", worse),
    )
    return said, tuple(f"{what}: {_names(names)}" for what, names in named if names)


def _share(worse: Sequence[bool], what: str) -> str:
    """Return how many of some things are something, up to the verb."""
    if len(worse) == 1:
        return f"the {what} is" + " not" * (not worse[0])
    if all(worse):
        return f"both {plural(what)} are" if len(worse) == 2 else f"all {counted(len(worse), what)} are"
    return f"{sum(worse) or 'none'} of {counted(len(worse), what)} {'are' if sum(worse) > 1 else 'is'}"


def _how(differences: Sequence[Difference | None], cuts: int) -> tuple[str, ...]:
    """Return how the best one was compared with the others."""
    paired = [one.paired for one in differences if one is not None]
    if not paired:
        return ()
    mixed = "image by image where both records say which were wrong" if any(paired) else "as if on different images"
    total = len(paired) + cuts
    holm = f", {total} comparisons corrected (Holm)" if total > 1 else ""
    return (f"compared with the best {'image by image' if all(paired) else mixed}{holm}",)


def _of_cuts(cuts: Sequence[tuple[str, Cut]], chances: Sequence[float]) -> tuple[str, ...]:
    """Return each cut against its parent."""
    return tuple(
        f"{name}, against its parent: {cut_text(cut)}{', significantly worse' * _dear(cut, chance)}"
        for (name, cut), chance in zip(cuts, chances, strict=True)
    )


def _dear(cut: Cut, chance: float) -> bool:
    """Return whether a cut is significantly worse than its parent."""
    return chance < SIGNIFICANT and cut.test is not None and cut.test.cut.change > 0


def _little(groups: Sequence[Group]) -> tuple[str, ...]:
    """Return which networks learned so little that their depth says nothing."""
    names = [group.label for group in groups if any(run.learned_little for run in group.runs)]
    if not names:
        return ()
    last = "more than half of what guessing gets wrong: undertrained, or training fails"
    return (f"{_names(names)} {'have' if len(names) > 1 or names[0][:1].isdigit() else 'has'} learned little ({last})",)


def comparison_table(comparison: Comparison) -> Table:
    """Return the table of runs without the columns of which nothing is known; what is enough is marked."""
    of_run = {id(run): at for at, group in enumerate(comparison.groups) for run in group.runs}
    rows = []
    for row in comparison.rows:
        error, interval, above, remark, mark = NONE, NONE, NONE, [], ""
        group = comparison.groups[of_run[id(row)]] if id(row) in of_run else None
        if row.error is not None:
            error = f"{row.error.percent:.1f} %" + (" (validation)" if row.error.split != "test" else "")
            interval = NONE if row.error.interval is None else "{:.1f}–{:.1f}".format(*row.error.interval)
        if group is not None:
            one = comparison.differences[of_run[id(row)]]
            if one is not None and row is group.one:  # of seeds, beside the first
                points = f"{one.points:+.1f} ({one.interval.low:+.1f} to {one.interval.high:+.1f})"
                above = minus(points)
                remark += ["significantly worse"] * one.worse
            remark += ["best"] * (group is comparison.best) + ["enough"] * (group is comparison.enough)
            mark = f"{CHOSEN} " * (group is comparison.enough)
        remark += ["learned little"] * row.learned_little
        if row.cut is not None and row.cut.test is not None:
            effect = row.cut.test.cut
            points = minus(f"{effect.change:+.1f} ({effect.change_low:+.1f} to {effect.change_high:+.1f})")
            remark.append(f"{points} to its parent")
        cells = {
            "network": mark + row.name,
            "layers": whole(row.depth),
            "units": whole(row.units),
            "parameters": short(row.parameters),
            "MACs": short(row.macs),
            "error": error,
            "95 % interval": interval,
            "above the best, 95 %": above,
            "latency": milliseconds(row.latency_ms),
            "training time": NONE if row.seconds is None else seconds_text(row.seconds),
            "": ", ".join(remark) or NONE,
        }
        rows.append(cells)
    heads = [head for head in rows[0] if head == "network" or any(cells[head] != NONE for cells in rows)]
    return Table(heads=heads, rows=[[cells[head] for head in heads] for cells in rows], text=(0,))


def _names(names: Sequence[str]) -> str:
    many = len(names) > NAMED
    return listed([*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"] if many else names)
