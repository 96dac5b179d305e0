"""The page: sections in their order, and the whole as one HTML file without anything outside of it."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from jinja2 import Environment, Template
from markupsafe import Markup

from howdeep.runs.folder import METRICS, provenance
from howdeep.show import figures
from howdeep.show.report.comparison import compared
from howdeep.show.report.reading import Collected, Subject, collect, origin_of
from howdeep.show.report.sections import (
    Answer,
    Section,
    answer_of,
    comparison_section,
    facts_row,
    picture,
    section_of,
    training_section,
)
from howdeep.show.report.summary import summary_of, told_apart
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
from howdeep.util.records import MALFORMED, unlike
from howdeep.util.text import sentence

T = TypeVar("T")
FURTHER = {
    "evaluation": ("evaluate", "error per class, and calibration"),
    "lesion": ("lesion", "what every unit is worth"),
    "paths": ("paths", "through how many branches the gradient flows"),
    "flow": ("flow", "signal and gradient through the depth"),
    "cut": ("cut", "how many units can go, and what that saves"),
}
"""Kind → the command that adds it, and what it shows."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is told of one subject."""

    heading: str
    """The network, or the file."""
    facts: tuple[tuple[str, str], ...] = ()
    """Name → value."""
    sections: tuple[Section, ...] = ()
    """The evidence."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report before it is HTML."""

    answer: Answer
    """The first screen."""
    comparison: Section | None
    """Of several runs."""
    parts: tuple[Part, ...]
    """What is told of each subject that has sections."""
    further: tuple[tuple[str, str], ...]
    """Commands that would add something, and what."""
    left_out: tuple[str, ...]
    """What could not be read, one line each."""
    command: str
    """The command that made the report."""


def write_report(paths: Sequence[Path], out: Path, *, command: str | None = None) -> tuple[int, tuple[str, ...]]:
    """Write what is known of runs into one HTML file that needs nothing else.

    Args:
        paths: Run folders, folders of runs, files of records.
        out: The file; what is there is replaced.
        command: That makes the report, as a shell reads it; None is the one that runs.

    Returns:
        Bytes of the file, and what was left out, one line each.

    Raises:
        UserError: There is nothing to report.
        SaveError: The file cannot be written.
    """
    page = page_of(collect(paths), command or provenance(torch.device("cpu"))["command"])
    data = html_of(page).encode()
    write_whole(out, data)
    return len(data), page.left_out


def page_of(collected: Collected, command: str) -> Page:
    """Return the page of everything that was collected; records that cannot be told are left out and named.

    Raises:
        UserError: Nothing is left.
    """
    left_out, told = list(collected.left_out), []
    fits = [record for one in collected.subjects if one.run is None for record in one.records if record.kind == "fit"]
    for subject in collected.subjects:
        kept, sections = _sections(subject, left_out)
        facts = None if kept.run is None else _made(kept.place, left_out, summary_of, kept, fits)
        if kept.records or facts is not None:
            told.append((kept if facts is not None else replace(kept, run=None), sections, facts))
    if not told:
        raise UserError(f"nothing is left to report: {left_out[0]}")
    subjects = tuple(subject for subject, _, _ in told)
    runs = told_apart([(facts, subject.place) for subject, _, facts in told if facts is not None])
    comparison, named, parts = compared(runs), iter(runs), []
    for subject, sections, facts in told:
        heading, row = subject.place, ()
        if facts is not None:
            own = next(named)
            error = () if own.error is None else (("error", own.error.text),)
            heading, row = own.name, facts_row(own)
            row = (*error, *row) if row else ()
        if sections:
            parts.append(Part(heading=heading, facts=row, sections=tuple(sections)))
    if len(parts) == 1 and comparison is None:  # the first screen has said it
        parts = [Part(heading="", sections=parts[0].sections)]
    answer = answer_of(Collected(subjects=subjects), runs, comparison)
    led = answer.chart is not None
    trained = [subject.curves for subject, _, facts in told if facts is not None]
    pairs = zip(runs, trained, strict=True)
    curves = {run.name: one for run, one in pairs if one is not None and len(one.epochs) > 1}
    return Page(
        answer=answer,
        comparison=None if comparison is None else comparison_section(comparison, curves, led=led),
        parts=tuple(parts),
        further=_further(subjects),
        left_out=tuple(left_out),
        command=command,
    )


def html_of(page: Page) -> str:
    """Return a page as HTML: every text is escaped, charts are SVG elements, there is no script."""
    from howdeep import __version__

    strip, chart = page.answer.strip, page.answer.chart
    return _template().render(
        page=page,
        strip=None if strip is None else picture(figures.strip(strip.value)),
        chart=None if chart is None else picture(chart),
        strip_says="" if strip is None else sentence(strip.value.finding),
        versions=f"howdeep {__version__}",
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"drawn": Markup, "unbroken": unbroken}
    folder = files("howdeep.show.report")
    environment.globals["style"] = Markup((folder / "page.css").read_text(encoding="utf-8"))
    return environment.from_string((folder / "page.html").read_text(encoding="utf-8"))


def unbroken(text: str) -> str:
    """Return a text in which no line ends between a number and what it counts, or around an equals sign."""
    text = re.sub(r"(?<=\d) (?=(layers|images|points|ms)\b)", "\N{NO-BREAK SPACE}", text)
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def _sections(subject: Subject, left_out: list[str]) -> tuple[Subject, list[Section]]:
    """Return the sections of a subject, and the subject without the records that cannot be told."""
    kept, sections = [], []
    for record in subject.records:
        if (section := _made(record.origin.file, left_out, section_of, record)) is not None:
            kept.append(record)
            sections.append(section)
    first, test, run = [], subject.test, subject.run
    if subject.full and test is not None:
        tests = [one.value.n for one in subject.records if one.kind == "evaluation" and one.origin.split == "test"]
        if all(n < test.value.n for n in tests):  # else a record says the same, of at least as many images
            first = [_made(test.origin.file, left_out, section_of, test)]
    if subject.full and run is not None and subject.curves is not None:
        place = run.path / METRICS
        first.insert(0, _made(place, left_out, training_section, subject.curves, origin_of(run.record, place)))
    sections = [*(section for section in first if section is not None), *sections]
    return replace(subject, records=tuple(kept)), sections


def _made(place: Path | str, left_out: list[str], make: Callable[..., T], *of: Any) -> T | None:
    """Return a part of the page, or None and a line where a number is missing or is a word: only this finds it out."""
    try:
        return make(*of)
    except MALFORMED as error:
        left_out.append(f"{place} was left out: it {unlike(error)}")
        return None


def _further(subjects: Sequence[Subject]) -> tuple[tuple[str, str], ...]:
    """Return the commands that would add something to the first run that is told in full."""
    subject = next((one for one in subjects if one.run is not None and one.full), None)
    if subject is None or subject.run is None:
        return ()
    there = {record.kind for record in subject.records} | ({"evaluation"} if subject.test else set())
    place, data = subject.place, str(subject.run.record["data"].get("source") or "DATA")
    return tuple(
        (shlex.join(["howdeep", command, place, "--data", data, "--json", f"{place}/{kind}.json"]), shows)
        for kind, (command, shows) in FURTHER.items()
        if kind not in there
    )
