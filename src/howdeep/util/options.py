"""Options, declared once: a frozen dataclass is the command line, the Python argument and the record.

The types say how the command line reads a value and what its help calls it. Nothing here imports torch: the command
line is parsed, and its help printed, without it.
"""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import tyro.conf

from howdeep.util.errors import UserError

Flat = tyro.conf.OmitArgPrefixes
"""A dataclass within another, whose options have no prefix."""
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalInts = Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalFloats = Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="FLOAT [FLOAT ...]", help_behavior_hint="")]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
OptionalName = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Data = Annotated[str, tyro.conf.arg(metavar="DATA")]


def convert(options: object, kind: type, *names: str) -> None:
    """Let fields of a frozen dataclass be given as something else: paths as strings, or strings as paths.

    Args:
        options: The dataclass, in its ``__post_init__``.
        kind: What they become; None stays None.
        names: The fields.
    """
    for name in names:
        if (value := getattr(options, name)) is not None:
            object.__setattr__(options, name, kind(value))


def require_at_least(least: int, options: object, *names: str) -> None:
    """Refuse numbers that are too small; None is not given.

    Args:
        least: The smallest number that is allowed.
        options: A frozen dataclass.
        names: Of its fields.

    Raises:
        UserError: One is smaller.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise UserError(f"{name.replace('_', '-')} {value} is not allowed: it must be at least {least}")


def refuse_without_use(options: object, names: Iterable[str], why: str) -> None:
    """Refuse options that would change nothing.

    Args:
        options: A frozen dataclass.
        names: Of its fields.
        why: Goes behind "is not allowed".

    Raises:
        UserError: One has another value than its default.
    """
    defaults = {field.name: field.default for field in fields(options)}  # type: ignore[arg-type]
    for name in names:
        value = getattr(options, name)
        if value != defaults[name]:
            shown = "" if value is True else f" {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
            raise UserError(f"--{name.replace('_', '-')}{shown} is not allowed {why}")
