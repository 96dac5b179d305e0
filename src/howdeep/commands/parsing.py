"""From words to a command: what is not understood becomes one line that names it and what is allowed."""

import io
import re
from contextlib import nullcontext, redirect_stderr
from dataclasses import is_dataclass
from difflib import get_close_matches
from itertools import takewhile
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import tyro

from howdeep.commands import COMMANDS, Command
from howdeep.util.errors import UserError
from howdeep.util.text import listed, masked

DESCRIPTION = (
    "How deep should my neural network be? Train very deep networks, dissect them, right-size them. "
    "A unit is a residual block: a shortcut and a branch."
)
KINDS = {int: "a whole number", float: "a number", tuple[int, ...]: "whole numbers", tuple[float, ...]: "numbers"}
"""What a value must be, in words."""


def parse(arguments: list[str]) -> Command | None:
    """Return the command, or None after its help was printed.

    Raises:
        UserError: An option or a value is not understood, or something is missing.
    """
    events: list[object] = []

    def rejected(event: object) -> NoReturn:
        """End before the parser draws its box, which takes ten times as long as to find the mistake."""
        events.append(event)
        raise SystemExit(2)

    # Private (tyro 1.0.17): all else that the parser says of a mistake is drawn. Without it the line says less.
    watching = getattr(getattr(tyro, "_errors", None), "on_parse_error", nullcontext)
    try:
        with redirect_stderr(io.StringIO()), watching(rejected):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="howdeep", description=DESCRIPTION, args=arguments
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            return None
        # The error that a record of options raised.
        error: BaseException | None = stop
        while error is not None and not isinstance(error, UserError):
            error = error.__context__
        raise error or _mistake(arguments, vars(events[0]) if events else {}) from None


def _mistake(arguments: list[str], event: dict[str, Any]) -> UserError:
    """Return the mistake in our words.

    Args:
        arguments: What was typed.
        event: What the parser found, by the names of its fields.
    """
    arguments = [masked(word, word) for word in arguments]
    command = arguments[0] if arguments[0] in COMMANDS else ""
    taken = _taken(COMMANDS[command]) if command else {}
    places = [name for name in taken if not name.startswith("-")]
    names = [*taken, "--help", "-h"]
    for word in arguments:
        name = _name(word)
        if re.match("--?[A-Za-z]", name) and name not in names:
            nearest = get_close_matches(name, names, n=1, cutoff=0.7)
            asks = f"did you mean {nearest[0]}?" if nearest else f"{f'howdeep {command}'.strip()} --help lists all"
            return UserError(f"unknown option {name}; {asks}")
    match event:
        case {"missing_arguments": missing}:
            lacks = [one.arg.lowered.metavar if one.arg.is_positional() else one.arg.display_name() for one in missing]
            return UserError(f"{command} needs {listed([one.split()[0] for one in lacks])}")
        case {"reason": "too_few_values", "argument": argument}:
            return UserError(f"{argument.display_name()} needs a value")
        case {"tokens": [word, *_]}:
            return UserError(
                f"{masked(word, word)!r} is too much: {command} takes {' and '.join([*places, 'options'])}"
            )
        case {"argument": argument} if argument is not None and (option := argument.display_name()) in taken:
            allowed = " or ".join(_allowed(taken[option]))
            return UserError(f"{option} {_value(arguments, option)!r} is not allowed: it must be {allowed}")
    return UserError(event.get("message") or f"{' '.join(arguments)!r} is not understood")


def _taken(record: type) -> dict[str, Any]:
    """Return the kind of all that a record of options takes, of records within it too: places first, then options."""
    places: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for field, hint in get_type_hints(record, include_extras=True).items():
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else [hint]
        if isinstance(kind, type) and is_dataclass(kind):
            options |= _taken(kind)
        elif tyro.conf.Positional in notes:
            places |= {note.metavar: kind for note in notes if hasattr(note, "metavar")}
        else:
            name = next((note.name for note in notes if getattr(note, "name", None)), field).replace("_", "-")
            options |= {f"--{name}": kind} | ({f"--no-{name}": kind} if kind is bool else {})
    return places | options


def _allowed(kind: Any) -> list[str]:
    """Return what values of a kind are, in words; None is what an option is without one."""
    if get_origin(kind) in (Union, UnionType):
        return [word for one in get_args(kind) if one is not NoneType for word in _allowed(one)]
    literal = (True, False) if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()
    return sorted(map(str, literal)) or [KINDS[kind]]


def _name(word: str) -> str:
    """Return the name of the option in a word: --batch_size=3 gives --batch-size."""
    return word.partition("=")[0].replace("_", "-")


def _value(arguments: list[str], option: str) -> str:
    """Return what was typed behind an option, up to the next one."""
    at = next(place for place, word in enumerate(arguments) if _name(word) == option)
    _, equals, value = arguments[at].partition("=")
    return " ".join([value] * bool(equals) + [*takewhile(lambda word: not word.startswith("--"), arguments[at + 1 :])])
