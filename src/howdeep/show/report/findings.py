"""What each kind of record says in one sentence."""

from collections.abc import Callable, Mapping
from typing import Any

from howdeep.analysis.evaluation import Evaluation
from howdeep.exporting.export import Export
from howdeep.search.degradation import Degradation
from howdeep.show.cost_tables import cost_finding
from howdeep.show.cut_tables import cut_finding
from howdeep.show.figures.depth import fit_finding
from howdeep.show.report.facts import Error
from howdeep.show.report.reading import Cost, Record
from howdeep.show.report.words import error_text, number
from howdeep.show.sentences import flow_finding, lesion_finding, paths_finding


def evaluation_finding(found: Evaluation) -> str:
    """Return the sentence of an evaluation: the error, and the class that has most of it."""
    said = error_text(Error(found.error_percent, found.n, ""))
    shares = [(one.error_percent, one.name) for one in found.classes if one.error_percent]
    worst = f"; the worst class is {max(shares)[1]} with {max(shares)[0]:.1f} %" if shares else ""
    return said + worst


def export_finding(found: Export) -> str:
    """Return the sentence of an export: that it agrees, and how much faster it is for one image."""
    agreed = f"the file gives the same class on all {found.agreement.images:,} images"
    alone = next((row for row in found.latency if row.batch == 1), None)
    if alone is None:
        return agreed
    return f"{agreed}; one image takes {number(alone.exported_ms)} ms instead of {number(alone.original_ms)}"


def costs_finding(found: Cost) -> str:
    """Return the sentences of all ladders, and of training on many devices."""
    return "; ".join([*map(cost_finding, found.ladders), *map(scaled_finding, found.scaled)])


def scaled_finding(found) -> str:
    """Return how long training takes on the most devices, on paper."""
    last = found.rows[-1]
    hours = number(last.seconds[0] / 3600)
    return f"{found.network} on {last.devices:,} devices: {hours} hours at best, on paper"


def degradation_finding(found: Degradation) -> str:
    """Return the diagnoses of all families."""
    return found.finding


FINDINGS: Mapping[str, Callable[[Any], str]] = {
    "lesion": lesion_finding,
    "paths": paths_finding,
    "flow": flow_finding,
    "evaluation": evaluation_finding,
    "cost": costs_finding,
    "degradation": degradation_finding,
    "fit": fit_finding,
    "cut": cut_finding,
    "export": export_finding,
}
"""Kind → its sentence."""


def finding_of(record: Record) -> str:
    """Return what a record says."""
    return FINDINGS[record.kind](record.value)
