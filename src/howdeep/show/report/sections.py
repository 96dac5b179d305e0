"""What a page is made of: the first screen, and one section per record with its charts, notes and tables.

The first screen says which network, how good, at what cost, and what the strongest evidence says about its depth.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from howdeep.analysis.depths import Probe
from howdeep.analysis.evaluation import Evaluation
from howdeep.analysis.lesion import Lesion
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow
from howdeep.analysis.study import NOT_FOLDED
from howdeep.costs.cost import Cost
from howdeep.cutting.records import Cut
from howdeep.exporting.export import Export
from howdeep.search.degradation import Degradation
from howdeep.search.diagnosis import learned_little
from howdeep.search.fit import Fit
from howdeep.search.transfer import Transfer
from howdeep.show import figures, kind_of
from howdeep.show.figures.drawing import Chart
from howdeep.show.report.comparison import Comparison, comparison_table
from howdeep.show.report.gallery import Gallery
from howdeep.show.report.reading import Collected, Origin, Record
from howdeep.show.report.summary import Error, RunSummary
from howdeep.show.sentences import measured, probe_test_finding
from howdeep.show.tables import Table
from howdeep.training.log import Curves
from howdeep.util.intervals import worse_of
from howdeep.util.text import NONE, listed, milliseconds, number, seconds_text, sentence, short, whole

CELLS = 2_500
"""Pairs of units that a chart shows at most: more cells than that are smaller than a pixel's worth of ink."""
LESIONS = {
    "delete": "Lesion: each unit taken out",
    "random": "Lesion: units taken out at random",
    "pairs": "Lesion: pairs of units taken out",
    "permute": "Lesion: units in another order",
    "duplicate": "Lesion: each unit run twice",
}


TIMED = "Latency: one image, one thread, norms folded, fp32; medians, by turns on the machine that made this page."
DRAWING = ("evaluate", "lesion", "paths", "flow", "probe", "cut", "fit", "degradation", "cost")
"""Commands with ``--figure``."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One piece of evidence."""

    heading: str
    """What it is about."""
    finding: str
    """What it says, in one sentence."""
    points: tuple[str, ...] = ()
    """Further findings, a line each."""
    charts: tuple[str, ...] = ()
    """SVG elements."""
    tables: tuple[Table, ...] = ()
    """Behind folds."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    galleries: tuple[Gallery, ...] = ()
    """Images that were answered wrong."""
    command: str | None = None
    """The command that makes it, and its chart, anew."""
    small_print: str = ""
    """File, day, versions, device."""


def section_of(record: Record, *, led: bool = False) -> Section:
    """Return the section of a record, with where it comes from; ``led`` where its chart is on the first screen."""
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
        charts=() if led else tuple(picture(chart, finding) for chart in charts),
        tables=tuple(value.table(wide=True).folds()),
        notes=tuple(map(sentence, notes)),
        command=repeating(origin.command, record.kind) if charts else origin.command,
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


def comparison_section(
    comparison: Comparison, curves: Mapping[str, Curves], *, led: bool = False, timed: bool = False
) -> Section:
    """Return the section that compares runs; the table stands open.

    Args:
        comparison: Of at least two runs.
        curves: Name of a run → its training.
        led: Whether the first screen has its finding, its cuts and its chart.
        timed: Whether latencies were measured for this page, by turns.
    """
    chart = None if led else depth_chart(comparison)
    charts = [chart] if chart is not None else []
    called = {run.name: group.label for group in comparison.groups for run in group.runs}
    rows = [(called.get(row.name, row.name), curves[row.name]) for row in comparison.rows if row.name in curves]
    charts += [figures.overlaid(rows)] if len(rows) > 1 else []
    return Section(
        heading="Comparison",
        finding="" if led else sentence(comparison.finding),
        points=tuple(map(sentence, comparison.details if led else (*comparison.details, *comparison.cuts))),
        charts=tuple(map(picture, charts)),
        tables=(comparison_table(comparison),),
        notes=(TIMED,) * timed,
    )


def depth_chart(comparison: Comparison) -> Chart | None:
    """Return error against depth, with what is enough marked; None where there are not two depths to compare."""
    if not comparison.points:
        return None
    marks = "test error with 95 % intervals" + "; ring: enough" * (comparison.enough is not None)
    seeds = "; small dots: seeds, of two the range" * any(point.runs for point in comparison.points)
    return figures.by_depth(comparison.points, comparison.headline, marks + seeds, "test error (%)")


def picture(chart: Chart, finding: str = "") -> str:
    """Return a chart as an SVG element, labelled by its title, or else by a finding; only what explains is drawn.

    It says how wide it is, so that a style sheet need not enlarge it where it may not be smaller.
    """
    text = getattr(chart.title, "text", "")
    label = " ".join(text) if isinstance(text, list) else text if isinstance(text, str) else ""
    drawn = figures.svg(untitled(chart), label=label or finding)
    return re.sub(r'^<svg (?=[^>]*\bwidth="([\d.]+)")', r'<svg style="--natural: \1px" ', drawn)


def repeating(command: str | None, kind: str) -> str | None:
    """Return the command that draws the chart of a record anew, from the one that wrote the record."""
    words = shlex.split(command or "")
    if words[:1] != ["howdeep"] or words[1:2] not in [[name] for name in DRAWING] or "--figure" in words:
        return command
    at = words.index("--json") if "--json" in words else len(words)
    words = [word for word in [*words[:at], *words[at + 2 :]] if word != "--overwrite"]
    return shlex.join([*words, "--figure", f"{kind}.svg"])


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
            return [value.figure()], [value.verdict.finding, value.verdict.advice, value.verdict.onward, *unfolded]
        case Transfer():
            chosen = f"Errors of the {value.validation_images:,} images by which networks were chosen"
            return [value.figure()], [chosen, value.verdict.finding, value.verdict.advice]
        case Cut():
            chosen = f"Errors of the chart: of the {value.calibration_images:,} images by which the cut was chosen"
            return [value.figure()], [chosen, *value.notes]
        case Export():
            agreement = f"Logits within {value.agreement.difference:.1e} of the largest"
            left = [f"{value.norms_left:,} norms could not be folded"] if value.norms_left else []
            return [], [f"{agreement}; {value.bytes:,} bytes, {value.runtime}", *left, *unfolded]
    raise AssertionError(f"no page shows a {type(value).__name__}")


KNOWN = 0.5
"""A training error below this share of the validation error means that the network knows its training images."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a reader sees first."""

    sentence: str
    """The answer."""
    facts: tuple[tuple[str, str], ...] = ()
    """Name → value."""
    verdict: str = ""
    """What the strongest evidence says; empty where there is none."""
    points: tuple[str, ...] = ()
    """The same in detail, a line each."""
    strip: Record | None = None
    """The lesions of every unit, for the picture; None without them, or where there is a chart."""
    chart: Chart | None = None
    """Error against depth, where several runs answer, or that of the record that does."""


def answer_of(collected: Collected, facts: Sequence[RunSummary], comparison: Comparison | None) -> Answer:
    """Return the first screen.

    A fit answers before everything else, then a ladder of depths, then a comparison of runs, then a single run; records
    alone say their finding.

    Args:
        collected: What the report is made of.
        facts: Of its runs, in order.
        comparison: Of the runs; None where there are fewer than two.
    """
    records = [record for subject in collected.subjects for record in subject.records]
    match lead_of(records):
        case Record(value=Fit() as fit):
            return _of_fit(fit, facts)
        case Record(value=Transfer() as transfer):
            return _of_transfer(transfer)
        case Record(value=Degradation() as ladder):
            verdict = " ".join(sentence(f"{one.label}: {one.diagnosis.evidence}") for one in ladder.families)
            return Answer(sentence=sentence(ladder.finding), verdict=verdict, chart=ladder.figure())
    strip = strip_of(records)
    spare = "" if strip is None else lesion_verdict(strip.value)
    if comparison is not None:
        chart, further = depth_chart(comparison), [*map(sentence, comparison.cuts)]
        if strip is not None:
            pairs = zip(collected.runs, facts, strict=True)
            owner = next((one.name for subject, one in pairs if strip in subject.records), strip.origin.target)
            further.append(f"{owner or 'The network that was taken apart'}: {spare}")
        return Answer(
            sentence=comparison.headline,
            facts=comparison.facts,
            verdict=sentence(comparison.finding),
            points=tuple(further),
            strip=strip if chart is None else None,
            chart=chart,
        )
    if facts:
        curves, error = collected.runs[0].curves, facts[0].error
        said = f"{facts[0].name}: {error.text if error else 'no error was measured yet'}"
        cut = next((one.value for one in records if isinstance(one.value, Cut) and one.value.choice), None)
        verdict = sentence(cut.finding) if cut else spare or (curves_verdict(curves) if curves else "")
        return Answer(sentence=said, facts=facts_row(facts[0]), verdict=verdict, strip=strip)
    return Answer(sentence=sentence(records[0].value.finding), verdict=spare, strip=strip)


def lead_of(records: Sequence[Record]) -> Record | None:
    """Return the record whose chart is on the first screen, as it answers before everything else."""
    kinds = ("fit", "transfer", "degradation")
    return next((one for kind in kinds for one in records if one.kind == kind), None)


def strip_of(records: Iterable[Record]) -> Record | None:
    """Return the lesions of every unit of the best network of which there are some."""
    lesions = [one for one in records if isinstance(one.value, Lesion) and one.value.kind == "delete"]
    return min(lesions, key=lambda one: one.value.baseline.error_percent, default=None)


def facts_row(run: RunSummary) -> tuple[tuple[str, str], ...]:
    """Return what a network consists of and costs, what is not known left out."""
    rows = (
        ("layers", whole(run.depth)),
        ("units", whole(run.units)),
        ("parameters", short(run.parameters)),
        ("MACs per image", short(run.macs)),
        ("latency", milliseconds(run.latency_ms)),
        ("training time", NONE if run.seconds is None else seconds_text(run.seconds)),
        ("data", run.data),
    )
    return tuple((name, value) for name, value in rows if value not in (NONE, ""))


def lesion_verdict(lesion: Lesion) -> str:
    """Return how many units can be missed, one at a time, as far as the images tell: all of them considered (Holm)."""
    units, n = measured(lesion), lesion.baseline.n
    spare = worse_of([unit.interval for unit in units if unit.interval is not None]).count(False)
    if not spare:
        return f"Every one of {len(units)} units costs significantly more than nothing when it is taken out."
    of = f"{spare} of {len(units)} units cost{'s' if spare == 1 else ''}"
    each = f"{of} nothing significant when taken out alone (one image is {100 / n:.2g} %)"
    if 2 * spare < len(units):
        return f"{each}; the others cost more."
    base = lesion.baseline
    guessing = 100 * (1 - max(base.totals) / base.n)
    if learned_little(base.error_percent, guessing):
        wrong = f"{base.error_percent:.1f} % wrong, where guessing gets {guessing:.0f} %"
        return f"{each}, but the network itself gets {wrong}: train it before you cut it."
    return f"{each}: there may be depth to spare, and howdeep cut finds how many can go together."


def curves_verdict(curves: Curves) -> str:
    """Return what the gap between training and validation error says about more layers."""
    last = curves.epochs[-1]
    train, validation = last.train_error_percent, last.validation_error_percent
    if validation is None:
        return sentence(curves.finding)
    errors = f"training error {train:.1f} %, validation error {validation:.1f} %"
    if validation > 0 and train < KNOWN * validation:
        return f"It knows its training images ({errors}): more or more varied images help before more layers do."
    return f"It does not know its training images yet ({errors}): longer training or more layers can still help."


def _of_fit(fit: Fit, facts: Sequence[RunSummary]) -> Answer:
    """Return the first screen of a fit: the network to take."""
    error = Error(fit.validation_error_percent, fit.validation_images, "validation")
    if fit.test is not None:
        error = Error(fit.test.error_percent, fit.test.n, "test")
    costs = next(one.costs for one in fit.candidates if one.costs.network == fit.network)
    own = next((one for one in facts if one.name == fit.network), None)
    row = RunSummary(
        name=fit.network,
        depth=fit.depth,
        units=own and own.units,
        parameters=costs.parameters,
        macs=costs.macs,
        latency_ms=fit.latency.median_ms,
        data=own.data if own else "",
    )
    alike = (("cannot be told apart", listed(fit.verdict.alike)),) if fit.verdict.alike else ()
    spent = (("time spent", seconds_text(fit.spent_seconds)),)
    return Answer(
        sentence=f"Take {fit.network}, {fit.size}: {error.text}",
        facts=(*facts_row(row), *alike, ("epochs", number(fit.final.epochs)), *spent),
        verdict=" ".join(map(sentence, (fit.verdict.finding, fit.verdict.advice, fit.verdict.onward))),
        chart=fit.figure(),
    )


def _of_transfer(transfer: Transfer) -> Answer:
    """Return the first screen of a search among published networks: which one to take, and how much of it."""
    start, error = transfer.chosen, Error(transfer.test.error_percent, transfer.test.n, "test")
    row = RunSummary(
        name=start.network,
        units=start.units,
        parameters=transfer.parameters,
        macs=transfer.macs,
        latency_ms=transfer.latency.median_ms,
    )
    facts = (("image size", f"{start.size}×{start.size}"), ("time spent", seconds_text(transfer.spent_seconds)))
    return Answer(
        sentence=f"Take {start.text}: {error.text}",
        facts=(*facts_row(row), *facts),
        verdict=f"{sentence(transfer.verdict.finding)} {sentence(transfer.verdict.advice)}",
        chart=transfer.figure(),
    )
