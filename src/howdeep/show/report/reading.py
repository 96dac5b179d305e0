"""Records of files: which kind, read back into what the analysis returned, with where it comes from."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from howdeep.analysis.depths import Probe
from howdeep.analysis.evaluation import Evaluation
from howdeep.analysis.lesion import Lesion
from howdeep.analysis.options import Kind
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow
from howdeep.costs.cost import Cost
from howdeep.cutting.records import Cut
from howdeep.exporting.export import Export
from howdeep.runs.folder import METRICS, RECORD, RESULT, Run, is_run, open_run
from howdeep.search.degradation import Degradation
from howdeep.search.fit import Fit
from howdeep.search.transfer import Transfer
from howdeep.training.log import Curves, curves_of
from howdeep.util.errors import UserError
from howdeep.util.records import (
    KIND,
    MALFORMED,
    SCHEMA,
    SCHEMA_NOW,
    OtherVersionError,
    from_json,
    read_from,
    unlike,
)
from howdeep.util.text import masked

STORY = (Fit, Transfer, Degradation, Probe, Cut, Evaluation, Lesion, Paths, Flow, Cost, Export)
"""What is read, in the order in which it tells a story."""
TYPES = {kind.__name__.lower(): kind for kind in STORY}
LESIONS = get_args(Kind)
"""Kinds of lesions, in the same order."""
NESTED = "runs"
"""Folder in which ``fit`` keeps its runs."""
UNREADABLE = (UserError, OSError, *MALFORMED)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a record comes from, as far as it says."""

    file: str = ""
    """The file."""
    command: str | None = None
    """The command that made it, as a shell would read it."""
    written: str | None = None
    """Day on which the file was written, such as 2026-11-24."""
    versions: Mapping[str, str] | None = None
    """Library → version."""
    device: str | None = None
    """What it ran on."""
    target: str | None = None
    """The network, as the user called it."""
    data: str | None = None
    """The data, likewise."""
    split: str | None = None
    """``train``, ``val`` or ``test``."""

    @property
    def small_print(self) -> str:
        """File, day, versions and device in one line."""
        versions = self.versions or {}
        shown = [f"{name} {versions[name]}" for name in ("howdeep", "torch") if name in versions]
        return " · ".join(part for part in (self.file, self.written, *shown, self.device) if part)


@dataclass(frozen=True)
class Record:
    """One record of a file."""

    kind: str
    """A name of :data:`TYPES`."""
    value: Any
    """What the analysis returned: a record of the kind's type."""
    origin: Origin
    """Where it comes from."""


def read_record(path: Path) -> Record | None:
    """Return the record of a file; None where the file does not say that it is one.

    Raises:
        UserError: It is no JSON, or not what its kind should be.
    """
    with read_from(path, "the command that wrote it writes it anew with --overwrite"):
        data = json.loads(path.read_bytes())
        kind = data.get(KIND) if isinstance(data, dict) else None
        if not isinstance(kind, str) or kind not in TYPES:
            return None
        if (schema := data.get(SCHEMA, SCHEMA_NOW)) != SCHEMA_NOW:
            raise OtherVersionError(f"its {SCHEMA} is {schema}, and this one reads {SCHEMA_NOW}")
        return Record(kind, from_json(TYPES[kind], data), origin_of(data, path))


def origin_of(data: Mapping[str, Any], path: Path) -> Origin:
    """Return where plain data says that it comes from; what is not said, or not as it should be, is left out."""
    device, versions = data.get("device"), data.get("versions")
    texts = {
        name: masked(data[name]) for name in ("command", "target", "data", "split") if isinstance(data.get(name), str)
    }
    return Origin(
        file=str(path),
        written=time.strftime("%Y-%m-%d", time.gmtime(path.stat().st_mtime)),
        versions=versions if isinstance(versions, dict) else None,
        device=str(device.get("name")) if isinstance(device, dict) else None,
        **texts,
    )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing that a report tells about: a run, or records that belong to no run."""

    place: str
    """Folder or file, as the user called it."""
    run: Run | None = None
    """The run; None where there is none."""
    curves: Curves | None = None
    """How it was trained."""
    seconds: float | None = None
    """Time of its training; None before its end."""
    test: Record | None = None
    """Its test, an evaluation, from the end of its training."""
    records: tuple[Record, ...] = ()
    """What was measured beside that."""
    full: bool = True
    """Whether training and test have sections; false for the many runs of a folder, which are compared."""

    @property
    def measured_on(self) -> str | None:
        """The data whose classes are the network's, as its records name them; None where they name none or several.

        A probe gives the network a classifier of its own, for whatever data.
        """
        named = {record.origin.data for record in self.records if record.kind != "probe"} - {None}
        return named.pop() if len(named) == 1 else None


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Everything that a report tells about."""

    subjects: tuple[Subject, ...]
    """In the order asked for."""
    left_out: tuple[str, ...] = ()
    """What could not be read, one line each."""

    @property
    def runs(self) -> tuple[Subject, ...]:
        """Those that are runs."""
        return tuple(subject for subject in self.subjects if subject.run is not None)


def collect(paths: Sequence[Path]) -> Collected:
    """Return what is in run folders, folders of runs and files of records.

    Raises:
        UserError: Nothing was named; a path holds nothing to report; or a file that was named cannot be read.
    """
    if not paths:
        raise UserError("no RUN was named: give run folders, folders of runs, or files that --json wrote")
    left_out: list[str] = []
    unique = {path.resolve(): path for path in reversed(paths)}
    chosen = [path for path in paths if unique.pop(path.resolve(), None) is not None]
    subjects: list[Subject] = []
    for path in chosen:
        if path.is_dir():
            subjects += [_of_run(path, left_out)] if is_run(path) else _of_folder(path, left_out)
        elif not path.exists():
            raise UserError(f"there is no run folder, folder of runs or file {path}")
        elif (record := read_record(path)) is not None:
            subjects.append(Subject(place=str(path), records=(record,)))
        else:
            commands = "evaluate, lesion, paths, flow, probe, cost and cut write one with --json"
            raise UserError(f"{path} is not a record of howdeep: {commands}")
    return Collected(subjects=tuple(subjects), left_out=tuple(left_out))


def _of_folder(path: Path, left_out: list[str]) -> list[Subject]:
    """Return the records of a folder, and its runs one level below, or below its folder ``runs``."""
    records = _records(path, left_out)
    folders = [place for within in (path, path / NESTED) if within.is_dir() for place in sorted(within.iterdir())]
    runs = sorted((_of_run(place, left_out, full=False) for place in folders if is_run(place)), key=_in_story)
    if not records and not runs:
        reason = f" ({left_out[0]})" if left_out else ""
        raise UserError(f"{path} holds no run and no record of howdeep{reason}")
    return [*([Subject(place=str(path), records=records)] if records else []), *runs]


def _in_story(subject: Subject) -> tuple[bool, int]:
    """Return where a run of a folder is told: by the first of its records, and cuts after what they were cut from."""
    told = (STORY.index(type(record.value)) for record in subject.records)
    return subject.run is not None and subject.run.is_cut, min(told, default=len(STORY))


def _of_run(path: Path, left_out: list[str], *, full: bool = True) -> Subject:
    run = _part(path / RECORD, lambda: open_run(path), left_out)
    records = _records(path, left_out)
    if run is None:
        if full and not records:
            raise UserError(left_out[-1])
        return Subject(place=str(path), records=records)
    result = _part(path / RESULT, lambda: run.result() or {}, left_out)
    test = None if result is None else _part(path / RESULT, lambda: _test(run, result), left_out)
    # The curves end with the test, so that a result that cannot be read would be told twice.
    curves = None if result is None else _part(path / METRICS, lambda: curves_of(run), left_out)
    seconds = result.get("seconds") if isinstance(result, dict) else None
    return Subject(
        place=str(path),
        run=run,
        curves=curves if curves and curves.epochs else None,
        test=test,
        records=records,
        seconds=seconds if isinstance(seconds, int | float) else None,
        full=full,
    )


def _test(run: Run, result: dict) -> Record | None:
    if not result.get("test"):
        return None
    origin = origin_of({**run.record, "data": run.record["data"].get("source"), "split": "test"}, run.path / RESULT)
    return Record("evaluation", from_json(Evaluation, result["test"]), origin)


def _records(folder: Path, left_out: list[str]) -> tuple[Record, ...]:
    """Return the records of a folder in the order of a story; files that do not say that they are one are no matter."""
    paths = [path for path in sorted(folder.glob("*.json")) if path.name not in (RECORD, RESULT)]
    found = [_part(path, lambda path=path: read_record(path), left_out) for path in paths]

    def place(record: Record) -> tuple[int, int]:
        kind = record.value.kind if record.kind == "lesion" else LESIONS[0]
        return STORY.index(type(record.value)), LESIONS.index(kind) if kind in LESIONS else len(LESIONS)

    return tuple(sorted((record for record in found if record is not None), key=place))


def _part(path: Path, read: Callable[[], T], left_out: list[str]) -> T | None:
    """Return a part of a folder, or None and a line where it cannot be read."""
    try:
        return read()
    except UNREADABLE as error:
        told = isinstance(error, UserError) and not isinstance(error, OtherVersionError)
        left_out.append(str(error) if told else f"{path} {unlike(error)}")
        return None
