"""Record → sentence, table, chart, page. Nothing is measured here.

Every kind of record, and what shows it: its sentence, its table, its chart, its heading in a report.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from howdeep.show import analysis_tables as analysis
from howdeep.show import cost_tables as costs
from howdeep.show import search_tables as search
from howdeep.show import sentences
from howdeep.show.tables import Table


@dataclass(frozen=True)
class Kind:
    """What shows the records of one class."""

    finding: Callable[[Any], str]
    """Its sentence."""
    table: Callable[..., Table]
    """Its table: of 80 columns or, ``wide=True``, with every row and column for a page that scrolls."""
    figure: str | None
    """The function of ``show.figures`` that draws it, by name, as a sentence shall not cost the import of a chart
    library; None where there is no chart."""
    heading: str
    """Of its section in a report."""


KINDS: Mapping[str, Kind] = {
    "Lesion": Kind(sentences.lesion_finding, analysis.lesion_table, "lesion", "Lesion"),
    "Paths": Kind(sentences.paths_finding, analysis.paths_table, "study_of_paths", "Paths of the gradient"),
    "Flow": Kind(sentences.flow_finding, analysis.flow_table, "flow", "Signal and gradient through the depth"),
    "Probe": Kind(sentences.probe_finding, analysis.probe_table, "probe", "Probe: error at every depth"),
    "Evaluation": Kind(sentences.evaluation_finding, analysis.evaluation_table, "evaluation", "Evaluation"),
    "Curves": Kind(sentences.curves_finding, analysis.curves_table, "curves", "Training"),
    "Ladder": Kind(sentences.ladder_finding, costs.ladder_table, "ladder", "Cost by depth"),
    "Paper": Kind(sentences.scaling_finding, costs.scaling_table, None, "Training on many devices"),
    "Cost": Kind(sentences.cost_finding, costs.cost_table, "costs", "Cost by depth"),
    "Degradation": Kind(sentences.degradation_finding, search.degradation_table, "degradation", "Error against depth"),
    "Fit": Kind(sentences.fit_finding, search.fit_table, "fit", "How deep: the search"),
    "Transfer": Kind(sentences.transfer_finding, search.transfer_table, "transfer", "How deep: published networks"),
    "Cut": Kind(sentences.cut_finding, costs.cut_table, "frontier", "Cut: a shallower network"),
    "Export": Kind(sentences.export_finding, analysis.export_table, None, "Export"),
}
"""Class of a record → what shows it. By name: the sentence of one kind shall not cost the imports of all."""


def kind_of(record: object) -> Kind:
    """Return what shows a record."""
    return KINDS[type(record).__name__]
