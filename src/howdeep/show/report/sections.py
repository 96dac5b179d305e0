"""One section per record: heading, finding, charts without the finding above them, notes, tables behind folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from howdeep.analysis.evaluation import Evaluation
from howdeep.analysis.lesion import Lesion
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow
from howdeep.analysis.study import NOT_FOLDED
from howdeep.costs.cost import CostRecord
from howdeep.cutting.records import Cut
from howdeep.exporting.export import Export
from howdeep.search.degradation import Degradation
from howdeep.search.fit import Fit
from howdeep.show import figures
from howdeep.show.figures.base import Chart
from howdeep.show.report.comparison import Comparison, comparison_table
from howdeep.show.report.reading import Origin, Record
from howdeep.show.sentences import test_finding
from howdeep.show.tables import Table
from howdeep.training.log import Curves
from howdeep.util.text import sentence

CELLS = 2_500
"""Pairs of units that a chart shows at most: more cells than that are smaller than a pixel's worth of ink."""
HEADINGS = {
    "paths": "Paths of the gradient",
    "flow": "Signal and gradient through the depth",
    "evaluation": "Evaluation",
    "cost": "Cost by depth",
    "degradation": "Error against depth",
    "fit": "How deep: the search",
    "cut": "Cut: a shallower network",
    "export": "Export",
    "lesion": "Lesion",
}
"""Kind → heading."""
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


def section_of(record: Record) -> Section:
    """Return the section of a record, with where it comes from."""
    value, origin = record.value, record.origin
    heading = HEADINGS[record.kind]
    if record.kind == "lesion":
        heading = LESIONS.get(value.kind, heading)
    elif record.kind == "export":
        heading = f"Export to {value.format}"
    measured_on = ", ".join(part for part in (origin.data, origin.split and f"{origin.split} split") if part)
    return Section(
        heading=heading,
        finding=sentence(value.finding),
        charts=tuple(map(picture, _charts(value))),
        tables=tuple(value.table(wide=True).folds()),
        notes=tuple(map(sentence, _notes(value))),
        command=origin.command,
        small_print=" · ".join(part for part in (measured_on, origin.small_print) if part),
    )


def training_section(curves: Curves, origin: Origin) -> Section:
    """Return the section of a training run."""
    return Section(
        heading="Training",
        finding=sentence(curves.finding),
        charts=(picture(curves.figure()),),
        tables=(curves.table(wide=True),),
        command=origin.command,
        small_print=origin.small_print,
    )


def comparison_section(comparison: Comparison) -> Section:
    """Return the section that compares runs; the table stands open."""
    charts = ()
    if comparison.points:
        chart = figures.by_depth(comparison.points, "", "test error with 95 % intervals", "test error (%)")
        charts = (picture(chart),)
    lowest = "" if comparison.best is None else f"{comparison.best.name} has the lowest test error; "
    finding = sentence(lowest + comparison.finding)
    return Section(heading="Comparison", finding=finding, charts=charts, tables=(comparison_table(comparison),))


def picture(chart: Chart) -> str:
    """Return a chart as an SVG element; of its title only what explains the marks stays."""
    return figures.svg(untitled(chart))


def untitled(chart: Chart) -> Chart:
    """Return a chart whose title is its subtitle, likewise for charts that stand below each other."""
    bare = chart.copy(deep=False)
    subtitle = getattr(chart.title, "subtitle", alt.Undefined)
    bare.title = alt.Undefined
    if subtitle is not alt.Undefined and subtitle:
        bare.title = alt.Title(subtitle, fontSize=13, fontWeight="normal", anchor="start", offset=12, color="#444444")
    if isinstance(chart, alt.VConcatChart):
        bare.vconcat = [untitled(part) if isinstance(part, Chart) else part for part in chart.vconcat]
    return bare


def _charts(value: Any) -> list[Chart]:
    """Return the charts of a record: those that stand side by side in a file, below each other."""
    match value:
        case Paths():
            return [figures.paths(value), *([figures.unravelled(value)] if figures.can_unravel(value) else [])]
        case Evaluation():
            return [figures.confusion(value), *([figures.reliability(value)] if value.bins else [])]
        case CostRecord():
            return [ladder.figure() for ladder in value.ladders if len(ladder.depths) > 1]
        case Lesion() if not _drawable(value):
            return []
        case Export():
            return []
    return [value.figure()]


def _drawable(lesion: Lesion) -> bool:
    # Of a matrix with more cells than that no chart is legible, and a page of a few megabytes would be ten times that.
    return lesion.kind != "pairs" or len(lesion.trials) <= CELLS


def _notes(value: Any) -> list[str]:
    """Return what a reader should know of how a record was measured."""
    match value:
        case Lesion():
            many = f"There is no chart of {len(value.trials):,} pairs: its cells would be too small"
            base = f"Baseline: {value.baseline.error_percent:.2f} % error, n = {value.baseline.n:,}"
            return [base, *([] if _drawable(value) else [many])]
        case Paths():
            return [f"Measured on {value.n:,} images"]
        case Flow():
            statistics = "of each mini-batch" if value.statistics == "batch" else "the running ones"
            return [f"Measured on {value.n:,} images; statistics of norms: {statistics}"]
        case Evaluation():
            return [f"Loss {value.loss:.4f}; calibration error {value.calibration_error_percent:.2f} %"]
        case CostRecord():
            depths = [one for ladder in value.ladders for one in ladder.depths]
            return [f"{one.network}: {note}" for one in depths if one.times is not None for note in one.times.notes]
        case Degradation():
            return [f"{one.label}: {one.diagnosis.evidence}" for one in value.families]
        case Fit():
            return [value.verdict.finding, value.verdict.advice, *_unfolded(value.notes)]
        case Cut():
            chosen = f"Errors of the {value.calibration_images:,} images by which the cut was chosen"
            return [chosen if value.test is None else f"{chosen}; {test_finding(value.test)}", *value.notes]
        case Export():
            agreement = f"Logits within {value.agreement.difference:.1e} of the largest"
            left = [f"{value.norms_left:,} norms could not be folded"] if value.norms_left else []
            return [f"{agreement}; {value.bytes:,} bytes, {value.runtime}", *left, *_unfolded(value.notes)]
    return []


def _unfolded(notes: Sequence[str]) -> list[str]:
    """Return those of a record's notes that say that its latency is not that of folded norms."""
    return [note for note in notes if note.startswith(NOT_FOLDED)]
