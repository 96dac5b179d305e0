"""Modes of a network for a while: evaluation, and norms whose running statistics stay as they are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """Put every module back into its own mode at the end."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own at the end."""
    with modes_kept(network):
        # One by one: a graph from torch.export refuses eval().
        for module in network.modules():
            module.training = False
        yield


@contextmanager
def frozen_statistics(norms: Iterable[Norm]) -> Iterator[None]:
    """Let norms in training mode use the statistics of their batch without moving the running ones."""
    tracking = [norm for norm in norms if norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


def norms_of(network: nn.Module) -> list[Norm]:
    """Return the norms of a network that have running statistics, or could."""
    return [module for module in network.modules() if isinstance(module, Norm)]
