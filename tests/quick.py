"""What the processes of the tests leave out, as no test could tell: the digits are decoded once and not for each of
hundreds of commands, the network of a library is cut into units once per size, which takes most of a second and gives
the same every time, latencies are measured in the fewest runs, as only the tests of the stopwatch ask how exact they
are, and nothing waits for the disk, since no test cuts the power."""

import os
from collections.abc import Callable
from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn

from howdeep.convert.libraries import LibraryNetwork
from howdeep.convert.split import Unravelled
from howdeep.data import sources
from howdeep.data.images import Listing, Problem, Source
from howdeep.data.storage import Decoded
from howdeep.data.view import Headers, View, read_headers
from howdeep.deploying.latency import latencies


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


CHAIN = LibraryNetwork.chain
SMALL = 1_000_000
"""Parameters of the largest network of which a copy is kept."""
_chains: dict[tuple, tuple[Unravelled, dict[str, str]]] = {}


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _chain(self: LibraryNetwork) -> Unravelled:
    """Return the chain of a network: a copy of that of its like, with its own weights."""
    own = tensors_of(self.model)
    key = self.name, self.size, self.classes, tuple((name, one.shape) for name, one in own.items())
    if key not in _chains:
        chain = CHAIN(self)
        names = {id(tensor): name for name, tensor in own.items()}
        if sum(tensor.numel() for tensor in own.values()) > SMALL:
            return chain
        places = {place: names[id(tensor)] for place, tensor in tensors_of(chain).items() if id(tensor) in names}
        _chains[key] = deepcopy(chain), places
        return chain
    kept, places = _chains[key]
    chain = deepcopy(kept)
    with torch.no_grad():
        for place, tensor in tensors_of(chain).items():
            if place in places:
                tensor.copy_(own[places[place]])
    return chain


def install() -> None:
    """Leave it out in this process."""
    LibraryNetwork.chain = _chain
    latencies.__kwdefaults__["seconds"] = 0.0  # type: ignore[index]
    sources.read_digits, sources.read_headers, sources._decoded = _read, _read_headers, _decode
    os.fsync = lambda descriptor: None
