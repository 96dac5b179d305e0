"""Errors that are meant for the user: one line, no traceback."""

import textwrap
from collections.abc import Iterable
from difflib import get_close_matches

from howdeep.util.text import first_few

SHORT = ("out of memory", "not enough memory", "allocate memory", "bad_alloc", "alloc_failed")
"""What torch, its libraries and the system say, each in words of its own, where there is too little memory."""
SHOWN = 12
"""Known names that an error lists where none is near."""
REASON = 250
"""Characters of a library's complaint that an error repeats."""


class UserError(ValueError):
    """The user's mistake, told in one line that names the thing, its value and what is allowed.

    The command line prints the line to standard error and exits with status 2.
    """


class Stopped(Exception):
    """A command that was asked to stop by a signal, and saved its work.

    Args:
        status: Exit status of the command, 128 + the signal.
        message: One line for the user.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there was too little memory: Python's, torch's on a host or an accelerator."""
    # By the name of its class, as torch is not imported for a line of text.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and any(words in str(error).lower() for words in SHORT)


def reason(error: BaseException, *, lines: int = 1) -> str:
    """Return the first lines of a library's complaint as one, shortened; its class where it says nothing."""
    said = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    return textwrap.shorten(" ".join(said[:lines]) or type(error).__name__, REASON, placeholder=" …")


def unknown(kind: str, value: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not among the known ones, with the nearest that are.

    Args:
        kind: What the name stands for, such as ``"recipe"``.
        value: The name that was given.
        known: The names that are allowed.
    """
    names = sorted(known)
    nearest = get_close_matches(value, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {first_few(names, SHOWN)}"
    return UserError(f"unknown {kind} {value!r}; {hint}")
