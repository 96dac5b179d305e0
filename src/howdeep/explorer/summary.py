"""What the page receives once: the network, its units, the sample, and what single deletions cost."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howdeep.analysis.lesion import Lesion, alike
from howdeep.data.decoding import MAX_PIXELS
from howdeep.explorer.engine import Engine
from howdeep.explorer.images import MAX_BYTES
from howdeep.util.records import from_json

MEASURED_AT_ONCE = 120
"""Units up to which the page has their deletions measured without being asked."""
RECORD = "lesion.json"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What does not change while the page is open."""

    engine: Engine
    data: str
    """What the data is called."""
    split: str
    """Of which the sample is."""
    like: tuple[int | None, ...]
    """Units with the same number may change places."""
    unsaved: str | None
    """Why no cut can be saved, or None."""

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        engine, known, network = self.engine, self._known(), self.engine.target.network or {}
        return {
            "name": network.get("library") or network.get("name") or engine.target.name,
            "source": engine.target.name,
            "units": self._units(),
            "classes": engine.classes,
            "data": self.data,
            "split": self.split,
            "n": len(engine.sample.pixels),
            "precision": engine.precision,
            "images": [{"label": int(label)} for label in engine.sample.labels],
            "deletions": known and {"change": [unit.change for unit in known.units], "source": RECORD},
            "measures_itself": len(engine.chain) <= MEASURED_AT_ONCE,
            "save": {"possible": self.unsaved is None, "why": self.unsaved},
            "max_upload_bytes": MAX_BYTES,
            "max_upload_pixels": MAX_PIXELS,
        }

    def _units(self) -> list[dict[str, Any]]:
        chain = self.engine.chain
        parts = zip(chain.names, chain.units, self.engine.own.gates, self.engine.costs.units, self.like, strict=True)
        return [
            {
                "index": index,
                "name": name,
                "removable": unit.merge.removable,
                "own": gate,
                "macs": cost.macs,
                "ms": cost.ms,
                "output": "×".join(str(length) for length in cost.output),
                "like": like,
            }
            for index, (name, unit, gate, cost, like) in enumerate(parts, 1)
        ]

    def _known(self) -> Lesion | None:
        """Return the lesion study that lies in the run folder, if it is one of these units."""
        try:
            lesion = from_json(Lesion, json.loads((Path(self.engine.target.name) / RECORD).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        names = [unit.name for unit in lesion.units]
        return lesion if lesion.kind == "delete" and names == self.engine.chain.names else None


def like_of(engine: Engine) -> tuple[int | None, ...]:
    """Return which units may change places: those of equal shape have one number, None stays."""
    groups = alike(engine.cache.chain, engine.sample.batches[0].images)
    return tuple(
        next((number for number, group in enumerate(groups) if index in group), None)
        for index in range(len(engine.chain))
    )
