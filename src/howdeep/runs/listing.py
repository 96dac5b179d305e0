"""The runs below a folder, one line each: read from their files alone: without torch, a list takes no seconds."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from howdeep.util.errors import UserError
from howdeep.util.records import MALFORMED

RECORD, METRICS, CHECKPOINTS, RESULT = "run.json", "metrics.jsonl", "checkpoints", "result.json"
BEST, CUT = "best", "cut.json"
"""What lies in a run folder (see :mod:`howdeep.runs.folder`), and in that of a cut network."""
DEEPEST = 3
"""Folders between the one that is listed and a run, such as ``fit/runs/cifar_resnet20``."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One run."""

    run: str
    """Its folder."""
    network: str
    """As a catalogue or a library calls it; with the units that a cut left of it."""
    data: str | None
    """What it was trained on, as DATA names it; None for imported weights."""
    epochs: float | None
    """Passes over the training images so far; None where it was not trained here."""
    of_epochs: float | None
    """Passes that were asked for; None where nothing says so, or it was trained by steps."""
    split: str | None
    """``test``, or ``val`` where the test split was not read; None where no error is known."""
    error_percent: float | None
    """On that split; of the best epoch where that is kept."""
    images: int | None
    """Of that split; None where nothing says so."""
    when: str
    """When something was last written there: the local time, such as 2026-11-24 18:03."""


def is_run(path: Path) -> bool:
    """Return whether a folder is a run."""
    return (path / RECORD).is_file()


def runs_below(folder: Path, deepest: int = DEEPEST) -> Iterator[Path]:
    """Yield the runs of a folder, itself among them, by name; none within a run, none in a hidden folder."""
    if is_run(folder):
        yield folder
    elif deepest >= 0:
        with suppress(OSError):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.is_dir() and not entry.name.startswith("."):
                    yield from runs_below(folder / entry.name, deepest - 1)


def listed(folder: Path) -> tuple[list[Listed], list[str]]:
    """Return the runs below a folder, the newest last, and a line for each whose record cannot be read.

    Raises:
        UserError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder" if folder.exists() else f"there is no folder {folder}")
    found, left_out = [], []
    for run in runs_below(folder):
        try:
            found.append(_listed(run))
        except (OSError, *MALFORMED):
            left_out.append(f"{run / RECORD} is damaged, or was written by another version of howdeep")
    if not found and not left_out:
        raise UserError(f"there is no run in {folder}, nor {DEEPEST} folders below it")
    return sorted(found, key=lambda one: one.when), left_out


def _listed(run: Path) -> Listed:
    record = json.loads((run / RECORD).read_bytes())
    network, config, trained = record["network"], record.get("config", {}), record.get("recipe") or {}
    last = _epochs(run)[-1:]
    split, error, images = _error(run, last[0] if last else {})
    cut = " cut" if record.get("removed") or "first" in record else ""
    written = max((run / name).stat().st_mtime for name in (RECORD, METRICS, RESULT, CUT) if (run / name).exists())
    return Listed(
        run=str(run),
        network=f"{network.get('library') or network['name']}{cut}",
        data=None if "imported" in record else record["data"]["source"],
        epochs=last[0]["epoch"] if last else None,
        of_epochs=trained.get("epochs") or config.get("epochs"),
        split=split,
        error_percent=error,
        images=images,
        when=f"{datetime.fromtimestamp(written):%Y-%m-%d %H:%M}",
    )


def _epochs(run: Path) -> list[dict[str, Any]]:
    path, lines = run / METRICS, []
    for line in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError):  # a crash may have cut the last one short
            lines.append(json.loads(line))
    return [line for line in lines if line.get("event") == "epoch"]


def _error(run: Path, last: Mapping[str, Any]) -> tuple[str | None, float | None, int | None]:
    """Return split, error and number of images: of the test where it was read, else of the validation."""
    if (test := _read(run / RESULT).get("test")) is not None:
        return "test", test["error_percent"], test["n"]
    if not last and (test := _read(run / CUT).get("test")) is not None:
        return "test", test["cut"]["error_percent"], test["original"]["n"]
    for state in run.glob(f"{BEST}/step-*/state.json"):
        best = json.loads(state.read_bytes())
        return "val", best["error_percent"], best["images"]
    error = last.get("validation_error_percent")
    return None if error is None else "val", error, None


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.exists() else {}
