"""What people write on a command line, as numbers: 30m of training, 2ms of latency, 2GB, 1M, 50%; lists with commas."""

import math
import re

from howdeep.util.errors import UserError

TIME = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds of each unit."""
MEMORY = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 2.0**20, "GiB": 2.0**30}
"""Bytes of each unit."""
COUNT = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
"""Things of each unit."""
PERCENT = {"%": 0.01}
"""Share of the whole."""


def seconds(name: str, text: str) -> float:
    """Return a duration in seconds, such as ``30m``, ``2ms`` or ``1.5h``.

    Args:
        name: The option, for the error.
        text: What the user wrote.

    Raises:
        UserError: It cannot be parsed, or is not above 0 and finite.
    """
    return _parsed(name, text, TIME, "2ms, 45s, 30m or 1.5h")


def memory_bytes(name: str, text: str) -> float:
    """Return an amount of memory in bytes, such as ``2GB`` or ``512MiB``; errors as in :func:`seconds`."""
    return _parsed(name, text, MEMORY, "512MB or 2GB")


def count(name: str, text: str) -> float:
    """Return a number of things, such as ``270k`` or ``1.5M``; errors as in :func:`seconds`."""
    return _parsed(name, text, COUNT, "270k or 1.5M")


def share_or_count(name: str, text: str) -> tuple[float | None, float | None]:
    """Return (share of the whole, None) for ``50%``, or (None, number) for ``20M``; errors as in :func:`seconds`."""
    if text.strip().endswith("%"):
        share = _parsed(name, text, PERCENT, "50%")
        if share > 1:
            raise UserError(f"--{name} {text} is not allowed: it must be at most 100%")
        return share, None
    return None, _parsed(name, text, COUNT, "50% or 20M")


def names(name: str, text: str) -> tuple[str, ...]:
    """Return the entries of a list with commas between, each once.

    Raises:
        UserError: There is none.
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise UserError(f"--{name} {text!r} is empty: name at least one")
    return found


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas between, ascending, each once.

    Raises:
        UserError: An entry is no whole number above 0.
    """
    try:
        found = sorted({int(part) for part in names(name, text)})
    except ValueError:
        found = [0]
    if found[0] < 1:
        example = "it must be whole numbers with commas between, such as 8,20,56"
        raise UserError(f"--{name} {text!r} is not allowed: {example}")
    return tuple(found)


def _parsed(name: str, text: str, units: dict[str, float], examples: str) -> float:
    match = re.fullmatch(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*", text)
    if match is None or match[2] not in units:
        raise UserError(f"--{name} {text!r} is not allowed: it must be a number and its unit, such as {examples}")
    value = float(match[1]) * units[match[2]]
    if not 0 < value < math.inf:
        raise UserError(f"--{name} {text} is not allowed: it must be above 0 and finite")
    return value
