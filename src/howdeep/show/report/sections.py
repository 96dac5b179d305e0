"""Charts as a page shows them: without the finding above them, which the page says itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt

from howdeep.analysis.evaluation import Evaluation
from howdeep.analysis.lesion import Lesion
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow
from howdeep.analysis.study import NOT_FOLDED
from howdeep.cutting.records import Cut
from howdeep.exporting.export import Export
from howdeep.search.degradation import Degradation
from howdeep.search.fit import Fit
from howdeep.show import figures
from howdeep.show.figures.base import Chart
from howdeep.show.report import tables
from howdeep.show.report.comparison import Comparison, comparison_table
from howdeep.show.report.findings import finding_of
from howdeep.show.report.reading import Cost, Record
from howdeep.show.report.tables import Table
from howdeep.show.report.words import sentence
from howdeep.training.log import Curves, curves_finding


def picture(chart: Chart) -> str:
    """Return a chart as an SVG element; of its title only what explains the marks stays."""
    return figures.svg(untitled(chart))


def untitled(chart: Chart) -> Chart:
    """Return a chart whose title is its subtitle, likewise for charts that stand below each other."""
    bare = chart.copy(deep=False)
    bare.title = _explanation(chart.title)
    if isinstance(chart, alt.VConcatChart):
        bare.vconcat = [untitled(part) if isinstance(part, Chart) else part for part in chart.vconcat]
    return bare


def _explanation(title):
    subtitle = getattr(title, "subtitle", alt.Undefined)
    if subtitle is alt.Undefined or not subtitle:
        return alt.Undefined
    return alt.Title(subtitle, fontSize=13, fontWeight="normal", anchor="start", offset=12, color="#444444")


CELLS = 2_500
"""Pairs of units that a chart shows at most: more cells than that are smaller than a pixel's worth of ink."""
LESIONS = {
    "delete": "Lesion: each unit taken out",
    "random": "Lesion: units taken out at random",
    "pairs": "Lesion: pairs of units taken out",
    "permute": "Lesion: units in another order",
    "duplicate": "Lesion: each unit run twice",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One piece of evidence."""

    heading: str
    """What it is about."""
    finding: str
    """What it says, in one sentence."""
    charts: tuple[str, ...] = ()
    """SVG elements."""
    tables: tuple[Table, ...] = ()
    """Behind folds."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    command: str | None = None
    """The command that made it."""
    small_print: str = ""
    """File, day, versions, device."""
    anchor: str = ""
    """Where the table of contents leads; given by the page."""


def section_of(record: Record) -> Section:
    """Return the section of a record, with where it comes from."""
    made, origin = SECTIONS[record.kind](record.value), record.origin
    measured = [origin.data, origin.split and f"{origin.split} split"]
    on = ", ".join(part for part in measured if part)
    return replace(
        made, finding=sentence(finding_of(record)), command=origin.command,
        small_print=" · ".join(part for part in (on, origin.small_print) if part),
    )  # fmt: skip


def training_section(found: Curves, command: str | None, small_print: str) -> Section:
    """Return the section of a training run."""
    return Section(
        heading="Training", finding=sentence(curves_finding(found)), charts=(picture(figures.curves(found)),),
        tables=(tables.curves_table(found),), command=command, small_print=small_print,
    )  # fmt: skip


def comparison_section(found: Comparison) -> Section:
    """Return the section that compares runs; the table stands open."""
    heads, rows = comparison_table(found)
    charts = ()
    if found.points:
        chart = figures.by_depth(found.points, "", "test error with 95 % intervals", "test error (%)")
        charts = (picture(chart),)
    shown = Table(summary="", heads=heads, rows=rows, text=1)
    lowest = "" if found.best is None else f"{found.best.name} has the lowest test error; "
    return Section(heading="Comparison", finding=sentence(lowest + found.finding), charts=charts, tables=(shown,))


def _lesion(found: Lesion) -> Section:
    # Of a matrix with more cells than that no chart is legible, and a page of a few megabytes would be ten times that.
    drawn = found.kind != "pairs" or len(found.trials) <= CELLS
    base = found.baseline
    many = () if drawn else (f"There is no chart of {len(found.trials):,} pairs: its cells would be too small.",)
    notes = (f"Intact: {base.error_percent:.2f} % error, n = {base.n:,}.", *many)
    return Section(
        heading=LESIONS.get(found.kind, "Lesion"), finding="", tables=(tables.lesion_table(found),), notes=notes,
        charts=(picture(figures.lesion(found)),) if drawn else (),
    )  # fmt: skip


def _paths(found: Paths) -> Section:
    charts = [picture(figures.paths(found))]
    if figures.can_unravel(found):
        charts.append(picture(figures.unravelled(found)))
    return Section(
        heading="Paths of the gradient", finding="", charts=tuple(charts), tables=(tables.paths_table(found),),
        notes=(f"Measured on {found.n:,} images.",),
    )  # fmt: skip


def _flow(found: Flow) -> Section:
    statistics = "of each mini-batch" if found.statistics == "batch" else "the running ones"
    return Section(
        heading="Signal and gradient through the depth", finding="", charts=(picture(figures.flow(found)),),
        tables=(tables.flow_table(found),),
        notes=(f"Measured on {found.n:,} images; statistics of norms: {statistics}.",),
    )  # fmt: skip


def _evaluation(found: Evaluation) -> Section:
    charts = [picture(figures.confusion(found))]
    if found.bins:
        charts.append(picture(figures.reliability(found)))
    return Section(
        heading="Evaluation", finding="", charts=tuple(charts),
        tables=(tables.class_table(found), tables.pairs_table(found)),
        notes=(f"Loss {found.loss:.4f}; calibration error {found.calibration_error_percent:.2f} %.",),
    )  # fmt: skip


def _cost(found: Cost) -> Section:
    charts = tuple(picture(figures.costs([ladder])) for ladder in found.ladders if len(ladder.rungs) > 1)
    shown = [*map(tables.cost_table, found.ladders), *map(tables.scaling_table, found.scaled)]
    measured = [rung for ladder in found.ladders for rung in ladder.rungs if rung.times is not None]
    notes = [f"{rung.network}: {note}" for rung in measured for note in rung.times.notes]  # type: ignore[union-attr]
    return Section(
        heading="Cost by depth", finding="", charts=charts, tables=tuple(shown), notes=tuple(map(sentence, notes))
    )


def _degradation(found: Degradation) -> Section:
    notes = tuple(sentence(f"{one.label}: {one.diagnosis.evidence}") for one in found.families)
    return Section(
        heading="Error against depth", finding="", charts=(picture(figures.degradation(found)),),
        tables=(tables.degradation_table(found),), notes=notes,
    )  # fmt: skip


def _fit(found: Fit) -> Section:
    shown = [tables.fit_table(found), *([tables.dropped_table(found)] if found.dropped else [])]
    return Section(
        heading="How deep: the search", finding="", charts=(picture(figures.fit(found)),), tables=tuple(shown),
        notes=tuple(map(sentence, (found.verdict.finding, found.verdict.advice, *_unfolded(found.notes)))),
    )  # fmt: skip


def _cut(found: Cut) -> Section:
    return Section(
        heading="Cut: a shallower network", finding="", charts=(picture(figures.frontier(found)),),
        tables=(tables.cut_table(found), tables.order_table(found)), notes=tuple(map(sentence, found.notes)),
    )  # fmt: skip


def _export(found: Export) -> Section:
    agreed = f"Scores within {found.agreement.difference:.1e} of the largest; {found.bytes:,} bytes, {found.runtime}."
    left = [f"{found.norms_left:,} norms could not be folded"] if found.norms_left else []
    notes = (agreed, *map(sentence, [*left, *_unfolded(found.notes)]))
    return Section(heading=f"Export to {found.format}", finding="", tables=(tables.export_table(found),), notes=notes)


def _unfolded(notes: Sequence[str]) -> list[str]:
    """Return those of a record's notes that say that its latency is not that of folded norms."""
    return [note for note in notes if note.startswith(NOT_FOLDED)]


SECTIONS: Mapping[str, Callable[[Any], Section]] = {
    "lesion": _lesion,
    "paths": _paths,
    "flow": _flow,
    "evaluation": _evaluation,
    "cost": _cost,
    "degradation": _degradation,
    "fit": _fit,
    "cut": _cut,
    "export": _export,
}
"""Kind → section."""
