"""From words to a command: what is not understood becomes one line that names it and what is allowed."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from itertools import takewhile

import tyro

from howdeep.commands import COMMANDS, Command
from howdeep.util.errors import UserError
from howdeep.util.text import listed, masked

DESCRIPTION = (
    "How deep should my neural network be? Train very deep networks, dissect them, right-size them. "
    "A unit is a residual block: a shortcut and a branch."
)
KINDS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "[INT [INT ...]]": "whole numbers",
    "[FLOAT [FLOAT ...]]": "numbers",
    "int()": "a whole number",
    "float": "a number",
}
"""What the parser calls the kind of a value, in words."""


def parse(arguments: list[str]) -> Command | None:
    """Return the command, or None after its help was printed.

    Raises:
        UserError: An option or a value is not understood, or something is missing.
    """
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return _parser(arguments)
    except SystemExit as stop:
        if stop.code in (0, None):
            return None
        # The error that a record of options raised, which the parser turned into its box.
        error: BaseException | None = stop
        while error is not None and not isinstance(error, UserError):
            error = error.__context__
        if error is not None:
            raise error from None
        if (speakable := [masked(word, word) for word in arguments]) != arguments:
            return parse(speakable)  # which fails as well; what the parser says is broken into lines anywhere
        raise _mistake(arguments, one_line(complaint.getvalue())) from None


def _parser(arguments: Sequence[str]) -> Command:
    return tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="howdeep", description=DESCRIPTION, args=arguments)


def one_line(box: str) -> str:
    """Return what the parser says in its box as one line, without its frame and its hints to the help."""
    lines = [re.sub(r"[╭╮╰╯│─]+|-{3,}|^[|+]|[|+]$", " ", line.strip()).strip() for line in box.splitlines()[1:]]
    text = re.split(r"For full helptext|Argument helptext|Got errors", " ".join(line for line in lines if line))[0]
    text = re.sub(r"Error parsing \S*__\S*: |\(default: \S+\)|in howdeep \S+ --help", "", text)
    return re.sub(r"\s+", " ", text).strip()


def _mistake(arguments: list[str], said: str) -> UserError:
    """Return the mistake in our words, or in the parser's where they say something else."""
    command = arguments[0] if arguments[0] in COMMANDS else ""
    places, options = _taken(command)
    for word in arguments:
        name = word.partition("=")[0].replace("_", "-")
        if re.match("--?[A-Za-z]", name) and name not in options:
            nearest = get_close_matches(name, options, n=1, cutoff=0.7)
            asks = f"did you mean {nearest[0]}?" if nearest else f"{f'howdeep {command}'.strip()} --help lists all"
            return UserError(f"unknown option {name}; {asks}")
    if missing := re.match(r"Missing from .*?: (.*)\(required\)", said):
        return UserError(f"{command} needs {listed([one.split()[0] for one in missing[1].split('(required)')])}")
    if empty := re.match("Missing value for argument '(.*?)'", said):
        return UserError(f"{empty[1]} needs a value")
    if choice := re.match(r"invalid choice '.*' for argument '(.*)'\. Expected one of \((.*)\)", said):
        return _refused(arguments, choice[1], sorted(re.findall("'(.*?)'", choice[2])))
    if kind := re.match(r"Error parsing (--\S+): (?:no type matching (.*) could|.*(int\(\)|float):? )", said):
        return _refused(arguments, kind[1], re.sub("[{}]", "", kind[2] or kind[3]).split("|"))
    if extra := re.match("Unrecognized options: (.*)", said):
        return UserError(f"{extra[1]!r} is too much: {command} takes {places}options")
    return UserError(said)


def _refused(arguments: list[str], option: str, allowed: list[str]) -> UserError:
    """Return what is wrong with the value of an option."""
    words = [word for argument in arguments for word in re.sub("^(--[^=]+)=", r"\1\0", argument).split("\0")]
    value = takewhile(lambda word: not word.startswith("--"), words[words.index(option) + 1 :])
    kinds = [KINDS.get(kind, kind) for kind in allowed if kind != "None"]
    return UserError(f"{option} {' '.join(value)!r} is not allowed: it must be {' or '.join(kinds)}")


def _taken(command: str) -> tuple[str, list[str]]:
    """Return what a command takes before its options, and their names, as its help lists them."""
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        _parser([command, "--help"] if command else ["--help"])
    usage, _, rest = printed.getvalue().partition("\n\n")
    places = re.sub(r"\[(-|[A-Z]+ OPTIONS)[^]]*\]", "", usage.partition("[-h]")[2]).strip()
    lines = re.findall(r"^ +(-.*?)(?:  |$)", rest, re.MULTILINE)
    names = [name for line in lines for name in re.findall(r"--?[a-z][\w-]*", line)]
    return f"{places} and " if places else "", names
