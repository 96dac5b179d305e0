"""Norm statistics, estimated anew: those of a network that was cut are of maps that no longer come."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from howdeep.chain import Chain
from howdeep.fold import NORM

OTHER_NORMS = ("batch_norm", "_native_batch_norm_legit_no_training")
"""Operators of traced norms with running statistics; only the first can take those of its input instead."""


@torch.no_grad()
def reestimate(chain: Chain, images: Iterable[Tensor]) -> int:
    """Give the norms of a network, in place, the statistics of these images; weights stay as they are.

    Every norm divides by the statistics of the batch meanwhile, as in training. Its running mean and (unbiased)
    variance become the means over the batches, each counting the same: of one batch, exactly its own.

    Args:
        chain: The network, in evaluation mode, own or traced.
        images: Batches of equal size, each of shape (batch, channels, height, width).

    Returns:
        How many norms there are.
    """
    own = [part for part in chain.modules() if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None]
    traced = [part for part in chain.modules() if isinstance(part, GraphModule) and _norms(part)]
    for number, batch in enumerate(images, 1):
        # The first batch replaces what was there, the n-th counts for one n-th.
        with _moving(own, 1 / number), _moving_traced(traced, 1 / number):
            chain(batch)
    return len(own) + sum(len(_norms(part)) for part in traced)


def fixed_norms(chain: Chain) -> int:
    """Return how many traced norms keep their old statistics, whatever is asked: operators that cannot take others."""
    parts = [part for part in chain.modules() if isinstance(part, GraphModule)]
    nodes = [node for part in parts for node in part.graph.nodes if node.target is not NORM]
    return sum(any(f"aten.{name}." in str(node.target) for name in OTHER_NORMS) for node in nodes)


@contextmanager
def _moving(norms: list[nn.BatchNorm2d], momentum: float) -> Iterator[None]:
    """Let norms use the statistics of their batch, which move the running ones by this share."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
        norm.train()
    try:
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.momentum = old
            norm.eval()


@contextmanager
def _moving_traced(parts: list[GraphModule], momentum: float) -> Iterator[None]:
    """Do the same with the norms of traced parts: arguments of their operators."""
    before = {node: node.args for part in parts for node in _norms(part)}
    for node, (*tensors, _, _, eps, cudnn) in before.items():
        node.args = (*tensors, True, momentum, eps, cudnn)
    _recompile(parts)
    try:
        yield
    finally:
        for node, old in before.items():
            node.args = old
        _recompile(parts)


def _recompile(parts: list[GraphModule]) -> None:
    for part in parts:
        part.recompile()


def _norms(part: GraphModule) -> list[Node]:
    return [node for node in part.graph.nodes if node.target is NORM and not node.args[5]]
