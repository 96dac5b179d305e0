"""Options, declared once: a frozen dataclass is the command line, the Python argument and the record.

The types say how the command line reads a value and what its help calls it; amounts are read as people write them:
30m of training, 2ms of latency, 2GB, 1M, 50%, and lists with commas. Nothing here imports torch: the command line is
parsed, and its help printed, without it.
"""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from howdeep.util.errors import UserError, unknown

Flat = tyro.conf.OmitArgPrefixes
"""A dataclass within another, whose options have no prefix."""
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalInts = Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalFloats = Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="FLOAT [FLOAT ...]", help_behavior_hint="")]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
OptionalName = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Amount = Annotated[str | None, tyro.conf.arg(metavar="AMOUNT", help_behavior_hint="")]

# What several commands have, with its help.
DATA = "digits, an image folder, a Parquet file or folder, or hf:owner/name."
Data = Annotated[str, tyro.conf.arg(metavar="DATA", help=DATA)]
OwnData = Annotated[str | None, tyro.conf.arg(metavar="DATA", help=DATA, help_behavior_hint="(default: the run's own)")]
"""Optional where the target is a run folder, which says what it was trained on."""
Split = Annotated[str, tyro.conf.arg(help="train, val or test.")]
SkipBroken = Annotated[bool, tyro.conf.arg(help="Leave broken images out instead of stopping.")]
Limit = Annotated[OptionalInt, tyro.conf.arg(help="Only N images, a stratified sample.")]
TrainingLimit = Annotated[OptionalInt, tyro.conf.arg(help="Only N training images, a stratified sample.")]
BatchSize = Annotated[int, tyro.conf.arg(help="Images at a time.")]
Resize = Annotated[Literal["crop", "pad", "squash"], tyro.conf.arg(help="What happens to images that are not square.")]
Flip = Annotated[
    Literal["auto", "yes", "no"],
    tyro.conf.arg(
        help="Mirror half of the training images; auto does unless all classes are single letters or digits."
    ),
]
Workers = Annotated[int, tyro.conf.arg(help="Processes that decode large images.")]
Device = Annotated[str, tyro.conf.arg(help="auto, cpu, cuda, cuda:1 or mps.")]
Threads = Annotated[Literal["auto"] | int, tyro.conf.arg(metavar="auto|N")]
"""Threads of the host, or ``auto``: what is fastest here."""
InferenceThreads = Annotated[
    Threads,
    tyro.conf.arg(help="Threads of the host; auto takes the number in which passes are fastest here."),
]
TrainingThreads = Annotated[
    Threads,
    tyro.conf.arg(help="Threads of the host; auto times a few steps and times again where the machine gets busy."),
]
TrainingPrecision = Annotated[
    Literal["auto", "fp32", "bf16"],
    tyro.conf.arg(help="Arithmetic of the activations; auto times a few steps and takes the fastest correct one."),
]
InferencePrecision = Annotated[
    Literal["fp32", "bf16", "auto"],
    tyro.conf.arg(help="Arithmetic of the activations; auto times both and takes the fastest correct one."),
]
Key = Annotated[
    OptionalName,
    tyro.conf.arg(help="Which weights of that file, where it holds several, such as state_dict_ema."),
]
Block = Annotated[
    Literal["basic", "bottleneck"] | None, tyro.conf.arg(metavar="{basic,bottleneck}", help_behavior_hint="")
]
Shortcut = Annotated[Literal["A", "B", "C"] | None, tyro.conf.arg(metavar="{A,B,C}", help_behavior_hint="")]

SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""The names a user may give a split, and the field of `Dataset` each one means."""
TIME = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds of each unit."""
MEMORY = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 2.0**20, "GiB": 2.0**30}
"""Bytes of each unit."""
COUNT = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
"""Things of each unit."""
PERCENT = {"%": 0.01}
"""Share of the whole."""


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


def check_split(name: str) -> None:
    """Refuse a name that no split has, before data are read, which can take minutes.

    Raises:
        UserError: It is not train, val, validation or test.
    """
    if name not in SPLIT_NAMES:
        raise unknown("split", name, SPLIT_NAMES)


def processors() -> int:
    """Return how many processors this process may use: those of the machine, or as many as the system lends it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(asked: Threads) -> None:
    """Refuse numbers of threads for which there are no processors.

    Raises:
        UserError: It is not ``auto``, and not 1 to the number of :func:`processors`.
    """
    most = processors()
    if asked != "auto" and not (isinstance(asked, int) and 1 <= asked <= most):
        raise UserError(f"threads {asked} is not allowed: it must be auto, or 1 to {most} here")


def read_seconds(name: str, text: str) -> float:
    """Return a duration in seconds, such as ``30m``, ``2ms`` or ``1.5h``.

    Args:
        name: The option, for the error.
        text: What the user wrote.

    Raises:
        UserError: It cannot be parsed, or is not above 0 and finite.
    """
    return _read(name, text, TIME, "2ms, 45s, 30m or 1.5h")


def read_bytes(name: str, text: str) -> float:
    """Return an amount of memory in bytes, such as ``2GB`` or ``512MiB``; errors as in :func:`read_seconds`."""
    return _read(name, text, MEMORY, "512MB or 2GB")


def read_count(name: str, text: str) -> float:
    """Return a number of things, such as ``270k`` or ``1.5M``; errors as in :func:`read_seconds`."""
    return _read(name, text, COUNT, "270k or 1.5M")


def read_share_or_count(name: str, text: str) -> tuple[float | None, float | None]:
    """Return (share of the whole, None) for ``50%``, or (None, number) for ``20M``; errors as :func:`read_seconds`."""
    if text.strip().endswith("%"):
        share = _read(name, text, PERCENT, "50%")
        if share > 1:
            raise UserError(f"--{name} {text} is not allowed: it must be at most 100%")
        return share, None
    return None, _read(name, text, COUNT, "50% or 20M")


def read_names(name: str, text: str) -> tuple[str, ...]:
    """Return the entries of a list with commas between, each once.

    Raises:
        UserError: There is none.
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise UserError(f"--{name} {text!r} is empty: name at least one")
    return found


def read_whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas between, ascending, each once.

    Raises:
        UserError: An entry is no whole number above 0.
    """
    try:
        found = sorted({int(part) for part in read_names(name, text)})
    except ValueError:
        found = [0]
    if found[0] < 1:
        example = "it must be whole numbers above 0 with commas between, such as 8,20,56"
        raise UserError(f"--{name} {text!r} is not allowed: {example}")
    return tuple(found)


def _read(name: str, text: str, units: dict[str, float], examples: str) -> float:
    match = re.fullmatch(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*", text)
    if match is None or match[2] not in units:
        raise UserError(f"--{name} {text!r} is not allowed: it must be a number and its unit, such as {examples}")
    value = float(match[1]) * units[match[2]]
    if not 0 < value < math.inf:
        raise UserError(f"--{name} {text} is not allowed: it must be above 0 and finite")
    return value
