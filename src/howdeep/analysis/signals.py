"""Signal and gradient through the depth of a chain: forward and backward passes, summed up unit by unit."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain, Gates, Unit
from howdeep.data import Batch
from howdeep.data.loaders import Loader, batches_of
from howdeep.runs.folder import Run
from howdeep.runtime.device import summable
from howdeep.runtime.modes import evaluating, frozen_statistics, norms_of
from howdeep.survival import Survival
from howdeep.util.errors import UserError, unknown
from howdeep.util.records import Shown, from_json
from howdeep.util.seeds import derive

Statistics = Literal["running", "batch"]
DRAWS = 8
"""Draws of gates that a random rule is averaged over: as many forward and backward passes per mini-batch."""
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
    if gates is not None:
        count = len(batch.labels)
        gates = [gate[:count] if isinstance(gate, Tensor) and gate.dim() else gate for gate in gates]
    with autocast:
        logits, inputs, moments = _forward(chain, batch.images, gates)
    for name, unit in zip(chain.names, moments, strict=True):
        for what, row in zip(MEASURED, unit, strict=True):
            if not bool(row.isfinite().all()):
                raise UserError(f"{name}: the {what} is not finite; a weight is broken, or the signal grew too large")
    loss = F.cross_entropy(logits.float(), batch.labels, reduction="sum")
    if not bool(loss.isfinite()):
        raise UserError("the loss is not finite, though the maps of all units are: look at the head's weights")
    gradients, weights = _backward(chain, loss, inputs, len(batch.labels))
    return Pass(len(batch.labels), loss.item(), moments, gradients, weights)


def _forward(chain: Chain, images: Tensor, gates: Gates | None) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return the logits, the input of every unit, and the moments of what is MEASURED, on the host."""
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


@dataclass(frozen=True)
class UnitFlow:
    """What passes through one unit, forward and backward."""

    index: int
    """Place in the chain, from 1."""
    name: str
    """What the unit is called."""
    stream_std: float
    """Standard deviation of the unit's input."""
    shortcut_std: float
    """Standard deviation of the shortcut's output."""
    branch_std: float | None
    """Standard deviation of the branch's output before the gate, over the draws that ran it; None without any."""
    ratio: float | None
    """``branch_std / shortcut_std``; None where the branch never ran, the shortcut's output is
    constant, or the unit does not pass it on (a plain one)."""
    input_gradient: float
    """Mean over images and draws of the Euclidean norm of one image's gradient at the unit's input; 0 where nothing
    arrives."""
    weight_gradient: float | None
    """Mean absolute gradient of the branch's weights (parameters of more than one dimension), of a mini-batch's mean
    loss, over the mini-batches and draws that ran the branch; None without any, or where all weights are frozen."""


@dataclass(frozen=True)
class Flow(Shown):
    """Signal and gradient through the depth of a chain."""

    units: tuple[UnitFlow, ...]
    """One per unit, in order."""
    n: int
    """Images."""
    statistics: str
    """``running`` or ``batch``: what the norms divided by."""
    loss: float
    """Mean cross-entropy in nats, over images and draws."""
    draws: int = 1
    """Draws of gates behind every mean."""


def flow(
    chain: Chain,
    loader: Loader,
    *,
    statistics: Statistics = "running",
    draws: Sequence[Gates | None] = (None,),
    autocast: torch.autocast | None = None,
) -> Flow:
    """Measure signal and gradient through the depth; mode, statistics and gradients of the chain stay as they are.

    With ``running`` statistics images are independent, and the gradient of one image is that of its own loss. With
    ``batch`` statistics the norms mix them: it is then the gradient of the mini-batch's summed loss with respect to
    that image's maps. Dropout is off either way.

    Args:
        chain: The network.
        loader: Labelled images (see :mod:`howdeep.data.loaders`). One batch's maps are all kept, as in a training step.
        statistics: ``running``: as in evaluation. ``batch``: of each mini-batch, as in training; the running ones
            do not move.
        draws: Gates to average over, such as :func:`draws_of`; None is the expectation, as in evaluation. A gate per
            sample longer than a mini-batch is cut to it.
        autocast: The precision; None is that of the weights.

    Raises:
        UserError: There are no images, something is not finite, with the name of the unit, or the loader yields
            something else.
    """
    autocast = autocast or torch.autocast("cpu", enabled=False)
    passes: list[Pass] = []
    with _prepared(chain, statistics), torch.enable_grad():
        for batch in batches_of(chain, loader):
            passes += [measure(chain, batch, gates, autocast) for gates in draws]
    if not passes:
        raise UserError("there are no images to measure signal and gradient on")
    return _record(chain, passes, statistics, len(draws))


def draws_of(rule: Survival | None, num_units: int, *, seed: int, batch: int) -> list[Gates | None]:
    """Return what to average over: draws as training makes them, from a stream of their own, or None without any.

    Args:
        rule: For the gates; None opens every unit.
        num_units: Units of the chain.
        seed: Seed of the run.
        batch: Images of the largest mini-batch, for draws per sample.
    """
    if rule is None or not rule.random:
        return [None]
    stream = derive(seed, "flow")
    return [rule.draw(num_units, seed=stream, step=number, batch=batch) for number in range(DRAWS)]


def recorded_flow(run: Run) -> list[tuple[int, Flow]]:
    """Return what ``train --record flow`` measured: (step, flow) at the start and after every epoch."""
    return [(record["step"], from_json(Flow, record)) for record in run.metrics() if record.get("event") == "flow"]


@contextmanager
def _prepared(chain: Chain, statistics: str) -> Iterator[None]:
    """Put every module into evaluation mode, norms that use batch statistics excepted; then put all of it back."""
    if statistics not in get_args(Statistics):
        raise unknown("statistics", statistics, get_args(Statistics))
    norms = norms_of(chain) if statistics == "batch" else []
    with evaluating(chain), frozen_statistics(norms):
        for norm in norms:
            norm.training = True
        yield


def _record(chain: Chain, passes: list[Pass], statistics: str, draws: int) -> Flow:
    """Divide the sums of all passes, once."""
    images = sum(one.images for one in passes)
    moments = torch.stack([one.moments for one in passes]).sum(0).tolist()
    gradients = (torch.stack([one.gradients for one in passes]).sum(0) / images).tolist()
    weights = torch.stack([one.weights for one in passes]).sum(0).tolist()
    flows = []
    for unit, name, (stream, shortcut, branch), gradient, (ran, mean) in zip(
        chain.units, chain.names, moments, gradients, weights, strict=True
    ):
        shortcut_std = _deviation(shortcut)
        branch_std = _deviation(branch) if branch[0] else None
        ratio = branch_std / shortcut_std if branch_std is not None and shortcut_std else None
        flows.append(
            UnitFlow(
                index=len(flows) + 1,
                name=name,
                stream_std=_deviation(stream),
                shortcut_std=shortcut_std,
                branch_std=branch_std,
                ratio=ratio if unit.merge.passes_shortcut else None,
                input_gradient=gradient,
                weight_gradient=mean / ran if ran else None,
            )
        )
    return Flow(tuple(flows), images // draws, statistics, sum(one.loss for one in passes) / images, draws)


def _deviation(moments: list[float]) -> float:
    count, total, squares = moments
    # Rounding can leave a constant slightly below 0.
    return math.sqrt(max(0.0, squares / count - (total / count) ** 2))
