"""Numbers as a report writes them."""

from howdeep.show.report.facts import Error
from howdeep.util.text import short

NONE = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a number of percent."""
    return NONE if value is None else f"{value:.{digits}f} %"


def error_text(error: Error) -> str:
    """Return an error with its interval and the images behind it: 2.8 % error (95 % interval 1.2–6.4, n = 179)."""
    said = " ".join(word for word in (f"{error.percent:.1f} %", error.split, "error") if word)
    if error.interval is None or error.n is None:
        return said
    low, high = error.interval
    return f"{said} (95 % interval {low:.1f}–{high:.1f}, n = {error.n:,})"


def unbroken(text: str) -> str:
    """Return a text in which no line ends between a number and its sign of percent, or around an equals sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def whole(value: int | None) -> str:
    """Return a count with its thousands."""
    return NONE if value is None else f"{value:,}"


def rough(value: int | None) -> str:
    """Return three digits of a count: 40.6 M."""
    return NONE if value is None else short(value)


def number(value: float | None, digits: int = 3) -> str:
    """Return significant digits of a number of any size."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def milliseconds(value: float | None) -> str:
    """Return a latency."""
    return NONE if value is None else f"{number(value)} ms"


def signed(value: float | None) -> str:
    """Return a change in points, its sign told."""
    return NONE if value is None else minus(f"{value:+.2f}")


def minus(text: str) -> str:
    """Return a number with the sign that is as wide as a plus."""
    return text.replace("-", "−")


def sentence(text: str) -> str:
    """Return a finding as a sentence: a capital at its start unless that is a name, a full stop at its end."""
    if not text:
        return ""
    first = text.split(" ", 1)[0].rstrip(":;,")
    start = text[:1] if any(sign in first for sign in "_:0123456789") else text[:1].upper()
    ends = text[-1:] in (".", "!", "?")
    return start + text[1:] + ("" if ends else ".")
