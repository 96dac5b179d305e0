"""What the processes of the tests leave out, as no test could tell: the digits are decoded once and not for each of
hundreds of commands, and nothing waits for the disk, since no test cuts the power."""

import os
from collections.abc import Callable
from functools import cache

from torch import Tensor

from howdeep.data import sources
from howdeep.data.images import Listing, Problem, Source
from howdeep.data.storage import Decoded
from howdeep.data.view import Headers, View, read_headers


class Digits(Listing):
    """The digits as they were listed once: equal to nothing else, so that what was made of them is found again."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


READ, DECODE = sources.read_digits, sources._decoded


def _read() -> Source:
    from sklearn.datasets import load_digits  # some tests have fewer digits

    return _listed(load_digits)


@cache
def _listed(_load: Callable) -> Source:
    source = READ()
    (listing,) = source.parts.values()
    return Source(source.name, source.classes, {"train": Digits(listing.images, listing.labels, listing.names)})


def _read_headers(listing: Listing, part: str) -> Headers:
    return (_headers if isinstance(listing, Digits) else read_headers)(listing, part)


_headers = cache(read_headers)


Images = tuple[Decoded, Tensor, dict[int, Problem]]


def _decode(listing: Listing, headers: Headers, view: View, part: str) -> Images:
    return _decoded(listing, view, part) if isinstance(listing, Digits) else DECODE(listing, headers, view, part)


@cache
def _decoded(listing: Digits, view: View, part: str) -> Images:
    return DECODE(listing, _headers(listing, part), view, part)


def install() -> None:
    """Leave it out in this process."""
    sources.read_digits, sources.read_headers, sources._decoded = _read, _read_headers, _decode
    os.fsync = lambda descriptor: None
