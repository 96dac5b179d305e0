"""The page: sections in their order, and the whole as one HTML file without anything outside of it."""

import base64
import hashlib
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from jinja2 import Environment, Template
from markupsafe import Markup

from howdeep.runs.folder import METRICS, Run, provenance
from howdeep.show import figures
from howdeep.show.report.comparison import Comparison, compared
from howdeep.show.report.gallery import galleries_of
from howdeep.show.report.reading import Collected, Record, Subject, collect, origin_of
from howdeep.show.report.sections import (
    Answer,
    Section,
    answer_of,
    comparison_section,
    facts_row,
    lead_of,
    picture,
    section_of,
    training_section,
)
from howdeep.show.report.summary import RunSummary, summary_of, told_apart
from howdeep.util.errors import UserError
from howdeep.util.files import write_whole
from howdeep.util.records import MALFORMED, unlike
from howdeep.util.text import sentence

T = TypeVar("T")
Timed = Callable[[Sequence[Run]], Sequence[float | None]]
"""Returns the latency of every run in milliseconds, None where it cannot be measured."""
SHORT = 60
"""Rows of a table up to which its fold is printed open."""
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
    next: tuple[str, str] | None = None
    """The command to type next, and what it does."""
    further: tuple[tuple[str, str], ...]
    """Commands that would add something, and what."""
    left_out: tuple[str, ...]
    """What could not be read, one line each."""
    command: str
    """The command that made the report."""


def write_report(
    paths: Sequence[Path], out: Path, *, command: str | None = None, timed: Timed | None = None
) -> tuple[int, tuple[str, ...]]:
    """Write what is known of runs into one HTML file that needs nothing else.

    Args:
        paths: Run folders, folders of runs, files of records.
        out: The file; what is there is replaced.
        command: That makes the report, as a shell reads it; None is the one that runs.
        timed: Measures the latency of all runs where several are compared and records do not say it of each; None
            measures nothing.

    Returns:
        Bytes of the file, and what was left out, one line each.

    Raises:
        UserError: There is nothing to report.
        SaveError: The file cannot be written.
    """
    page = page_of(collect(paths), command or provenance(torch.device("cpu"))["command"], timed)
    data = html_of(page).encode()
    write_whole(out, data)
    return len(data), page.left_out


def page_of(collected: Collected, command: str, timed: Timed | None = None) -> Page:
    """Return the page of everything that was collected; records that cannot be told are left out and named.

    ``command`` and ``timed`` are those of :func:`write_report`.

    Raises:
        UserError: Nothing is left.
    """
    left_out, told = list(collected.left_out), []
    fits = [record for one in collected.subjects if one.run is None for record in one.records if record.kind == "fit"]
    lead = lead_of([record for one in collected.subjects for record in one.records])
    for subject in collected.subjects:
        kept, sections = _sections(subject, left_out, lead)
        facts = None if kept.run is None else _made(kept.place, left_out, summary_of, kept, fits)
        if kept.records or facts is not None:
            told.append((kept if facts is not None else replace(kept, run=None), sections, facts))
    if not told:
        raise UserError(f"nothing is left to report: {left_out[0]}")
    subjects = tuple(subject for subject, _, _ in told)
    runs = told_apart([(facts, subject.place) for subject, _, facts in told if facts is not None])
    anew = False
    if timed is not None and len(runs) > 1 and any(run.latency_ms is None for run in runs):
        anew = True  # all of them: numbers of one column are those of one machine
        times = timed([subject.run for subject in subjects if subject.run is not None])
        runs = [replace(run, latency_ms=ms) for run, ms in zip(runs, times, strict=True)]
    comparison, named, parts = compared(runs), iter(runs), []
    for subject, sections, facts in told:
        heading, row = subject.place if len(sections) > 1 else "", ()
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
    led, chosen = answer.chart is not None and lead is None, _chosen(subjects, runs, comparison)
    trained = [subject.curves for subject, _, facts in told if facts is not None]
    pairs = zip(runs, trained, strict=True)
    curves = {run.name: one for run, one in pairs if one is not None and len(one.epochs) > 1}
    return Page(
        answer=answer,
        comparison=None if comparison is None else comparison_section(comparison, curves, led=led, timed=anew),
        parts=tuple(parts),
        next=_next(subjects, chosen),
        further=_further(chosen),
        left_out=tuple(left_out),
        command=command,
    )


def html_of(page: Page) -> str:
    """Return a page as HTML: every text is escaped, charts are SVG elements, the one script is the page's own."""
    from howdeep import __version__

    strip = None if page.answer.strip is None else picture(figures.strip(page.answer.strip.value))
    chart = None if page.answer.chart is None else picture(page.answer.chart)
    sections = [*([page.comparison] if page.comparison else []), *(one for part in page.parts for one in part.sections)]
    charts = [one for one in (strip, chart) if one is not None] + [one for each in sections for one in each.charts]
    return _template().render(
        page=page,
        strip=strip,
        chart=chart,
        strip_says="" if page.answer.strip is None else sentence(page.answer.strip.value.finding),
        dark=Markup(figures.dark_rules(charts)),
        versions=f"howdeep {__version__}",
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"drawn": _drawn, "unbroken": unbroken}
    folder = files("howdeep.show.report")
    places = (files("howdeep.show") / "palette.css", folder / "page.css", folder / "page.js")
    palette, style, script = (place.read_text(encoding="utf-8") for place in places)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The only script that the page may run is its own.
    environment.globals |= {
        "style": Markup(palette + style),
        "script": Markup(script),
        "script_digest": Markup(f"sha256-{digest}"),
    }
    environment.globals["short_fold"] = SHORT
    return environment.from_string((folder / "page.html").read_text(encoding="utf-8"))


def _drawn(element: str, described_by: str = "") -> Markup:
    """Return an element as it is; a chart says where its numbers stand."""
    if described_by:
        element = element.replace("<svg ", f'<svg aria-describedby="{described_by}" ', 1)
    return Markup(element)


def unbroken(text: str) -> str:
    """Return a text in which no line ends in a range, between a number and what it counts, or around an equals sign."""
    text = re.sub(r"(?<=\d)–(?=\d)", "\N{WORD JOINER}–\N{WORD JOINER}", text)
    text = re.sub(r"(?<=\d) (?=(layers|images|points|ms)\b)", "\N{NO-BREAK SPACE}", text)
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def _sections(subject: Subject, left_out: list[str], lead: Record | None) -> tuple[Subject, list[Section]]:
    """Return the sections of a subject, and the subject without the records that cannot be told.

    The chart of ``lead`` is on the first screen.
    """
    kept, sections = [], []
    for record in subject.records:
        make = partial(section_of, led=record is lead)
        if (section := _made(record.origin.file, left_out, make, record)) is not None:
            kept.append(record)
            sections.append(_with_galleries(section, subject.run, record))
    first, test, run = [], subject.test, subject.run
    if subject.full and test is not None:
        tests = [one.value.n for one in subject.records if one.kind == "evaluation" and one.origin.split == "test"]
        if all(n < test.value.n for n in tests):  # else a record says the same, of at least as many images
            section = _made(test.origin.file, left_out, section_of, test)
            first = [section and _with_galleries(section, run, test)]
    if subject.full and run is not None and subject.curves is not None:
        place = run.path / METRICS
        first.insert(0, _made(place, left_out, training_section, subject.curves, origin_of(run.record, place)))
    sections = [*(section for section in first if section is not None), *sections]
    return replace(subject, records=tuple(kept)), sections


def _with_galleries(section: Section, run: Run | None, record: Record) -> Section:
    """Return the section of an evaluation of a run with the images that it got wrong; other sections as they are."""
    if run is None or record.kind != "evaluation" or record.origin.split is None:
        return section
    return replace(section, galleries=galleries_of(run, record.value, record.origin.split))


def _made(place: Path | str, left_out: list[str], make: Callable[..., T], *of: Any) -> T | None:
    """Return a part of the page, or None and a line where a number is missing or is a word: only this finds it out."""
    try:
        return make(*of)
    except MALFORMED as error:
        left_out.append(f"{place} was left out: it {unlike(error)}")
        return None


def _chosen(subjects: Sequence[Subject], facts: Sequence[RunSummary], comparison: Comparison | None) -> Subject | None:
    """Return the run that the page is about: what was searched for, what is enough, the best, or the first one."""
    runs = [subject for subject in subjects if subject.run is not None]
    found = [record.value for one in subjects for record in one.records if record.kind in ("fit", "transfer")]
    if found:
        return next((one for one in runs if Path(one.place).name == Path(found[0].run).name), None)
    if comparison is not None and comparison.best is not None:
        if comparison.best.one.learned_little:
            return None
        shown = (comparison.enough or comparison.best).one
        return next((one for one, row in zip(runs, facts, strict=True) if row is shown), None)
    return next((one for one in runs if one.full), None)


def _further(chosen: Subject | None) -> tuple[tuple[str, str], ...]:
    """Return the commands that would add something to a run."""
    if chosen is None or chosen.run is None:
        return ()
    there = {record.kind for record in chosen.records} | ({"evaluation"} if chosen.test else set())
    return tuple(
        (shlex.join(["howdeep", command, *_target(chosen), "--json", f"{chosen.place}/{kind}.json"]), shows)
        for kind, (command, shows) in FURTHER.items()
        if kind not in there
    )


def _next(subjects: Sequence[Subject], chosen: Subject | None) -> tuple[str, str] | None:
    """Return what to do next: take the network apart, then cut it; what was searched for or cut is handed over."""
    if chosen is None or chosen.run is None:
        return None
    kinds = {record.kind for subject in subjects for record in subject.records}
    place = chosen.place
    if kinds & {"fit", "transfer"} or chosen.run.is_cut:
        return shlex.join(["howdeep", "export", *_target(chosen), "--out", f"{place}.onnx"]), "hand it over"
    for kind in ("lesion", "cut"):
        if kind not in kinds:
            command, shows = FURTHER[kind]
            return shlex.join(["howdeep", command, *_target(chosen), "--json", f"{place}/{kind}.json"]), shows
    return shlex.join(["howdeep", "explore", *_target(chosen)]), "take units out and see at once what happens"


def _target(subject: Subject) -> list[str]:
    """Return how a command names a run: imported weights do not say on which data, their other records may."""
    assert subject.run is not None
    return [subject.place, *(["--data", subject.measured_on or "DATA"] if "imported" in subject.run.record else [])]
