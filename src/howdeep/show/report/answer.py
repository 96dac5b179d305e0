"""The first screen: which network, how good, at what cost, and what the strongest evidence says about its depth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from howdeep.analysis.lesion import Lesion
from howdeep.cutting.records import Cut
from howdeep.search.degradation import Degradation
from howdeep.search.fit import Fit
from howdeep.show.report.reading import Collected, Record
from howdeep.show.report.summary import Comparison, Error, RunSummary
from howdeep.show.sentences import cut_saved, measured, test_finding
from howdeep.training.log import Curves
from howdeep.util.text import NONE, milliseconds, number, seconds_text, sentence, short, whole

T = TypeVar("T")
CHEAP = 1.0
"""Points of error below which a unit counts as spare."""
LEARNED = 0.5
"""A network whose error is above this share of that of always guessing the most frequent class has learned little."""
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
    strip: Record | None = None
    """The lesions of every unit, for the picture; None without them."""


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
    strip = strip_of(records)
    if (fit := first(records, Fit)) is not None:
        return _of_fit(fit, facts, strip)
    if (ladder := first(records, Degradation)) is not None:
        verdict = " ".join(sentence(f"{one.label}: {one.diagnosis.evidence}") for one in ladder.families)
        return Answer(sentence=sentence(ladder.finding), verdict=verdict, strip=strip)
    spare = "" if strip is None else lesion_verdict(strip.value)
    if comparison is not None:
        if strip is not None:
            pairs = zip(collected.runs, facts, strict=True)
            owner = next((one.name for subject, one in pairs if strip in subject.records), strip.origin.target)
            spare = f"{owner or 'The network that was taken apart'}: {spare}"
        verdict = f"{sentence(comparison.finding)} {spare}".strip()
        return Answer(sentence=comparison.headline, facts=comparison.facts, verdict=verdict, strip=strip)
    if facts:
        curves, error = collected.runs[0].curves, facts[0].error
        said = f"{facts[0].name}: {error.text if error else 'no error was measured yet'}"
        cut = next((one.value for one in records if isinstance(one.value, Cut) and one.value.choice), None)
        verdict = cut_verdict(cut) if cut else spare or (curves_verdict(curves) if curves else "")
        return Answer(sentence=said, facts=facts_row(facts[0]), verdict=verdict, strip=strip)
    return Answer(sentence=sentence(records[0].value.finding), verdict=spare, strip=strip)


def first(records: Iterable[Record], kind: type[T]) -> T | None:
    """Return the first record of a type, or None."""
    return next((one.value for one in records if isinstance(one.value, kind)), None)


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
    """Return how many units can be missed, one at a time, and how many of the others are sure to be needed."""
    units = measured(lesion)
    dear = [unit for unit in units if (unit.change or 0.0) >= CHEAP]
    spare, sure = len(units) - len(dear), sum((unit.change_low or 0.0) > 0 for unit in dear)
    if not spare:
        every = f"Every one of {len(units)} units costs {CHEAP:g} point of error or more when it is taken out"
        return f"{every}, {sure} of them beyond chance."
    each = f"{spare} of {len(units)} units cost less than {CHEAP:g} point of error each when they are taken out alone"
    if 2 * spare < len(units):
        return f"{each}; the others cost more, {sure} of them beyond chance."
    base = lesion.baseline
    guessing = 100 * (1 - max(base.totals) / base.n)
    if base.error_percent > LEARNED * guessing:
        wrong = f"{base.error_percent:.1f} % wrong, where guessing gets {guessing:.0f} %"
        return f"{each}, but the network itself gets {wrong}: train it before you cut it."
    return f"{each}: there is depth to spare, and howdeep cut finds how many can go together."


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


def cut_verdict(cut: Cut) -> str:
    """Return what a cut saved and cost: on the test split where that was read, as its units were chosen on others."""
    if cut.test is None:
        return sentence(cut.finding)
    return f"{sentence(cut_saved(cut))} {sentence(test_finding(cut.test))}"


def _of_fit(fit: Fit, facts: Sequence[RunSummary], strip: Record | None) -> Answer:
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
    low, high = fit.verdict.depths
    alike = (("depths alike", f"{low:,} to {high:,} layers"),) if low != high else ()
    spent = (("time spent", seconds_text(fit.spent_seconds)),)
    return Answer(
        sentence=f"Take {fit.network}, {fit.depth:,} layers: {error.text}",
        facts=(*facts_row(row), *alike, ("epochs", number(fit.epochs)), *spent),
        verdict=f"{sentence(fit.verdict.finding)} {sentence(fit.verdict.advice)}",
        strip=strip,
    )
