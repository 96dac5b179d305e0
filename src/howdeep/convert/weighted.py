"""The weighted layers of a module, found by watching it compute."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

WEIGHT_OF = {
    aten.convolution.default: (0, 1, 2),
    aten.addmm.default: (1, 2, 0),
    aten.mm.default: (0, 1, None),
    aten.bmm.default: (0, 1, None),
}
"""Operators of weighted layers: where among their arguments is what they read, where the weight, and where the bias."""


class Layer(NamedTuple):
    """A weighted layer that computed."""

    operator: Any
    """Which of the operators."""
    arguments: tuple
    """What it was given."""
    weight: str
    bias: str | None
    read: Tensor

    def again(self) -> Tensor:
        """Return what it makes of what it read: the next layer may have written over the first result."""
        return self.operator(*self.arguments)


class _Weighted(TorchDispatchMode):
    """Notes every weighted layer that computes, in order.

    ``nn.Linear``, ``F.linear`` and a convolution of a traced graph all arrive here as the same operators; views of a
    parameter share its memory. The class is private (torch 2.15).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = {tensor.untyped_storage().data_ptr(): name for name, tensor in module.named_parameters()}
        self.layers: list[Layer] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WEIGHT_OF:
            read, *places = WEIGHT_OF[func]
            weight, bias = (None if place is None else self._name(args[place]) for place in places)
            if weight is not None:
                self.layers.append(Layer(func, args, weight, bias, args[read]))
        return func(*args, **(kwargs or {}))

    def _name(self, tensor: Tensor | None) -> str | None:
        return None if tensor is None else self.names.get(tensor.untyped_storage().data_ptr())


def weighted_layers(module: nn.Module, x: Tensor) -> tuple[list[Layer], Tensor]:
    """Return a module's weighted layers, in the order of computing, and its output."""
    with torch.no_grad(), _Weighted(module) as watched:
        output = module(x)
    return watched.layers, output
