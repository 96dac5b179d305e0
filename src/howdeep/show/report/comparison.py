"""Several runs side by side: which is best, and which differences are more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from howdeep.analysis.evaluation import exchanged
from howdeep.show.figures.depth import DepthPoint
from howdeep.show.report.summary import Error, RunSummary
from howdeep.show.tables import Table
from howdeep.util.intervals import Interval, of_change, of_difference
from howdeep.util.text import NONE, milliseconds, minus, seconds_text, short

NAMED = 4
"""Networks that a sentence names at most."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs that were tested on the same data, as far as they were."""

    rows: tuple[RunSummary, ...]
    """All runs, by family and depth."""
    headline: str
    """The best one and its error."""
    finding: str
    """Which others are as good, and which are not."""
    best: RunSummary | None = None
    """The one of lowest test error; None where errors are not compared."""

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
        known = [row for row in self.rows if row.depth is not None and row.error is not None and row.error.interval]
        by_place = {(row.family, row.depth): row for row in reversed(known)}  # of several, the first in the table
        if len({row.depth for row in by_place.values()}) < 2 or len({row.data for row in known}) > 1:
            return ()
        return tuple(_point(row) for row in known if by_place[row.family, row.depth] is row)


def compared(facts: Sequence[RunSummary]) -> Comparison | None:
    """Return the comparison of runs; None where there are fewer than two."""
    if len(facts) < 2:
        return None
    rows = tuple(sorted(facts, key=lambda row: (row.family, row.depth or 0, row.name)))
    tested = [row for row in rows if row.error is not None and row.error.split == "test"]
    if not tested:
        return Comparison(rows=rows, headline=f"{len(rows)} runs, none of them tested yet", finding=_untested(rows))
    if len(data := {row.data for row in tested}) > 1:
        said = f"they were tested on {len(data)} sets of data, so their errors are not compared"
        return Comparison(rows=rows, headline=f"{len(rows)} runs on different data", finding=said)
    best = min(tested, key=lambda row: (_error(row).percent, row.macs or 0))
    headline = f"Best of {len(rows)} runs: {best.name}, {_error(best).text}"
    said = _finding(best, [row for row in tested if row is not best])
    return Comparison(rows=rows, headline=headline, finding=said, best=best)


def difference(one: Error, other: Error) -> Interval | None:
    """Return the interval of one error minus another, in points; None where a number of images is not known.

    It is paired where both records say which of the same images were answered wrong.
    """
    if one.n is None or other.n is None:
        return None
    changed = exchanged(one.answers, other.answers)
    return of_difference(one.percent, one.n, other.percent, other.n) if changed is None else of_change(*changed, one.n)


def comparison_table(comparison: Comparison) -> Table:
    """Return the table of runs without the columns of which nothing is known."""
    heads = [
        "network",
        "layers",
        "units",
        "parameters",
        "MACs",
        "error",
        "95 % interval",
        "above the best, 95 %",
        "latency",
        "training time",
    ]
    best = comparison.best
    rows = [(row.name, *_size(row), *_interval(row.error), _above(row, best), *_times(row)) for row in comparison.rows]
    known = [place for place in range(len(heads)) if place == 0 or any(row[place] != NONE for row in rows)]
    return Table(
        heads=[heads[place] for place in known], rows=[[row[place] for place in known] for row in rows], text=(0,)
    )


def told_apart(facts: Sequence[RunSummary], places: Sequence[str]) -> list[RunSummary]:
    """Return facts whose names are all different: those that share one carry their folder."""
    names = [one.name for one in facts]
    return [
        replace(one, name=f"{one.name} ({place})") if names.count(one.name) > 1 else one
        for one, place in zip(facts, places, strict=True)
    ]


def _finding(best: RunSummary, others: Sequence[RunSummary]) -> str:
    worse = [row for row in others if (change := difference(_error(row), _error(best))) and change.beyond_chance]
    alike = [row for row in others if row not in worse]
    if not others:
        return "no other run was tested"
    if not alike:
        return f"it is better than {_all(worse)} by more than chance, compared {_how(best, others)}"
    chance = f"{_listed(alike)} cannot be told from it on these {_error(best).n:,} images"
    cheaper = [row for row in alike if (row.macs or 0) < (best.macs or 0)]
    least = min(cheaper, key=lambda row: (row.macs or 0, _error(row).percent), default=None)
    hint = "" if least is None else f", of which {least.name} is the cheapest" if len(alike) > 1 else " and is cheaper"
    rest = f"; {_listed(worse)} {'is' if len(worse) == 1 else 'are'} worse by more than chance" if worse else ""
    return f"{chance}{hint}{rest}; compared {_how(best, others)}"


def _how(best: RunSummary, others: Sequence[RunSummary]) -> str:
    """Return whether runs were compared by their answers to the same images."""
    paired = [exchanged(_error(row).answers, _error(best).answers) is not None for row in others]
    if all(paired):
        return "image by image"
    return "image by image where both records say which were wrong" if any(paired) else "as if on different images"


def _all(rows: Sequence[RunSummary]) -> str:
    return f"all {len(rows)} others" if len(rows) > 1 else rows[0].name


def _listed(rows: Sequence[RunSummary]) -> str:
    names = [row.name for row in rows]
    if len(names) > NAMED:
        return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _untested(rows: Sequence[RunSummary]) -> str:
    known = [row for row in rows if row.error is not None]
    if not known:
        return "no error is known of any of them"
    best = min(known, key=lambda row: _error(row).percent)
    return f"the lowest validation error is that of {best.name}, {_error(best).percent:.1f} %"


def _error(row: RunSummary) -> Error:
    assert row.error is not None, "only runs with an error are compared"
    return row.error


def _point(row: RunSummary) -> DepthPoint:
    low, high = _error(row).interval or (0.0, 100.0)
    return DepthPoint(row.family, row.depth or 0, _error(row).percent, low, high)


def _size(row: RunSummary) -> tuple[str, ...]:
    counts = (NONE if count is None else f"{count:,}" for count in (row.depth, row.units))
    return (*counts, short(row.parameters), short(row.macs))


def _interval(error: Error | None) -> tuple[str, str]:
    if error is None:
        return NONE, NONE
    told = f"{error.percent:.1f} %" + (" (validation)" if error.split != "test" else "")
    return told, NONE if error.interval is None else "{:.1f}–{:.1f}".format(*error.interval)


def _above(row: RunSummary, best: RunSummary | None) -> str:
    """Return how many points a run is above the best one, with the interval."""
    if best is None or row is best or row.error is None or row.error.split != "test":
        return NONE
    change = difference(row.error, _error(best))
    points = f"{row.error.percent - _error(best).percent:+.1f}"
    return NONE if change is None else minus(f"{points} ({change.low:+.1f} to {change.high:+.1f})")


def _times(row: RunSummary) -> tuple[str, str]:
    return milliseconds(row.latency_ms), NONE if row.seconds is None else seconds_text(row.seconds)
