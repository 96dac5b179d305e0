"""The backward pass of a chain, unit by unit, with a choice at every unit: through the branch or by the shortcut.

At a fixed forward pass the backward pass is linear. With J the Jacobian of a branch and S that of its shortcut,

    g_{l-1} = (S_lᵀ + J_lᵀ) g_l        and expanded        g_0 = Σ over all 2ⁿ paths

so a gradient can be split exactly by the number of branches that it passed (Veit et al. 2016, section 4.3, measured a
sample of these paths).
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from howdeep.chain import Chain, Gate, Unit, run
from howdeep.data import Batch
from howdeep.device import wide
from howdeep.errors import UserError

Pull = Callable[[Tensor], Tensor | None]
"""A gradient behind a unit → that before it, along one of its two ways; None where the way is closed."""
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
            pull = _pull(module, x)
            states = {name: pull(gradient) for name, gradient in states.items()}
    return states


def _ways(unit: Unit, gate: Gate, x: Tensor) -> tuple[Pull, Pull]:
    """Return the ways back through a unit: by its shortcut, and through its branch."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        beside, through = unit.shortcut(x), None if gate is None or gate == 0 else gate * unit.branch(x)
        shortcut = beside.detach().requires_grad_()
        branch = None if through is None else through.detach().requires_grad_()
        merged = _merged(unit, gate, shortcut, branch)
    return _way(merged, shortcut, beside, x), _way(merged, branch, through, x)


def _merged(unit: Unit, gate: Gate, shortcut: Tensor, branch: Tensor | None) -> Tensor:
    if branch is not None:
        return unit.merge(shortcut, branch)
    return unit.merge.removed(shortcut) if gate is None else unit.merge.closed(shortcut)


def _way(merged: Tensor, entry: Tensor | None, output: Tensor | None, x: Tensor) -> Pull:
    """Return the transpose of merge and part: gradient behind the merge → gradient before the part."""

    def pull(gradient: Tensor) -> Tensor | None:
        if entry is None or output is None or not merged.requires_grad:
            return None
        before = gradient if merged is entry else _grad(merged, entry, gradient)
        return before if output is x or before is None else _grad(output, x, before)

    return pull


def _pull(link: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the transpose of a link."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = link(x)

    def pull(gradient: Tensor) -> Tensor:
        found = gradient if y is x else _grad(y, x, gradient)
        assert found is not None, "a link passes its input on"
        return found

    return pull


def _grad(output: Tensor, source: Tensor, gradient: Tensor) -> Tensor | None:
    return torch.autograd.grad(output, source, gradient, retain_graph=True, allow_unused=True)[0]


def image_norms(gradient: Tensor) -> Tensor:
    """Return the Euclidean norm of every image's part, float64 of shape (batch,)."""
    return wide(gradient.flatten(1)).norm(dim=1)
