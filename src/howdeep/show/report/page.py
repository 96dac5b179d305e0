"""The page: sections in their order, and the whole as one HTML file without anything outside of it."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, Template
from markupsafe import Markup

from howdeep.runs.folder import METRICS, provenance
from howdeep.show import figures
from howdeep.show.report.answer import Answer, answer_of, facts_row
from howdeep.show.report.comparison import compared, told_apart
from howdeep.show.report.reading import MALFORMED, Collected, Record, Subject, collect, origin_of
from howdeep.show.report.sections import Section, comparison_section, picture, section_of, training_section
from howdeep.show.report.summary import RunSummary, summary_of
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
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
    anchor: str = ""
    """Where the table of contents leads."""


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
    page = page_of(collect(paths), command or _command())
    data = html_of(page).encode()
    write_whole(out, data)
    return len(data), page.left_out


def page_of(collected: Collected, command: str) -> Page:
    """Return the page of everything that was collected; records that cannot be told are left out and named.

    Raises:
        UserError: Nothing is left.
    """
    left_out, subjects, sections, facts = list(collected.left_out), [], [], []
    for subject in collected.subjects:
        kept, made = _sections(subject, left_out)
        known = _facts(kept, collected, left_out) if kept.run is not None else None
        if kept.records or known is not None:
            subjects.append(kept if known is not None else replace(kept, run=None))
            sections.append(made)
            facts.append(known)
    if not subjects:
        raise UserError(f"nothing is left to report: {left_out[0]}")
    named = _named(subjects, facts)
    runs = [one for one in named if one is not None]
    comparison = compared(runs)
    answer = answer_of(Collected(subjects=tuple(subjects)), runs, comparison)
    told = [one for one in zip(subjects, sections, named, strict=True) if one[1]]
    parts = [_part(*one, alone=len(told) == 1 and comparison is None) for one in told]
    compares = None if comparison is None else comparison_section(comparison)
    return _anchored(
        Page(
            answer=answer,
            comparison=compares,
            parts=tuple(parts),
            further=_further(subjects),
            left_out=tuple(left_out),
            command=command,
        )
    )


def html_of(page: Page) -> str:
    """Return a page as HTML: every text is escaped, charts are SVG elements, there is no script."""
    from howdeep import __version__

    strip = page.answer.strip
    return _template().render(
        page=page,
        strip=None if strip is None else picture(figures.strip(strip.value)),
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
    """Return a text in which no line ends between a number and its sign of percent, or around an equals sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def _command() -> str:
    import torch

    return provenance(torch.device("cpu"))["command"]


def _sections(subject: Subject, left_out: list[str]) -> tuple[Subject, list[Section]]:
    """Return the sections of a subject, and the subject without the records that cannot be told."""
    told = [(record, _told(record, left_out)) for record in subject.records]
    kept = replace(subject, records=tuple(record for record, section in told if section is not None))
    sections = [section for _, section in told if section is not None]
    if not subject.full:
        return kept, sections
    test = None if _superseded(subject) or subject.test is None else _told(subject.test, left_out)
    return kept, [section for section in (_training(subject, left_out), test, *sections) if section is not None]


def _told(record: Record, left_out: list[str]) -> Section | None:
    return _made(record.origin.file, lambda: section_of(record), left_out)


def _training(subject: Subject, left_out: list[str]) -> Section | None:
    curves, run = subject.curves, subject.run
    if curves is None or run is None:
        return None
    place = run.path / METRICS
    origin = origin_of(run.record, place)
    return _made(place, lambda: training_section(curves, origin.command, origin.small_print), left_out)


def _facts(subject: Subject, collected: Collected, left_out: list[str]) -> RunSummary | None:
    beside = [record for one in collected.subjects if one.run is None for record in one.records]
    fits = [record for record in beside if record.kind == "fit"]
    return _made(subject.place, lambda: summary_of(subject, fits), left_out)


def _made(place: Path | str, make: Callable[[], T], left_out: list[str]) -> T | None:
    """Return a part of the page, or None and a line where a number is missing or is a word: only this finds it out."""
    try:
        return make()
    except MALFORMED as error:
        left_out.append(f"{place} was left out: it cannot be told ({type(error).__name__}: {error})")
        return None


def _superseded(subject: Subject) -> bool:
    """Return whether a record says what the end of the training says, of at least as many images."""
    n = subject.test.value.n if subject.test else 0
    evaluations = [record for record in subject.records if record.kind == "evaluation"]
    return any(record.origin.split == "test" and record.value.n >= n for record in evaluations)


def _named(subjects: Sequence[Subject], facts: Sequence[RunSummary | None]) -> list[RunSummary | None]:
    """Return the facts with names that are all different."""
    pairs = [(one, subject.place) for one, subject in zip(facts, subjects, strict=True) if one is not None]
    names = iter(told_apart([one for one, _ in pairs], [place for _, place in pairs]))
    return [None if one is None else next(names) for one in facts]


def _part(subject: Subject, sections: Sequence[Section], facts: RunSummary | None, *, alone: bool) -> Part:
    heading = "" if alone else subject.place if facts is None else facts.name
    row = () if alone or facts is None else facts_row(facts)
    if row and facts is not None and facts.error is not None:
        row = (("error", facts.error.text), *row)
    return Part(heading=heading, facts=row, sections=tuple(sections))


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


def _anchored(page: Page) -> Page:
    """Return the page with a place to go to for every section and part."""
    parts = []
    for place, part in enumerate(page.parts, 1):
        anchored = [replace(one, anchor=f"s{place}-{number}") for number, one in enumerate(part.sections, 1)]
        parts.append(replace(part, sections=tuple(anchored), anchor=f"s{place}"))
    comparison = page.comparison and replace(page.comparison, anchor="comparison")
    return replace(page, parts=tuple(parts), comparison=comparison)
