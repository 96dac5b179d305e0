"""Activations computed twice instead of kept, in segments of the chain (Chen et al. 2016, arXiv 1604.06174)."""

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from howdeep.chain import Chain, Gates, run


class Checkpointed(nn.Module):
    """A chain that keeps its activations at segment borders only and computes the others again when they are needed.

    The result and the gradients are those of the chain, and batch statistics move once. With S segments, S borders
    and the n/S units of one segment are kept. A unit keeps about four times what a border does, so 2√n segments keep
    least: 4√n borders' worth instead of 4n, for one more forward pass.

    Args:
        chain: The network; its parameters are shared.
        segments: How many; None is 2√n.
    """

    def __init__(self, chain: Chain, segments: int | None = None) -> None:
        super().__init__()
        self.chain = chain
        self.segments = segments or max(1, round(2 * math.sqrt(len(chain.body))))

    def forward(self, images: Tensor, gates: Gates | None = None) -> Tensor:
        """Return the scores of images, as :meth:`Chain.forward` does."""
        x, steps = self.chain.stem(images), self.chain.steps(gates)
        size = math.ceil(len(steps) / self.segments)
        for start in range(0, len(steps), size):
            segment = steps[start : start + size]
            x = checkpoint(run, segment, x, use_reentrant=False, context_fn=lambda s=segment: _contexts(s))
        return self.chain.head(x)


def _contexts(segment: list) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), still_statistics(module for module, _ in segment)


@contextmanager
def still_statistics(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let norms move copies of their running statistics: the batch was counted before.

    They cannot do without any: autograd saves them, and a recomputation must save what the first pass saved.
    """
    norms = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    buffers = [(layer, name, buffer) for layer in norms for name, buffer in layer.named_buffers()]
    for layer, name, buffer in buffers:
        setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, name, buffer in buffers:
            setattr(layer, name, buffer)
