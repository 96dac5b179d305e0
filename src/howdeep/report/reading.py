"""Records of files: which kind, read back into what the analysis returned, with where it comes from."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howdeep.costs.cost import Ladder
from howdeep.costs.paper import Paper
from howdeep.cutting.records import Cut
from howdeep.dissect.lesion import Lesion
from howdeep.dissect.paths import Paths
from howdeep.errors import UserError
from howdeep.evaluation import Evaluation
from howdeep.export import Export
from howdeep.fitting.records import Fit
from howdeep.ladders.degradation import Degradation
from howdeep.masking import masked
from howdeep.records import KIND, from_json
from howdeep.signals import Flow

MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, StopIteration, RecursionError)
"""What reading or drawing raises where a record does not hold what its kind should."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What ``howdeep cost`` writes."""

    ladders: tuple[Ladder, ...] = ()
    """Measured and predicted, one per family and kind of unit."""
    scaled: tuple[Paper, ...] = ()
    """Training on many devices, on paper."""


TYPES: Mapping[str, type] = {
    "lesion": Lesion,
    "paths": Paths,
    "flow": Flow,
    "evaluation": Evaluation,
    "cost": Cost,
    "degradation": Degradation,
    "fit": Fit,
    "cut": Cut,
    "export": Export,
}
"""Kind → what is read."""


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
    """One of :data:`howdeep.records.KINDS`."""
    value: Any
    """What the analysis returned: a record of the kind's type."""
    origin: Origin
    """Where it comes from."""


def read_record(path: Path) -> Record | None:
    """Return the record of a file; None where the file does not say that it is one.

    Raises:
        UserError: It is no JSON, or not what its kind should be.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    kind = data.get(KIND) if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in TYPES:
        return None
    try:
        return Record(kind, from_json(TYPES[kind], data), origin_of(data, path))
    except MALFORMED as error:
        raise UserError(f"{path} is damaged: it is no record of kind {kind} ({error})") from None


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
