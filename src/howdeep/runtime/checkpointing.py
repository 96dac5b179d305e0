"""Activations computed twice instead of kept, in segments of the chain (Chen et al. 2016, arXiv 1604.06174)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.random import fork_rng
from torch.utils.checkpoint import get_device_states, set_device_states

from howdeep.chain import Chain, Gate, Gates, Unit, run
from howdeep.runtime.modes import Norm, frozen_statistics, norms_of

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
        # Looked up once: at a thousand layers the walk through their modules takes 3 % of a step.
        self.parts = [_Part.of(module) for module in chain.body]

    def forward(self, images: Tensor, gates: Gates | None = None) -> Tensor:
        """Return the logits of images, as :meth:`Chain.forward` does."""
        x, steps = self.chain.stem(images), self.chain.steps(gates)
        size = math.ceil(len(steps) / self.segments)
        # The backward pass begins with the last segment, which is therefore kept and not computed again.
        last = max(0, len(steps) - size)
        for start in range(0, last, size):
            end = min(start + size, last)
            segment, parts = steps[start:end], self.parts[start:end]
            taking_part = [part.taking_part(gate) for part, (_, gate) in zip(parts, segment, strict=True)]
            parameters = [one for tensors in taking_part for one in tensors]
            # Where everything is closed there is nothing to keep, and there may be nothing to differentiate.
            x = _Segment.apply(segment, parts, x, *parameters) if parameters else run(segment, x)
        return self.chain.head(run(steps[last:], x))


@dataclass(frozen=True)
class _Part:
    """What a segment must know of one module of the body."""

    norms: list[Norm]
    open: list[nn.Parameter]
    """Parameters that take part where its gate is open."""
    closed: list[nn.Parameter]
    """Those that take part where it is closed."""

    @classmethod
    def of(cls, module: nn.Module) -> "_Part":
        beside = module.shortcut if isinstance(module, Unit) else module
        return cls(norms_of(module), list(module.parameters()), list(beside.parameters()))

    def taking_part(self, gate: Gate) -> list[Tensor]:
        if isinstance(gate, Tensor) and gate.is_floating_point():
            return [*self.open, gate]
        return list(self.open if gate is not None and torch.as_tensor(gate).any() else self.closed)


class _Segment(torch.autograd.Function):
    """y = run(steps, x), of which only x is kept.

    The library's ``checkpoint`` calls Python for every tensor that it would have kept, which at a thousand layers
    costs more than the layers do. Parameters are inputs, so that whoever waits for their gradients (several
    processes do) sees which ones take part.
    """

    @staticmethod
    def forward(ctx: Any, steps: Steps, parts: list[_Part], x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.steps, ctx.norms = steps, [norm for part in parts for norm in part.norms]
        ctx.save_for_backward(x, *parameters)
        kind = x.device.type
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        ctx.random = torch.get_rng_state(), get_device_states(x)
        return run(steps, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        x = x.detach().requires_grad_(ctx.needs_input_grad[2])
        host, (devices, states) = ctx.random
        with torch.enable_grad(), torch.autocast(*ctx.autocast), fork_rng(devices), frozen_statistics(ctx.norms):
            torch.set_rng_state(host)
            set_device_states(devices, states)
            # The value is known to whoever reads it; only where it came from is needed.
            end = get_gradient_edge(run(ctx.steps, x))
        wanted = [tensor for tensor in (x, *parameters) if tensor.requires_grad]
        found = iter(torch.autograd.grad(end, wanted, gradient, allow_unused=True))
        return None, None, *(next(found) if tensor.requires_grad else None for tensor in (x, *parameters))
