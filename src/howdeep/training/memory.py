"""Activations computed twice instead of kept, in segments of the chain (Chen et al. 2016, arXiv 1604.06174)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.random import fork_rng
from torch.utils.checkpoint import get_device_states, set_device_states

from howdeep.chain import Chain, Gate, Gates, Unit, run

Steps = Sequence[tuple[nn.Module, Gate]]


class Checkpointed(nn.Module):
    """A chain that keeps its activations at segment borders only and computes the others again when they are needed.

    The result and the gradients are those of the chain, and batch statistics move once. With S segments, S borders
    and the n/S units of one segment are kept. A unit keeps r times what a border does, so that √(r·n) segments keep
    least. With r between 4 (two convolutions, two norms) and 9, 2.5√n segments are within 3 % of it: about 4√n
    borders' worth instead of 4n, for one more forward pass.

    Args:
        chain: The network; its parameters are shared.
        segments: How many; None is 2.5√n.
    """

    def __init__(self, chain: Chain, segments: int | None = None) -> None:
        super().__init__()
        self.chain = chain
        self.segments = segments or max(1, round(2.5 * math.sqrt(len(chain.body))))

    def forward(self, images: Tensor, gates: Gates | None = None) -> Tensor:
        """Return the scores of images, as :meth:`Chain.forward` does."""
        x, steps = self.chain.stem(images), self.chain.steps(gates)
        size = math.ceil(len(steps) / self.segments)
        # The backward pass begins with the last segment, which is therefore kept and not computed again.
        last = max(0, len(steps) - size)
        for start in range(0, last, size):
            segment = steps[start : min(start + size, last)]
            parameters = _open_parameters(segment)
            # Where everything is closed there is nothing to keep, and there may be nothing to differentiate.
            x = _Segment.apply(segment, x, *parameters) if parameters else run(segment, x)
        return self.chain.head(run(steps[last:], x))


class _Segment(torch.autograd.Function):
    """y = run(steps, x), of which only x is kept.

    The library's ``checkpoint`` calls Python for every tensor that it would have kept, which at a thousand layers
    costs more than the layers do. Parameters are inputs, so that whoever waits for their gradients (several
    processes do) sees which ones take part.
    """

    @staticmethod
    def forward(ctx: Any, steps: Steps, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.steps = steps
        ctx.save_for_backward(x, *parameters)
        kind = x.device.type
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        ctx.random = torch.get_rng_state(), get_device_states(x)
        return run(steps, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        x = x.detach().requires_grad_(ctx.needs_input_grad[1])
        host, (devices, states) = ctx.random
        with torch.enable_grad(), torch.autocast(*ctx.autocast), fork_rng(devices), still_statistics(_modules(ctx)):
            torch.set_rng_state(host)
            set_device_states(devices, states)
            y = run(ctx.steps, x)
        wanted = [tensor for tensor in (x, *parameters) if tensor.requires_grad]
        found = iter(torch.autograd.grad(y, wanted, gradient, allow_unused=True))
        return None, *(next(found) if tensor.requires_grad else None for tensor in (x, *parameters))


def _modules(ctx: Any) -> list[nn.Module]:
    return [module for module, _ in ctx.steps]


def _open_parameters(steps: Steps) -> list[nn.Parameter]:
    """Return the parameters that take part: those of closed branches do not."""
    modules = [_taking_part(module, gate) for module, gate in steps]
    return list({id(parameter): parameter for module in modules for parameter in module.parameters()}.values())


def _taking_part(module: nn.Module, gate: Gate) -> nn.Module:
    closed = gate is None or not torch.as_tensor(gate).any()
    return module.shortcut if isinstance(module, Unit) and closed else module


@contextmanager
def still_statistics(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let norms use the statistics of their batch without moving the running ones."""
    norms = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    tracking = [layer for layer in norms if layer.track_running_stats]
    for layer in tracking:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in tracking:
            layer.track_running_stats = True
