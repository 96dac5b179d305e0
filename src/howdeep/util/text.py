"""Text that leaves the program: numbers as people read them, and passwords of URLs masked."""

import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote, unquote_plus

from howdeep.util.intervals import of_share

Report = Callable[[str], None]
"""Receives one line for the user at a time."""
NONE = "–"
"""What stands where there is no number."""


def number(value: float | None, digits: int = 3, *, zeros: bool = False) -> str:
    """Return significant digits of a number of any size, and whole thousands as such: 1.5, 12,345.

    Args:
        value: None has no digits.
        digits: How many.
        zeros: Keep the last digits where they are 0, as measured numbers below each other do: 1.50.
    """
    if value is None:
        return NONE
    if abs(value) >= 10 ** (digits - zeros):
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".") if zeros else f"{value:.{digits}g}"


def fixed(value: float | None, places: int = 2) -> str:
    """Return a number with ``places`` digits behind the point."""
    return NONE if value is None else f"{value:.{places}f}"


def whole(value: int | None) -> str:
    """Return a count with its thousands: 1,202."""
    return NONE if value is None else f"{value:,}"


def counted(number: float, what: str) -> str:
    """Return a number with its noun, which is given in the singular: 1 class, 2 classes, 1.5 epochs."""
    digits = f"{number:,}" if isinstance(number, int) else f"{number:.4g}"
    return f"{digits} {what if number == 1 else plural(what)}"


def plural(what: str) -> str:
    """Return the plural of a noun of regular English: images, classes, entries."""
    if what.endswith(("s", "x", "tch", "sh")):
        return f"{what}es"
    return f"{what[:-1]}ies" if re.search("[^aeiou]y$", what) else f"{what}s"


def short(count: float | None) -> str:
    """Return three digits of a count: 40.6 M."""
    if count is None:
        return NONE
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:#.3g}".rstrip(".") + f" {sign}"
    return f"{count:.0f}"


def share_text(share: float, digits: int = 2) -> str:
    """Return a share in percent with significant digits, however small."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 ** (digits - 1) - 0.05 else f"{value:.{digits}g} %"


def percent_text(percent: float, n: int) -> str:
    """Return a share as a terminal and a chart tell it: 2.79 % (95 %: 0.91 to 6.40)."""
    low, high = of_share(percent, n)
    return f"{percent:.2f} % (95 %: {low:.2f} to {high:.2f})"


def change_text(low: float, high: float) -> str:
    """Return the ends of a change's interval as a terminal and a chart tell them: -0.40 to +4.84."""
    return f"{low:+.2f} to {high:+.2f}"


def minus(text: str) -> str:
    """Return a number with the sign that is as wide as a plus."""
    return text.replace("-", "−")


def milliseconds(value: float | None) -> str:
    """Return a latency."""
    return NONE if value is None else f"{number(value)} ms"


def seconds_text(seconds: float) -> str:
    """Return a duration as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bytes_text(count: int | None) -> str:
    """Return an amount of memory as a person would say it."""
    if count is None:
        return "unknown"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return names in one line; of many the first few, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def sentence(text: str) -> str:
    """Return a finding as a sentence: a capital at its start unless that is a name, a full stop at its end."""
    if not text:
        return ""
    first = text.split(" ", 1)[0].rstrip(":;,")
    start = text[:1] if any(sign in first for sign in "_:0123456789") else text[:1].upper()
    return start + text[1:] + ("" if text[-1] in ".!?" else ".")


MASK = "***"
_ENDS = r"(?P<before>[a-zA-Z][\w+.-]*://[^\s:/@?]*:)(?P<secret>{any}+)(?=@)"
_IN_TEXT, _IN_URL = re.compile(_ENDS.format(any=r"\S")), re.compile(_ENDS.format(any=r"[\s\S]"))
"""scheme://user:secret@…; greedy, so that a password that holds @ or / is masked to its end."""
_IN_QUERY = re.compile(r"(?P<before>[?&;](?:password|passwd|pwd|sslpassword)=)(?P<secret>[^&;\s]+)", re.IGNORECASE)
_BETWEEN = re.compile(r"[@/:?#&\s]+")
SHORTEST = 3
"""Pieces of a password with fewer characters say nothing, and are found in any text."""


def masked(text: str, url: str = "") -> str:
    """Return a text without passwords.

    Args:
        text: Any.
        url: Where the text is what others say of one URL, that URL: of a password that is not encoded as it should be
            they may have taken a piece for the host, and name it.
    """
    secrets = {found["secret"] for pattern in (_IN_QUERY, _IN_URL) for found in pattern.finditer(url)}
    pieces = {piece for secret in secrets for piece in (secret, *_BETWEEN.split(secret))}
    spellings = {spelled for piece in pieces for spelled in (piece, unquote(piece), unquote_plus(piece))}
    for piece in sorted(spellings, key=len, reverse=True):
        if len(piece) >= SHORTEST:
            text = text.replace(piece, MASK)
    for pattern in (_IN_QUERY, _IN_TEXT):
        text = pattern.sub(rf"\g<before>{MASK}", text)
    return text
