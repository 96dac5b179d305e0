"""Runs in numbers: one by itself, and several side by side. Counted or read, never measured."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from howdeep.analysis.evaluation import Answers, exchanged
from howdeep.networks import skeleton
from howdeep.networks.counting import describe_chain
from howdeep.networks.dense import DenseSpec
from howdeep.runs.folder import Run
from howdeep.show.figures.depth import DepthPoint
from howdeep.show.report.reading import Record, Subject
from howdeep.show.sentences import error_text
from howdeep.show.tables import Table
from howdeep.util.errors import UserError
from howdeep.util.intervals import Interval, of_change, of_difference, of_share
from howdeep.util.records import MALFORMED
from howdeep.util.text import NONE, listed, milliseconds, minus, seconds_text, short, whole

LAYERS_OF_A_UNIT = {"basic": 2, "bottleneck": 3}
FAMILIES = {"plain": "plain", "resnet": "residual"}
"""Families as the literature calls them; the others go by their own names."""


@dataclass(frozen=True)
class Error:
    """A share of wrong answers."""

    percent: float
    """In percent."""
    n: int | None
    """Images behind it; None where the run does not say."""
    split: str
    """``test`` or ``validation``; empty where another word says it."""
    answers: Answers | None = None
    """Image by image, where the record says so."""

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval in percent; None without a number of images."""
        return None if self.n is None else of_share(self.percent, self.n)

    @property
    def text(self) -> str:
        """The error with its interval, as a sentence says it."""
        return error_text(self.percent, self.n, self.split)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run in numbers; None for what is not known."""

    name: str
    """What it is called in the report."""
    family: str = ""
    """Plain, residual …, with stochastic depth told."""
    depth: int | None = None
    """Layers, as the literature counts them."""
    units: int | None = None
    """Units, which own a gate."""
    parameters: int | None = None
    """Trainable numbers."""
    macs: int | None = None
    """Multiply-adds per image."""
    error: Error | None = None
    """On the test split; else of validation, at the end of training."""
    latency_ms: float | None = None
    """Median of one image, where a record measured it."""
    seconds: float | None = None
    """Of training."""
    data: str = ""
    """What the data is called, and its shape."""


def summary_of(subject: Subject, beside: Sequence[Record] = ()) -> RunSummary:
    """Return what is known of a run.

    Args:
        subject: A run.
        beside: Records of other places that may have measured its latency, such as that of a fit.
    """
    run = subject.run
    assert run is not None, "records without a run have findings and no facts"
    depth, units, parameters, macs = _size(run)
    cut, rule = run.is_cut, (run.record.get("survival") or {}).get("schedule", "constant")
    family = str(run.record["network"].get("family") or "network of a library")
    wider = re.search(r"_w(\d+)$", run.network_name)
    family = (
        FAMILIES.get(family, family)
        + (f", width {wider[1]}" if wider else "")
        + ("" if rule == "constant" else " + stochastic depth")
    )
    return RunSummary(
        name=run.network_name + (f" cut to {units} units" if units and cut else ""),
        family=family + (", cut" if cut else ""),
        depth=depth,
        parameters=parameters,
        macs=macs,
        units=units or (subject.curves.units if subject.curves else None),
        error=error_of(subject),
        seconds=subject.seconds,
        data=data_text(run),
        latency_ms=next(_latencies(run, [*subject.records, *beside]), None),
    )


def error_of(subject: Subject) -> Error | None:
    """Return the test error of a run, by a record of all its images before any other; else that of validation."""
    records = [record for record in subject.records if record.kind == "evaluation" and record.origin.split == "test"]
    tests = [*([subject.test] if subject.test else []), *records]
    if tests:
        largest = max(tests, key=lambda record: record.value.n).value
        return Error(largest.error_percent, largest.n, "test", largest.answers)
    if subject.run is not None and subject.run.is_cut:
        # It was cut and not trained on: the record of its cut has tested it.
        cuts = [
            record.value.test for record in subject.records if record.kind == "cut" and record.value.test is not None
        ]
        if cuts:
            return Error(cuts[0].cut.error_percent, cuts[0].original.n, "test")
    last = subject.curves.epochs[-1].validation_error_percent if subject.curves else None
    return None if last is None else Error(last, None, "validation")


def data_text(run: Run) -> str:
    """Return what a run was trained on: name, pixels, classes."""
    data = run.record["data"]
    # The record of imported weights has the name of their file where others have that of the data.
    known = None if "imported" in run.record else data.get("name") or data.get("source")
    height, width, classes = data.get("height"), data.get("width"), data.get("classes")
    pixels = [f"{height}×{width} pixels"] if height and width else []
    return ", ".join([str(known or "unknown data"), *pixels, *([f"{len(classes):,} classes"] if classes else [])])


def _size(run: Run) -> tuple[int | None, int | None, int | None, int | None]:
    """Return layers, units, parameters and MACs, counted on the meta device; None where only its library knows."""
    data = run.record["data"]
    try:
        spec = run.spec
        image = (int(data["channels"]), int(data["height"]), int(data["width"]))
        chain = skeleton(spec).eval()
        counts = describe_chain(run.cut_out_of(chain), image, name=spec.name, family=spec.family)
    except (UserError, RuntimeError, *MALFORMED):
        return None, None, None, None
    if isinstance(spec, DenseSpec):
        depth = None if run.is_cut else spec.depth
    else:
        depth = spec.depth - LAYERS_OF_A_UNIT[spec.block] * (len(chain) - counts.units)
    return depth, counts.units, counts.parameters, counts.macs


def _latencies(run: Run, records: Sequence[Record]) -> Iterator[float]:
    """Yield every latency of this network that a record measured."""
    name, height = run.network_name, run.record["data"].get("height")
    for record in records:
        value = record.value
        if record.kind == "cut":
            size = value.choice.size if run.is_cut and value.choice else value.original
            yield size.latency.median_ms
        elif record.kind == "fit":
            latencies = {one.costs.network: one.costs.latency.median_ms for one in value.candidates}
            latencies[value.network] = value.latency.median_ms
            yield from [latencies[name]] if name in latencies else []
        elif record.kind == "export":
            yield from (row.original_ms for row in value.latency if row.batch == 1)
        elif record.kind == "cost":
            ladders = [ladder for ladder in value.ladders if ladder.size == height]
            depths = [one for ladder in ladders for one in ladder.depths if one.network == name and one.measured]
            yield from (one.measured.latency_ms for one in depths if one.measured.latency_ms is not None)


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
        return tuple(
            DepthPoint(row.family, row.depth or 0, _error(row).percent, *(_error(row).interval or (0.0, 100.0)))
            for row in known
            if by_place[row.family, row.depth] is row
        )


def compared(facts: Sequence[RunSummary]) -> Comparison | None:
    """Return the comparison of runs; None where there are fewer than two."""
    if len(facts) < 2:
        return None
    rows = tuple(sorted(facts, key=lambda row: (row.family, row.depth or 0, row.name)))
    tested = [row for row in rows if row.error is not None and row.error.split == "test"]
    if not tested:
        known = [row for row in rows if row.error is not None]
        said = "no error is known of any of them"
        if known:
            lowest = min(known, key=lambda row: _error(row).percent)
            said = f"the lowest validation error is that of {lowest.name}, {_error(lowest).percent:.1f} %"
        return Comparison(rows=rows, headline=f"{len(rows)} runs, none of them tested yet", finding=said)
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
    best, rows = comparison.best, []
    for row in comparison.rows:
        error, interval, above = NONE, NONE, NONE
        if row.error is not None:
            error = f"{row.error.percent:.1f} %" + (" (validation)" if row.error.split != "test" else "")
            interval = NONE if row.error.interval is None else "{:.1f}–{:.1f}".format(*row.error.interval)
            if best is not None and row is not best and row.error.split == "test":
                change = difference(row.error, _error(best))
                points = f"{row.error.percent - _error(best).percent:+.1f}"
                above = NONE if change is None else minus(f"{points} ({change.low:+.1f} to {change.high:+.1f})")
        cells = {
            "network": row.name,
            "layers": whole(row.depth),
            "units": whole(row.units),
            "parameters": short(row.parameters),
            "MACs": short(row.macs),
            "error": error,
            "95 % interval": interval,
            "above the best, 95 %": above,
            "latency": milliseconds(row.latency_ms),
            "training time": NONE if row.seconds is None else seconds_text(row.seconds),
        }
        rows.append(cells)
    heads = [head for head in rows[0] if head == "network" or any(cells[head] != NONE for cells in rows)]
    return Table(heads=heads, rows=[[cells[head] for head in heads] for cells in rows], text=(0,))


def told_apart(facts: Sequence[tuple[RunSummary, str]]) -> list[RunSummary]:
    """Return facts whose names are all different: those that share one carry the folder that stands with them."""
    names = [one.name for one, _ in facts]
    return [replace(one, name=f"{one.name} ({place})") if names.count(one.name) > 1 else one for one, place in facts]


def _finding(best: RunSummary, others: Sequence[RunSummary]) -> str:
    if not others:
        return "no other run was tested"
    paired = [exchanged(_error(row).answers, _error(best).answers) is not None for row in others]
    how = "image by image where both records say which were wrong" if any(paired) else "as if on different images"
    how = f"compared {'image by image' if all(paired) else how}"
    worse = [row for row in others if (change := difference(_error(row), _error(best))) and change.beyond_chance]
    alike = [row for row in others if row not in worse]
    if not alike:
        everyone = f"all {len(worse)} others" if len(worse) > 1 else worse[0].name
        return f"it is better than {everyone} by more than chance, {how}"
    chance = f"{_names(alike)} cannot be told from it on these {_error(best).n:,} images"
    cheaper = [row for row in alike if (row.macs or 0) < (best.macs or 0)]
    least = min(cheaper, key=lambda row: (row.macs or 0, _error(row).percent), default=None)
    hint = "" if least is None else f", of which {least.name} is the cheapest" if len(alike) > 1 else " and is cheaper"
    rest = f"; {_names(worse)} {'is' if len(worse) == 1 else 'are'} worse by more than chance" if worse else ""
    return f"{chance}{hint}{rest}; {how}"


def _names(rows: Sequence[RunSummary]) -> str:
    names = [row.name for row in rows]
    many = len(names) > NAMED
    return listed([*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"] if many else names)


def _error(row: RunSummary) -> Error:
    assert row.error is not None, "only runs with an error are compared"
    return row.error
