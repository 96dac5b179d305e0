"""Activations at places on the way through a network, kept: after a change only what follows it is computed.

What a route has passed up to some place is a prefix; equal prefixes have equal activations, whichever route and
whichever tab they belong to. Of a network whose activations are too large to keep them all, those at every second,
third, … place are kept.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor

from howdeep.analysis.routes import Route, Step, baseline
from howdeep.chain import Chain, run

LIMIT = 1 << 30
"""Bytes of activations that are kept at most."""
MOST_PREFIXES = 1 << 18
"""Prefixes that have a number at a time."""


class ActivationCache:
    """Logits of routes through one network, and the activations on their way.

    Args:
        chain: The network, in evaluation mode.
        chunks: The images, shape (chunk, channels, height, width) each.
        autocast: The precision.
        limit: Bytes of activations that are kept at most. Those of the network as it is, to which most changes are
            made, go last, before them those of the latest routes.
    """

    def __init__(self, chain: Chain, chunks: list[Tensor], *, autocast: torch.autocast, limit: int = LIMIT) -> None:
        self.chain, self.chunks, self.autocast, self.limit = chain, chunks, autocast, limit
        self._own = baseline(chain)
        self.steps = 0
        self._numbers: dict[tuple[int, Step], int] = {}
        self._maps: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._bytes, self._spacing = 0, 1

    def logits(self, route: Route, chunk: int) -> Tensor:
        """Return the logits of one chunk of images on a route, shape (chunk, classes), float32.

        ``steps`` counts the places of the body that had to be computed.
        """
        self._refresh(chunk, list(self._ways(self._own)))
        self._refresh(chunk, ways := list(self._ways(route)))
        with torch.inference_mode(), self.autocast:
            known = next((at for at in reversed(range(len(ways))) if (chunk, ways[at]) in self._maps), None)
            x = self.chain.stem(self.chunks[chunk]) if known is None else self._maps[chunk, ways[known]]
            if known is None:
                known = 0
                self._plan(x, len(route))
                self._keep(chunk, ways[0], x)
            for at, (place, gate) in enumerate(route[known:], known + 1):
                x = run([(self.chain.body[place], gate)], x)
                self.steps += 1
                if at % self._spacing == 0:
                    self._keep(chunk, ways[at], x)
            return self.chain.head(x).float()

    def _ways(self, route: Route) -> Iterator[int]:
        """Yield a number for every prefix, the empty one first; equal prefixes have equal numbers."""
        if len(self._numbers) > MOST_PREFIXES:
            self._numbers.clear()
            self._maps.clear()
            self._bytes = 0
        number = 0
        yield number
        for step in route:
            number = self._numbers.setdefault((number, step), len(self._numbers) + 1)
            yield number

    def _plan(self, x: Tensor, places: int) -> None:
        """Space the places at which activations are kept so that two routes fit: behind the stem they hardly grow."""
        whole = x.numel() * x.element_size() * (places + 1) * len(self.chunks)
        self._spacing = max(1, math.ceil(2 * whole / max(1, self.limit)))

    def _refresh(self, chunk: int, ways: list[int]) -> None:
        """Make the activations of a route the most recently used ones."""
        for way in ways:
            if (chunk, way) in self._maps:
                self._maps.move_to_end((chunk, way))

    def _keep(self, chunk: int, way: int, x: Tensor) -> None:
        if (chunk, way) in self._maps:
            return
        self._maps[chunk, way] = x
        self._bytes += x.numel() * x.element_size()
        while self._bytes > self.limit:
            _, oldest = self._maps.popitem(last=False)
            self._bytes -= oldest.numel() * oldest.element_size()
