"""One forward and one backward pass through a chain, unit by unit: sums of what goes through each of them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain, Gates, Unit
from howdeep.data import Batch
from howdeep.device import summable
from howdeep.errors import UserError

MEASURED = ("input", "shortcut's output", "branch's output")


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass: sums, which add up over passes; float64 on the host."""

    images: int
    loss: float
    """Sum of the cross-entropies."""
    moments: Tensor
    """Number of elements, sum and sum of squares of what is MEASURED, shape (units, 3, 3)."""
    gradients: Tensor
    """Sums over the images of the norms, shape (units,)."""
    weights: Tensor
    """Whether there was a gradient, and its mean absolute value, shape (units, 2)."""


class _Watched(nn.Module):
    """A module of a unit, and the moments of its last output; zeros while it was not computed."""

    def __init__(self, module: nn.Module, moments: Tensor) -> None:
        super().__init__()
        self.module, self.moments = module, torch.zeros_like(moments)

    def forward(self, x: Tensor) -> Tensor:
        output = self.module(x)
        # At once: what follows may write over it.
        self.moments = _moments(output)
        return output


def measure(chain: Chain, batch: Batch, gates: Gates | None, autocast: torch.autocast) -> Pass:
    """Send a mini-batch through a chain and the gradient of its summed loss back.

    Args:
        chain: The network, in the mode that is wanted; its parameters' gradients stay as they are.
        batch: Images and labels. The maps are all kept, as in a training step.
        gates: One per unit, or None for the chain's own. A gate per sample that is longer than the mini-batch is cut.
        autocast: The precision.

    Raises:
        UserError: Something is not finite; the unit is named.
    """
    with autocast:
        scores, inputs, moments = _forward(chain, batch.images, _cut(gates, len(batch.labels)))
    _refuse_not_finite(chain.names, moments)
    loss = F.cross_entropy(scores.float(), batch.labels, reduction="sum")
    if not bool(loss.isfinite()):
        raise UserError("the loss is not finite, though the maps of all units are: look at the head's weights")
    gradients, weights = _backward(chain, loss, inputs, len(batch.labels))
    return Pass(len(batch.labels), loss.item(), moments, gradients, weights)


def _cut(gates: Gates | None, count: int) -> Gates | None:
    return gates and [gate[:count] if isinstance(gate, Tensor) else gate for gate in gates]


def _forward(chain: Chain, images: Tensor, gates: Gates | None) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return the scores, the input of every unit, and the moments of what is MEASURED, on the host."""
    x, inputs, moments = _tracked(chain.stem(images)), [], []
    for module, gate in chain.steps(gates):
        if isinstance(module, Unit):
            inputs.append(x)
            stream = _moments(x)
            shortcut, branch = _Watched(module.shortcut, stream), _Watched(module.branch, stream)
            x = _tracked(Unit(branch, shortcut, module.merge)(x, gate))
            moments.append(torch.stack([stream, shortcut.moments, branch.moments]))
        else:
            x = module(x)
    return chain.head(x), inputs, torch.stack(moments).cpu()


def _tracked(x: Tensor) -> Tensor:
    """Return x as something that has a gradient, behind frozen modules and the zeros of a closed plain unit too.

    The copy is no leaf, which later modules may write over.
    """
    return x if x.requires_grad else x.detach().requires_grad_().clone()


def _backward(chain: Chain, loss: Tensor, inputs: list[Tensor], images: int) -> tuple[Tensor, Tensor]:
    """Return what :class:`Pass` says of gradients; no parameter's ``grad`` is touched.

    Raises:
        UserError: A gradient is not finite; the deepest one is named, from which the others have it.
    """
    weights = [[one for one in unit.branch.parameters() if one.dim() > 1 and one.requires_grad] for unit in chain.units]
    wanted = [*inputs, *(weight for unit in weights for weight in unit)]
    found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
    gradients = torch.stack([_norm_sum(x, next(found)) for x in inputs]).cpu()
    means = torch.stack([_mean_absolute(loss, [next(found) for _ in unit], images) for unit in weights]).cpu()
    for name, gradient, (_, mean) in reversed(list(zip(chain.names, gradients, means, strict=True))):
        for what, value in (("of its weights", mean), ("at its input", gradient)):
            if not bool(value.isfinite()):
                raise UserError(f"{name}: the gradient {what} is not finite")
    return gradients, means


def _norm_sum(x: Tensor, gradient: Tensor | None) -> Tensor:
    """Return the sum over images of the Euclidean norms, zero without a gradient."""
    rows = torch.zeros_like(x) if gradient is None else gradient
    return torch.linalg.vector_norm(summable(rows.detach()).reshape(len(rows), -1), dim=1, dtype=torch.float64).sum()


def _mean_absolute(loss: Tensor, gradients: list[Tensor | None], images: int) -> Tensor:
    """Return (1, mean absolute gradient of the mean loss), or (0, 0) where no weight has one."""
    present = [summable(gradient.detach()) for gradient in gradients if gradient is not None]
    if not present:
        return summable(loss.detach()).new_zeros(2, dtype=torch.float64)
    total = torch.stack([gradient.abs().sum(dtype=torch.float64) for gradient in present]).sum()
    mean = total / (images * sum(gradient.numel() for gradient in present))
    return torch.stack([torch.ones_like(mean), mean])


def _moments(x: Tensor) -> Tensor:
    """Return number of elements, sum and sum of squares, float64 of shape (3,)."""
    wide = summable(x.detach())
    total = wide.sum(dtype=torch.float64)
    squares = torch.linalg.vector_norm(wide, dtype=torch.float64).square()
    return torch.stack([torch.full_like(total, wide.numel()), total, squares])


def _refuse_not_finite(names: list[str], moments: Tensor) -> None:
    for name, unit in zip(names, moments, strict=True):
        for what, row in zip(MEASURED, unit, strict=True):
            if not bool(row.isfinite().all()):
                raise UserError(f"{name}: the {what} is not finite; a weight is broken, or the signal grew too large")
