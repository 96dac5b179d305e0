"""The exponential moving average of a network in training: smoother than its last step, and what the run stands for."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from howdeep.chain import Chain


class Average:
    """The average of what a chain has learned: its weights and running statistics.

    a ← a + (1 − d)(w − a) after step t, counted from 0, with d = min(decay, (1 + t)/(10 + t)): in the first steps, when
    there is little to average over, the memory is as short as the run (Szegedy et al. 2016's implementation).

    Args:
        chain: On its device; from here on its tensors are changed in place only.
        decay: What of the average stays in a step, at least 0 and below 1.
    """

    def __init__(self, chain: Chain, decay: float) -> None:
        own = {name: tensor for name, tensor in chain.state_dict().items() if tensor.is_floating_point()}
        self.decay, self.own = decay, list(own.values())
        self.tensors = {name: tensor.clone() for name, tensor in own.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the chain after a step, counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, own in zip(self.tensors.values(), self.own, strict=True):
            average.lerp_(own, share)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the chain be the average for a while."""
        kept = [own.clone() for own in self.own]
        self._show(self.tensors.values())
        try:
            yield
        finally:
            self._show(kept)

    def _show(self, tensors: Iterable[Tensor]) -> None:
        with torch.no_grad():
            for own, tensor in zip(self.own, tensors, strict=True):
                own.copy_(tensor)
