"""One run in numbers: counted or read, never measured."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from howdeep.analysis.evaluation import Answers
from howdeep.cutting.records import Cut
from howdeep.networks import skeleton
from howdeep.networks.counting import describe_chain
from howdeep.networks.dense import DenseSpec
from howdeep.runs.folder import Run
from howdeep.search.diagnosis import learned_little
from howdeep.show.report.reading import Record, Subject
from howdeep.show.sentences import error_text
from howdeep.training.config import RESUMABLE
from howdeep.util.errors import UserError
from howdeep.util.intervals import Interval, of_share
from howdeep.util.records import MALFORMED
from howdeep.util.text import counted

LAYERS_OF_A_UNIT = {"basic": 2, "bottleneck": 3}
FAMILIES = {"plain": "plain", "resnet": "residual"}
"""Families as the literature calls them; the others go by their own names."""
NO_OTHER_NETWORK = {*RESUMABLE, "seed", "precision", "memory_format", "checkpointing", "compile", "record"}
"""Options of a training in which seeds of one network may differ."""


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
    network: str = ""
    """What seeds of it share: its name in the catalogue or in its library."""
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
    trained: str = ""
    """How it was trained, apart from its seed: runs of one name that share it are seeds of one network. Empty where
    the run does not say."""
    learned_little: bool = False
    """Whether it ended with more than half of what guessing gets wrong, on its training images and on others."""
    cut: Cut | None = None
    """The record of the cut that it is."""


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
        network=run.network_name,
        name=run.network_name + (f" cut to {counted(units, 'unit')}" if units and cut else ""),
        family=family + (", cut" if cut else ""),
        depth=depth,
        parameters=parameters,
        macs=macs,
        units=units or (subject.curves.units if subject.curves else None),
        error=error_of(subject),
        seconds=subject.seconds,
        data=data_text(run, subject.measured_on),
        latency_ms=next(_latencies(run, [*subject.records, *beside]), None),
        trained=_trained(run),
        learned_little=_learned_little(subject),
        cut=next((one.value for one in subject.records if one.kind == "cut" and one.value.choice), None)
        if cut
        else None,
    )


def _trained(run: Run) -> str:
    config = run.record.get("config")
    if not isinstance(config, dict) or run.is_cut:
        return ""
    return json.dumps({name: value for name, value in config.items() if name not in NO_OTHER_NETWORK}, sort_keys=True)


def _learned_little(subject: Subject) -> bool:
    """Return whether both errors of the last epoch say so: that of training alone is one of augmented images."""
    classes = subject.run and subject.run.record["data"].get("classes")
    if not classes or subject.curves is None:
        return False
    last, guessing = subject.curves.epochs[-1], 100 * (1 - 1 / len(classes))
    errors = [last.train_error_percent, last.validation_error_percent]
    return all(learned_little(error, guessing) for error in errors if error is not None)


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


def data_text(run: Run, measured_on: str | None = None) -> str:
    """Return what a run was trained on: name, pixels, classes.

    Args:
        run: Its record of imported weights has the name of their file where others have that of the data.
        measured_on: The data of its other records, which stand for those of imported weights.
    """
    data = run.record["data"]
    known = data.get("name") or data.get("source")
    if "imported" in run.record:
        known = measured_on and Path(measured_on).name
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


def told_apart(facts: Sequence[tuple[RunSummary, str]]) -> list[RunSummary]:
    """Return facts whose names are all different: those that share one carry the folder that stands with them.

    Of the folder's path the last part says it, where no other one ends so.
    """
    names, ends = [one.name for one, _ in facts], [Path(place).name for _, place in facts]
    places = [end if ends.count(end) == 1 else place for end, (_, place) in zip(ends, facts, strict=True)]
    pairs = zip(facts, places, strict=True)
    return [replace(one, name=f"{one.name} ({at})") if names.count(one.name) > 1 else one for (one, _), at in pairs]
