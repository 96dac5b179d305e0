"""Passwords of URLs are masked wherever text leaves the program."""

import re
from urllib.parse import unquote, unquote_plus

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
