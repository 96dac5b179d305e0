"""Steps of a long work whose results are kept in one small file, so that the same command goes on."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from howdeep import checkpoints
from howdeep.errors import UserError
from howdeep.keys import difference
from howdeep.training.interrupt import patience


@dataclass(frozen=True)
class Kept:
    """Results by name; whoever asks for one again gets what was computed the first time, to the bit."""

    place: Path | None = None
    """The file; None keeps nothing."""
    key: dict = field(default_factory=dict)
    """Everything that the results depend on; a file with another key is refused."""
    results: dict[str, Any] = field(default_factory=dict)
    """What is known by now, plain data."""

    @classmethod
    def open(cls, place: Path | None, key: dict) -> "Kept":
        """Return what is kept in a file, or nothing where there is none.

        Raises:
            UserError: The file belongs to other work, or is damaged.
        """
        if place is None or not place.exists():
            return cls(place, key)
        try:
            found = json.loads(place.read_bytes())
        except ValueError:
            raise UserError(f"{place} is damaged; remove it") from None
        require_same(place, found["key"], key)
        return cls(place, key, found["results"])

    def result(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the result of a name; it is computed, and kept, where it is not known."""
        if name not in self.results:
            with patience():
                # As it is written down, so that a resumed work goes on from the very same values.
                self.results[name] = json.loads(json.dumps(compute()))
                if self.place is not None:
                    record = {"key": self.key, "results": self.results}
                    checkpoints.write_whole(self.place, json.dumps(record).encode())
        return self.results[name]

    def finished(self) -> None:
        """Remove the file: the record is written."""
        if self.place is not None:
            self.place.unlink(missing_ok=True)


def require_same(place: Path, found: dict, key: dict) -> None:
    """Refuse what was made with other options.

    Raises:
        UserError: It was; the first difference is named.
    """
    if other := difference(found, key):
        raise UserError(f"{place} belongs to another {other}; remove it, or name another --out")
