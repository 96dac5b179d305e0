"""The command line: parse → call → print. Exit status 0 done, 1 not done, 2 not understood, 128 + signal stopped."""

import io
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import fields, is_dataclass
from signal import SIGINT

from howdeep.commands import COMMANDS, SHARED, Command
from howdeep.commands.overview import overview
from howdeep.commands.parsing import parse
from howdeep.runtime.process import install, keep_freed_memory, unfailing
from howdeep.runtime.ranks import complains_first, this_process
from howdeep.util.errors import Stopped, UserError, out_of_memory, unknown
from howdeep.util.text import masked


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    sys.stdout, sys.stderr = printed, _ = unfailing(sys.stdout), unfailing(sys.stderr)  # type: ignore[arg-type]
    request = install()
    try:
        try:
            status = run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            request.ending = True
    except KeyboardInterrupt:  # while the last line was printed
        status = 128 + request.signum
    printed.flush()
    sys.exit(status or _unprinted(printed.failure))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status: errors that are meant for the user become one line."""
    command = None
    try:
        command = _understood(arguments)
        if command is None:
            return 0
        keep_freed_memory()
        return command.run()
    except UserError as error:
        line, status = str(error), 2
    except (OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        line, status = str(error), 1
        if command is not None and out_of_memory(error):
            line = f"not enough memory{_wanted(error)}: give {_sparing(command)}"
        elif isinstance(error, RuntimeError | MemoryError):
            raise
    except Stopped as stop:
        line, status = str(stop), stop.status
    except KeyboardInterrupt as interrupt:
        line, status = "interrupted", 128 + getattr(interrupt, "signum", SIGINT)
    if this_process().first if command is None else complains_first():
        _complain(line)
    return status


def _wanted(error: BaseException) -> str:
    """Return how much was asked for at once, where the error says so."""
    size = re.search(r"tried to allocate ([\d.]+) (\w+)", str(error), re.IGNORECASE)
    if size is None:
        return ""
    amount = f"{int(size[1]) / 1e9:.3g} GB" if size[2] == "bytes" else f"{size[1]} {size[2]}"
    return f" for another {amount}"


def _sparing(command: Command) -> str:
    """Return what makes a command do with less memory: options that it has."""
    own = [command, *(getattr(command, field.name) for field in fields(command))]
    options = {field.name: getattr(part, field.name) for part in own if is_dataclass(part) for field in fields(part)}
    ways = ["--checkpointing"] if options.get("checkpointing") is False else []
    ways += ["a smaller --batch-size"] if "batch_size" in options else []
    return " or ".join(ways) or "smaller images, or a smaller network"


def _understood(arguments: list[str]) -> Command | None:
    """Return the command, or None where all that was asked for has been printed.

    Raises:
        UserError: There is no such command or option, or the command wants one process and there are several.
    """
    process = this_process()
    match arguments:
        case [] | ["help"] | ["help", "help"]:
            arguments = ["--help"]
        case ["help", command, *_]:
            arguments = [command, "--help"]
    first = arguments[0]
    if not first.startswith("-") and first not in COMMANDS:
        raise unknown("command", first, COMMANDS)
    if first in COMMANDS and first not in SHARED and not process.alone:
        raise UserError(
            f"{first} runs in one process, not in {process.world}: start it without torchrun"
            f" (processes share {', '.join(SHARED)})"
        )
    with nullcontext() if process.first else redirect_stdout(io.StringIO()):  # help is printed once
        if arguments in (["--version"], ["-v"]):
            from howdeep import __version__

            print(f"howdeep {__version__}")
            return None
        if arguments in (["--help"], ["-h"]):
            print(overview())
            return None
        return parse(arguments)


def _complain(line: str) -> None:
    print(f"howdeep: {masked(' '.join(line.splitlines()))}", file=sys.stderr)


def _unprinted(failure: OSError | None) -> int:
    """Return the status of a command that is done but for what was to be printed.

    Whoever closed the pipe knows it: that status is the one of a program that SIGPIPE ended, and there is no line.
    """
    if failure is None:
        return 0
    if isinstance(failure, BrokenPipeError):
        return 141
    _complain(f"standard output was not written: {failure.strerror or failure}")
    return 1
