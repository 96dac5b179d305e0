"""What is there already: the runs below a folder; and what a shell needs to complete words."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.commands.output import Output, remark
from howdeep.util.errors import unknown
from howdeep.util.options import Flat

Order = Literal["when", "error", "run", "network", "data"]
SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List the runs below a folder: network, data, error, when.

    Example: howdeep runs --sort error
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = Path(".")
    """A folder of runs; without it this one."""
    sort: Order = "when"
    """The newest last; the fewest errors first; the others by name."""
    output: Flat[Output] = field(default_factory=Output)

    def run(self) -> int:
        """Print the table; the status is 1 where a run cannot be read."""
        from howdeep.runs.listing import listed
        from howdeep.show.catalogue_tables import runs_table
        from howdeep.util.records import tagged

        self.output.check()
        found, left_out = listed(self.folder)
        keys = {"error": lambda one: (one.error_percent is None, one.error_percent)}
        found.sort(key=keys.get(self.sort, lambda one: getattr(one, self.sort) or ""))
        self.output.finish(tagged("runs", {"runs": [asdict(one) for one in found]}), runs_table(found, self.folder))
        for line in left_out:
            remark(f"howdeep: {line}")
        return 1 if left_out else 0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print what lets a shell complete commands and options.

    Example: howdeep completion bash

    For good: eval "$(howdeep completion bash)" in ~/.bashrc; for zsh its
    output in a file _howdeep of a folder in $fpath; for fish a file
    ~/.config/fish/completions/howdeep.fish.
    """

    shell: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SHELL")]
    """bash, zsh or fish."""

    def __post_init__(self) -> None:
        if self.shell not in SHELLS:
            raise unknown("shell", self.shell, SHELLS)

    def run(self) -> int:
        """Print it."""
        from howdeep.commands.parsing import parse

        parse(["--tyro-print-completion", self.shell])
        return 0
