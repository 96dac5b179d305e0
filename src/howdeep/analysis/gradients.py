"""The backward pass of a chain, unit by unit, with a choice at every unit: through the branch or by the shortcut.

At a fixed forward pass the backward pass is linear. With J the Jacobian of a branch and S that of its shortcut,

    g_{l-1} = (S_lᵀ + J_lᵀ) g_l        and expanded        g_0 = Σ over all 2ⁿ paths

so a gradient can be split exactly by the number of branches that it passed (Veit et al. 2016, section 4.3, measured a
sample of these paths).
"""

import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain, Gate, Gates, Unit, run
from howdeep.data import Batch
from howdeep.runtime.device import wide
from howdeep.util.errors import UserError
from howdeep.util.seeds import derive

Pull = Callable[[Tensor], Tensor | None]
"""A gradient behind a unit → that before it, along one of its two ways; None where the way is closed."""
Choice = tuple[bool, ...]
"""Whether a path goes through the branch, at each unit from some place on."""
ScaledFloat = tuple[float, int]
"""m and e of a number m·2ᵉ, which may be outside of the range of floats."""
State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True)
class Stream:
    """One forward pass: what went into every module of the body, and the gradient of the loss behind the last."""

    steps: list[tuple[nn.Module, Gate]]
    """Modules of the body from the first unit on, with their gates."""
    inputs: list[Tensor]
    """What went into each of them."""
    last: Tensor
    """∂ loss / ∂ (output of the body): of every image's own loss, since the losses are added up."""


def forward(chain: Chain, batch: Batch) -> Stream:
    """Send a batch through a chain in evaluation mode; keep the stream from the first unit on, and nothing else.

    Raises:
        UserError: The loss is not finite.
    """
    steps, inputs = chain.steps(), []
    first = next(place for place, (module, _) in enumerate(steps) if isinstance(module, Unit))
    before, steps = steps[:first], steps[first:]
    with torch.no_grad():
        x = run(before, chain.stem(batch.images))
        for module, gate in steps:
            inputs.append(x)
            x = run([(module, gate)], x)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(chain.head(x), batch.labels, reduction="sum")
    if not bool(loss.isfinite()):
        raise UserError("the loss is not finite: weights or data are broken")
    return Stream(steps, inputs, torch.autograd.grad(loss, x)[0])


def ordinary(stream: Stream) -> Tensor:
    """Return the gradient before the first unit as autograd gives it, from one pass over the whole body."""
    with torch.enable_grad():
        first = x = stream.inputs[0].detach().requires_grad_()
        x = run(stream.steps, x)
    return torch.autograd.grad(x, first, stream.last)[0]


def sweep(
    stream: Stream, start: State, route: Callable[[int, Mapping[State, Tensor], Pull, Pull], dict[State, Tensor]]
) -> dict[State, Tensor]:
    """Carry several gradients from the head to the first unit, each under a name of its own.

    One unit is computed again at a time, so that what is kept is the stream, the gradients, and one unit's maps.

    Args:
        stream: The forward pass.
        start: Name of the gradient behind the last unit.
        route: Called at every unit, last first, with its number from 0, the gradients behind it, and its two ways;
            returns the gradients before it.

    Returns:
        The gradients before the first unit.
    """
    states: dict[State, Tensor] = {start: stream.last}
    number = sum(isinstance(module, Unit) for module, _ in stream.steps)
    for (module, gate), x in zip(reversed(stream.steps), reversed(stream.inputs), strict=True):
        if isinstance(module, Unit):
            number -= 1
            states = route(number, states, *_ways(module, gate, x))
        else:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                y = module(x)
            if y is not x:
                pulled = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in states.values()]
                states = dict(zip(states, pulled, strict=True))
    return states


def _ways(unit: Unit, gate: Gate, x: Tensor) -> tuple[Pull, Pull]:
    """Return the ways back through a unit: by its shortcut, and through its branch."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        beside, through = unit.shortcut(x), None if gate is None or gate == 0 else gate * unit.branch(x)
        shortcut = beside.detach().requires_grad_()
        branch = None if through is None else through.detach().requires_grad_()
        if branch is not None:
            merged = unit.merge(shortcut, branch)
        else:
            merged = unit.merge.removed(shortcut) if gate is None else unit.merge.closed(shortcut)
    return _way(merged, shortcut, beside, x), _way(merged, branch, through, x)


def _way(merged: Tensor, entry: Tensor | None, output: Tensor | None, x: Tensor) -> Pull:
    """Return the transpose of merge and part: gradient behind the merge → gradient before the part."""

    def pull(gradient: Tensor) -> Tensor | None:
        if entry is None or output is None or not merged.requires_grad:
            return None
        before = gradient if merged is entry else _grad(merged, entry, gradient)
        return before if output is x or before is None else _grad(output, x, before)

    return pull


def _grad(output: Tensor, source: Tensor, gradient: Tensor) -> Tensor | None:
    return torch.autograd.grad(output, source, gradient, retain_graph=True, allow_unused=True)[0]


def image_norms(gradient: Tensor) -> Tensor:
    """Return the Euclidean norm of every image's part, float64 of shape (batch,)."""
    return wide(gradient.flatten(1)).norm(dim=1)


def path_counts(chain: Chain, gates: Gates | None = None) -> dict[int, int]:
    """Return how many paths of each length a chain has, exactly: binomial where every unit has a shortcut.

    The product over the units of (1 + z), of z where there is no shortcut, of 1 where the unit is closed.

    Args:
        chain: The network.
        gates: One per unit; None is the chain's own.
    """
    counts = {0: 1}
    for beside, through in _open_ways(chain, gates):
        grown: dict[int, int] = {}
        for length, count in counts.items():
            for more, is_open in ((0, beside), (1, through)):
                if is_open:
                    grown[length + more] = grown.get(length + more, 0) + count
        counts = grown
    return counts


def _open_ways(chain: Chain, gates: Gates | None) -> list[tuple[bool, bool]]:
    """Return, per unit, whether a path can go by the shortcut and whether it can go through the branch."""
    return [
        (unit.merge.passes_shortcut or gate is None, gate not in (None, 0))
        for unit, gate in zip(chain.units, chain.resolve(gates), strict=True)
    ]


def exact_gradients(stream: Stream) -> dict[int, Tensor]:
    """Return the gradient before the first unit, by length: Σ over all paths of that length, exactly.

    g_k ← shortcutᵀ g_k + branchᵀ g_{k−1} at every unit, from the head down. That is one backward pass through each
    branch for every length behind it, n/2 backward passes in all, of which only the half that leads to inputs (not to
    weights) is computed. Memory: the stream at every unit, n + 1 gradients, and one unit's maps.
    """

    def route(_: int, behind: Mapping[int, Tensor], shortcut: Pull, branch: Pull) -> dict[int, Tensor]:
        before: dict[int, Tensor] = {}
        for length, gradient in behind.items():
            for longer, part in ((length, shortcut(gradient)), (length + 1, branch(gradient))):
                if part is not None:
                    before[longer] = before[longer] + part if longer in before else part
        return before

    return sweep(stream, 0, route)


def path_norms(stream: Stream, paths: Sequence[Choice]) -> list[ScaledFloat]:
    """Return, for single paths, Σ over images of the norm of the image's gradient before the first unit.

    Paths that end alike share the work of their ends, which the backward pass meets first. A gradient that becomes
    small on its way is scaled by a power of two, so that paths through hundreds of branches do not vanish.
    """
    exponents: dict[Choice, int] = {(): 0}

    def route(unit: int, behind: Mapping[Choice, Tensor], shortcut: Pull, branch: Pull) -> dict[Choice, Tensor]:
        before = {}
        for end in dict.fromkeys(path[unit:] for path in paths):
            found = (branch if end[0] else shortcut)(behind[end[1:]])
            assert found is not None, "paths are drawn among those that exist"
            exponent = -math.frexp(float(found.abs().max()))[1] if end[0] else 0
            before[end] = torch.ldexp(found, torch.tensor(exponent)) if exponent else found
            exponents[end] = exponents[end[1:]] + exponent
        return before

    found = sweep(stream, (), route)
    return [(float(image_norms(found[path]).sum()), -exponents[path]) for path in paths]


def draw_paths(chain: Chain, lengths: Sequence[int], draws: int, seed: int) -> list[Choice]:
    """Return paths drawn at random, several of each length: which units they pass through their branches.

    Uniform among the units with both ways; the others leave no choice.
    """
    ways = _open_ways(chain, None)
    forced, free = sum(not beside for beside, _ in ways), [unit for unit, way in enumerate(ways) if all(way)]
    found = []
    for length in lengths:
        for draw in range(draws):
            chosen = random.Random(derive(seed, "paths", length, draw)).sample(free, length - forced)
            found.append(tuple(unit in chosen or not beside for unit, (beside, _) in enumerate(ways)))
    return found
