"""Where results go: tables on standard output, JSON where it is asked for, remarks on standard error."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro.conf

from howdeep.errors import UserError
from howdeep.processes import this_process

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Output:
    """Options that every measuring command has."""

    json: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the result as JSON to this file; - is standard output."""
    overwrite: bool = False
    """Replace files that exist."""

    @property
    def console(self) -> "Console":
        """Where tables go: standard output, unless the JSON goes there."""
        from rich.console import Console

        return Console(stderr=self.json == "-", highlight=False)

    def check(self) -> None:
        """Refuse before anything is measured what could not be written afterwards.

        Raises:
            UserError: The file exists, or its folder does not.
        """
        if self.json not in (None, "-"):
            refuse_existing(Path(str(self.json)), overwrite=self.overwrite)

    def write(self, record: object) -> None:
        """Write a record as JSON if that was asked for."""
        if self.json == "-":
            json.dump(record, sys.stdout, indent=1)
            print()
        elif self.json is not None:
            Path(self.json).write_text(json.dumps(record, indent=1) + "\n")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise a UserError for a file that exists, unless it may be replaced, and for a folder that does not exist."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; name another file, or say --overwrite")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}")


def remark(line: str) -> None:
    """Print one line to standard error; of several processes the first one does."""
    if this_process().first:
        print(line, file=sys.stderr)
