"""One section per record: heading, finding, charts without the finding above them, notes, tables behind folds."""

from dataclasses import dataclass
from typing import Any

import altair as alt

from howdeep.analysis.evaluation import Evaluation
from howdeep.analysis.lesion import Lesion
from howdeep.analysis.paths import Paths
from howdeep.analysis.probe import Probe
from howdeep.analysis.signals import Flow
from howdeep.analysis.study import NOT_FOLDED
from howdeep.costs.cost import Cost
from howdeep.cutting.records import Cut
from howdeep.exporting.export import Export
from howdeep.search.degradation import Degradation
from howdeep.search.fit import Fit
from howdeep.show import figures
from howdeep.show.figures.drawing import Chart
from howdeep.show.kinds import kind_of
from howdeep.show.report.reading import Origin, Record
from howdeep.show.report.summary import Comparison, comparison_table
from howdeep.show.sentences import probe_test_finding, test_finding
from howdeep.show.tables import Table
from howdeep.training.log import Curves
from howdeep.util.text import sentence

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


def section_of(record: Record) -> Section:
    """Return the section of a record, with where it comes from."""
    value, origin = record.value, record.origin
    heading = kind_of(value).heading
    if record.kind == "lesion":
        heading = LESIONS.get(value.kind, heading)
    elif record.kind == "export":
        heading = f"Export to {value.format}"
    finding = sentence(value.finding)
    charts, notes = _shown(value)
    measured_on = ", ".join(part for part in (origin.data, origin.split and f"{origin.split} split") if part)
    return Section(
        heading=heading,
        finding=finding,
        charts=tuple(map(picture, charts)),
        tables=tuple(value.table(wide=True).folds()),
        notes=tuple(map(sentence, notes)),
        command=origin.command,
        small_print=" · ".join(part for part in (measured_on, origin.small_print) if part),
    )


def training_section(curves: Curves, origin: Origin) -> Section:
    """Return the section of a training run."""
    return Section(
        heading=kind_of(curves).heading,
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


def _shown(value: Any) -> tuple[list[Chart], list[str]]:
    """Return the charts of a record, below each other where a file has them side by side, and how it was measured."""
    unfolded = [note for note in getattr(value, "notes", ()) if note.startswith(NOT_FOLDED)]
    match value:
        case Lesion():
            base = f"Baseline: {value.baseline.error_percent:.2f} % error, n = {value.baseline.n:,}"
            # Of more cells no chart is legible, and a page of a few megabytes would be ten times that.
            if value.kind == "pairs" and len(value.trials) > CELLS:
                return [], [base, f"There is no chart of {len(value.trials):,} pairs: its cells would be too small"]
            return [value.figure()], [base]
        case Paths():
            every = [figures.unravelled(value)] if figures.can_unravel(value) else []
            return [figures.paths(value), *every], [f"Measured on {value.n:,} images"]
        case Flow():
            statistics = "of each mini-batch" if value.statistics == "batch" else "the running ones"
            return [value.figure()], [f"Measured on {value.n:,} images; statistics of norms: {statistics}"]
        case Probe():
            tested = [] if value.test is None else [probe_test_finding(value.test)]
            return [value.figure()], [f"Errors of the {value.n:,} images by which the depth was chosen", *tested]
        case Evaluation():
            note = f"Loss {value.loss:.4f}; calibration error {value.calibration_error_percent:.2f} %"
            return [figures.confusion(value), figures.reliability(value)], [note]
        case Cost():
            depths = [one for ladder in value.ladders for one in ladder.depths]
            notes = [f"{one.network}: {note}" for one in depths if one.times is not None for note in one.times.notes]
            return [ladder.figure() for ladder in value.ladders if len(ladder.depths) > 1], notes
        case Degradation():
            return [value.figure()], [f"{one.label}: {one.diagnosis.evidence}" for one in value.families]
        case Fit():
            return [value.figure()], [value.verdict.finding, value.verdict.advice, *unfolded]
        case Cut():
            chosen = f"Errors of the {value.calibration_images:,} images by which the cut was chosen"
            tested = "" if value.test is None else f"; {test_finding(value.test)}"
            return [value.figure()], [chosen + tested, *value.notes]
        case Export():
            agreement = f"Logits within {value.agreement.difference:.1e} of the largest"
            left = [f"{value.norms_left:,} norms could not be folded"] if value.norms_left else []
            return [], [f"{agreement}; {value.bytes:,} bytes, {value.runtime}", *left, *unfolded]
    raise AssertionError(f"no page shows a {type(value).__name__}")
