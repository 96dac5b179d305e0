"""Signal and gradient through the depth (He et al. 2015, Fig. 7; Huang et al. 2016, stochastic depth, Fig. 7).

    forward     σ(H_{l-1}), σ(shortcut(H_{l-1})), σ(branch(H_{l-1}))        over all elements of all images
    backward    ‖∂loss_i / ∂H_{l-1}‖₂ per image i,  mean |∂loss / ∂W_l|

One ordinary forward and one backward pass per mini-batch and draw of gates, unit by unit; sums first, one division at
the end. Works on any chain: what the modules of a unit are does not matter.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import nn

from howdeep.chain import Chain, Gates
from howdeep.data import Batch
from howdeep.errors import UserError, unknown
from howdeep.passes import Pass, measure
from howdeep.records import from_json
from howdeep.runs import Run
from howdeep.seeds import derive
from howdeep.survival import Survival

Statistics = Literal["running", "batch"]

DRAWS = 8
"""Draws of gates that a random rule is averaged over: as many forward and backward passes per mini-batch."""
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


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
class Flow:
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
    batches: Iterable[Batch],
    *,
    statistics: Statistics,
    draws: Sequence[Gates | None] = (None,),
    autocast: torch.autocast,
) -> Flow:
    """Measure signal and gradient through the depth; mode, statistics and gradients of the chain stay as they are.

    With ``running`` statistics images are independent, and the gradient of one image is that of its own loss. With
    ``batch`` statistics the norms mix them: it is then the gradient of the mini-batch's summed loss with respect to
    that image's maps. Dropout is off either way.

    Args:
        chain: The network.
        batches: Images and labels. One batch's maps are all kept, as in a training step.
        statistics: ``running``: as in evaluation. ``batch``: of each mini-batch, as in training; the running ones
            do not move.
        draws: Gates to average over, such as :func:`draws_of`; None is the expectation, as in evaluation. A gate per
            sample longer than a mini-batch is cut to it.
        autocast: The precision.

    Raises:
        UserError: There are no images; something is not finite, with the name of the unit; or batch statistics are
            asked of traced norms, which cannot use them.
    """
    passes: list[Pass] = []
    with _prepared(chain, statistics), torch.enable_grad():
        for batch in batches:
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
    """Put every module into evaluation mode, norms that use batch statistics excepted; then put all of it back.

    Flags are set one by one: a graph from torch.export refuses ``eval()``. A norm that does not track moves nothing.
    """
    if statistics not in get_args(Statistics):
        raise unknown("statistics", statistics, get_args(Statistics))
    norms = _norms(chain) if statistics == "batch" else []
    modes = [(module, module.training) for module in chain.modules()]
    tracking = [(norm, norm.track_running_stats) for norm in norms]
    try:
        for module, _ in modes:
            module.training = False
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for norm, tracks in tracking:
            norm.track_running_stats = tracks


def _norms(chain: Chain) -> list[Norm]:
    """Return the norms that can use batch statistics.

    Raises:
        UserError: There are others, which a trace fixed to their running ones.
    """
    norms = [module for module in chain.modules() if isinstance(module, Norm)]
    known = {id(norm.running_mean) for norm in norms}
    for name, buffer in chain.named_buffers():
        if name.endswith("running_mean") and id(buffer) not in known:
            raise UserError(f"statistics 'batch' is not allowed for a traced network: {name} is fixed; use 'running'")
    return norms


def _record(chain: Chain, passes: list[Pass], statistics: str, draws: int) -> Flow:
    """Divide the sums of all passes, once."""
    images = sum(one.images for one in passes)
    moments = torch.stack([one.moments for one in passes]).sum(0).tolist()
    gradients = (torch.stack([one.gradients for one in passes]).sum(0) / images).tolist()
    weights = torch.stack([one.weights for one in passes]).sum(0).tolist()
    sums = enumerate(zip(chain.names, moments, gradients, weights, strict=True), 1)
    flows = (_unit_flow(index, *of_unit) for index, of_unit in sums)
    pairs = zip(flows, chain.units, strict=True)
    units = tuple(one if unit.merge.passes_shortcut else replace(one, ratio=None) for one, unit in pairs)
    return Flow(units, images // draws, statistics, sum(one.loss for one in passes) / images, draws)


def _unit_flow(index: int, name: str, moments: list[list[float]], gradient: float, weights: list[float]) -> UnitFlow:
    stream, shortcut, branch = moments
    measured, mean = weights
    shortcut_std = _deviation(shortcut)
    branch_std = _deviation(branch) if branch[0] else None
    return UnitFlow(
        index=index,
        name=name,
        stream_std=_deviation(stream),
        shortcut_std=shortcut_std,
        branch_std=branch_std,
        ratio=branch_std / shortcut_std if branch_std is not None and shortcut_std else None,
        input_gradient=gradient,
        weight_gradient=mean / measured if measured else None,
    )


def _deviation(moments: list[float]) -> float:
    count, total, squares = moments
    # Rounding can leave a constant slightly below 0.
    return math.sqrt(max(0.0, squares / count - (total / count) ** 2))
