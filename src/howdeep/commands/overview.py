"""What ``howdeep --help`` says: every command in a line, grouped by what one wants to do."""

import inspect
import textwrap

from howdeep.commands import GROUPS
from howdeep.commands.parsing import DESCRIPTION

WIDTH = 80


def overview() -> str:
    """Return the groups of commands, an example of the first command of each, and where options are listed."""
    lines = ["usage: howdeep COMMAND [OPTIONS]", "", *textwrap.wrap(DESCRIPTION, WIDTH)]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}: {example(next(iter(commands.values())))}"]
        lines += [f"  {name:13}{summary(command)}" for name, command in commands.items()]
    lines += ["", "howdeep COMMAND --help: its options and an example; howdeep --version: which one"]
    return "\n".join(lines)


def summary(command: type) -> str:
    """Return what a command does, in a line."""
    return inspect.getdoc(command).partition("\n")[0]  # type: ignore[union-attr]


def example(command: type) -> str:
    """Return how a command is typed."""
    return inspect.getdoc(command).partition("Example: ")[2].partition("\n")[0]  # type: ignore[union-attr]
