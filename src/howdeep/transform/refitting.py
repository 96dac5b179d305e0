"""Units behind a gap refitted: what they send is made as nearly what they sent before as their last layer can.

Where a unit is taken out, every later one reads other activations, and adds to other ones. The last layer of a branch
mixes channels, y = W a, and is all that stands between its activations a and the sum, but for factors per channel. So
what the sum lacks, summed over images and places, is a linear regression with a solution in closed form:

ΔW = argmin Σ ‖(H − H′) − ΔW a‖² + λ ‖ΔW‖²,  λ by the half of the images that was not solved

with H the sum in the whole network, H′ that in the one with the gap, both before an activation. One unit after the
other is refitted, each on what those before it give by then. That needs images, and no labels, steps or learning rate.
Feature maps rebuilt by least squares are an idea of He, Zhang and Sun 2017 (arXiv 1707.06168), there for channels.
"""

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain, Unit, run
from howdeep.convert.weighted import Layer, aten, weighted_layers
from howdeep.transform.removal import take_out

RIDGES = (1e-6, 1e-3, 1e-2, 1e-1, 1.0)
"""λ as a share of the mean square of a column of regressors: it decides where there are few places per weight."""
EXACT = 1e-3
"""Largest difference, relative to the branch, that counts as rounding where a branch is taken to be linear."""
COLUMNS = 2**24
"""Numbers of a matrix of regressors that are made at a time."""


@torch.no_grad()
def refitted(chain: Chain, removed: Collection[int], images: Sequence[Tensor], *, reach: float = math.inf) -> Chain:
    """Return a copy of a chain without some of its units, whose later units make up for them.

    A branch is left as it is where its last layer is followed by more than factors and shifts per channel (an
    activation, an attention between windows), or has groups of channels.

    Args:
        chain: The network, in evaluation mode, own or traced; it stays as it is.
        removed: The units to take out, counted from 0.
        images: Batches, each of shape (batch, channels, height, width). The activations of all of them at two places
            are held at a time.
        reach: Behind each gap so many units are refitted.

    Raises:
        UserError: There is no such unit, or it changes the shape and has no shortcut.
    """
    rest, units = copy.deepcopy(chain), chain.units
    gone = [units[index] for index in removed if 0 <= index < len(units)]
    steps = [(old, new, gate) for (old, gate), new in zip(chain.steps(), rest.body, strict=True)]
    gaps = [place for place, (old, *_) in enumerate(steps) if old in gone] or [len(steps)]
    # What the whole network and the rest make of each batch, at one place after the other.
    before = [run(chain.steps()[: gaps[0]], chain.stem(batch)) for batch in images]
    after, left = list(before), 0.0
    for place, (old, new, gate) in enumerate(steps[gaps[0] :], gaps[0]):
        out = old in gone
        if out:
            left = reach
        elif left > 0 and gate and isinstance(old, Unit) and isinstance(new, Unit):
            _refit(old, new, float(gate), before, after)
            left -= 1
        if place > gaps[-1] and left <= 0:
            break
        for number, (whole, cut) in enumerate(zip(before, after, strict=True)):
            before[number], after[number] = run([(old, gate)], whole), run([(new, None if out else gate)], cut)
    return take_out(rest, removed)


@dataclass(frozen=True)
class _Last:
    """The last layer of a branch, and how the branch depends on it."""

    branch: nn.Module
    layer: Layer
    columns: bool
    """Whether channels are the last axis of what the branch returns, and not its second."""
    slope: Tensor
    """Branch per output of the layer, shape (channels,)."""
    shift: tuple[str, Tensor] | None
    """A parameter that is added to every place, and the branch per unit of it, shape (channels,)."""

    def computed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the layer reads for an input of the branch, one row per place, and what the branch returns."""
        layers, output = weighted_layers(self.branch, x)
        rows = _reads(layers[-1])
        return (rows if self.shift is None else torch.cat([rows, rows.new_ones(len(rows), 1)], 1)), output

    def add(self, solution: Tensor) -> None:
        """Change weight and shift so that the branch returns more by the regressors times this."""
        parameters = dict(self.branch.named_parameters())
        if self.shift is not None:
            name, per_unit = self.shift
            solution, constant = solution[:-1], solution[-1]
            parameters[name].add_(_divided(constant, per_unit))
        weight, change = parameters[self.layer.weight], _divided(solution, self.slope)
        weight.add_(change if _is_transposed(self.layer, weight) else change.T.reshape(weight.shape))


def _refit(old: Unit, new: Unit, gate: float, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """Refit the last layer of a branch, in place."""
    last = _last_of(new.branch, after[0][:2])
    if last is None:
        return
    halves, turns = [[torch.zeros(()), torch.zeros(())] for _ in range(2)], cycle((0, 1))
    for whole, cut in zip(before, after, strict=True):
        parts = zip(_chunks(last, whole), _chunks(last, cut), strict=True)
        for few, others in parts:
            rows, branch = last.computed(others)
            missing = _sent(old, few, gate * old.branch(few)) - _sent(new, others, gate * branch)
            wanted = _rows(missing / gate, columns=last.columns)
            half = halves[next(turns)]
            half[0] = half[0] + (rows.T @ rows).double().cpu()
            half[1] = half[1] + (rows.T @ wanted).double().cpu()
    change = _regression(*halves)
    if change is not None:
        last.add(change.to(before[0]))


def _regression(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor | None:
    """Return the solution of a regression whose ridge is the best for each half of the images, solved on the other.

    None where no change would be better, or there is one image alone.

    Args:
        one: Of the first half, the products of regressors with regressors and with what is missing.
        other: Of the second half.
    """
    if not other[0].dim() or not bool((one[1] + other[1]).isfinite().all()):
        return None
    scale = (one[0] + other[0]).diagonal().mean() / 2
    if not scale > 0:
        return None
    identity = scale * torch.eye(len(one[0]), dtype=one[0].dtype)
    # By how much the squares that are missing change, on the half that was not solved.
    changes = []
    for ridge in RIDGES:
        total = 0.0
        for (square, product), (seen, wanted) in ((one, other), (other, one)):
            solution = torch.linalg.solve(square + ridge * identity, product)
            total += float((solution * (seen @ solution - 2 * wanted)).sum())
        changes.append(total)
    best = min(range(len(RIDGES)), key=changes.__getitem__)
    if not changes[best] < 0:
        return None
    return torch.linalg.solve(one[0] + other[0] + 2 * RIDGES[best] * identity, one[1] + other[1])


def _sent(unit: Unit, x: Tensor, branch: Tensor) -> Tensor:
    """Return what a unit hands on, before an activation; of a merge that does not add, its branch."""
    return unit.shortcut(x) + branch if unit.merge.adds else branch


def _last_of(branch: nn.Module, few: Tensor) -> _Last | None:
    """Return the last weighted layer of a branch that is linear in it, channel by channel; None where it is not."""
    layers, output = weighted_layers(branch, few)
    if not layers or not _is_plain(layers[-1]):
        return None
    made, scale = _outputs(layers[-1]), float(output.abs().max())
    for columns in (False, True):
        rows = _rows(output, columns=columns)
        if rows.shape != made.shape:
            continue
        centred = made - made.mean(0)
        slope = (centred * (rows - rows.mean(0))).sum(0) / centred.square().sum(0).clamp_min(1e-12)
        if float((rows - rows.mean(0) - slope * centred).abs().max()) <= EXACT * scale:
            return _Last(branch, layers[-1], columns, slope, _shift(branch, few, output, columns=columns))
    return None


def _shift(branch: nn.Module, few: Tensor, output: Tensor, *, columns: bool) -> tuple[str, Tensor] | None:
    """Return the last parameter that adds a constant to every channel of a branch: a bias, or that of a norm."""
    rows = _rows(output, columns=columns)
    for name, parameter in reversed(list(branch.named_parameters())):
        if parameter.shape != rows.shape[1:]:
            continue
        kept = parameter.clone()
        parameter += 1
        moved = _rows(branch(few), columns=columns) - rows
        parameter.copy_(kept)
        per_unit = moved.mean(0)
        size = float(per_unit.abs().max())
        if size > 0 and float((moved - per_unit).abs().max()) <= EXACT * max(size, float(output.abs().max())):
            return name, per_unit
    return None


def _is_plain(layer: Layer) -> bool:
    """Return whether a layer mixes all channels at every place alike."""
    if layer.operator is aten.convolution.default:
        read, _, _, _, _, _, transposed, _, groups = layer.arguments
        return read.dim() == 4 and not transposed and groups == 1
    return layer.operator in (aten.addmm.default, aten.mm.default)


def _is_transposed(layer: Layer, weight: Tensor) -> bool:
    """Return whether a matrix is held as (inputs, outputs), the way in which the operator reads it."""
    if layer.operator is aten.convolution.default:
        return False
    given = layer.arguments[2 if layer.operator is aten.addmm.default else 1]
    return given.shape == weight.shape and given.stride() == weight.stride()


def _reads(layer: Layer) -> Tensor:
    """Return what a layer reads, one row per place, one column per weight of an output."""
    if layer.operator is not aten.convolution.default:
        return layer.read
    _, weight, _, stride, padding, dilation, *_ = layer.arguments
    if weight.shape[2:] == (1, 1) and not any(padding):
        return _rows(layer.read[..., :: stride[0], :: stride[1]], columns=False)
    places = F.unfold(layer.read, weight.shape[2:], dilation, padding, stride)
    return places.transpose(1, 2).reshape(-1, places.shape[1])


def _outputs(layer: Layer) -> Tensor:
    """Return what a layer returns, one row per place."""
    made = layer.again()
    return made if made.dim() == 2 else _rows(made, columns=False)


def _rows(x: Tensor, *, columns: bool) -> Tensor:
    """Return activations, one row per place, one column per channel."""
    x = x if columns or x.dim() < 3 else x.movedim(1, -1)
    return x.reshape(-1, x.shape[-1])


def _divided(change: Tensor, by: Tensor) -> Tensor:
    """Return a change per channel in other units; channels that do not matter keep what they have."""
    alive = by.abs() > 1e-6 * by.abs().max()
    return torch.where(alive, change / torch.where(alive, by, 1), 0)


def _chunks(last: _Last, batch: Tensor) -> Sequence[Tensor]:
    """Return a batch in parts whose regressors fit into memory."""
    layer = last.layer
    per_image = _reads(layer).numel() // 2  # it was seen on two images
    most = max(1, COLUMNS // max(1, per_image))
    return [part for half in batch.chunk(2) for part in half.split(most)]
