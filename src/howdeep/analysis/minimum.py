"""The minimum of a convex function: L-BFGS (Nocedal and Wright 2006, algorithms 7.4 and 3.1).

torch.optim's does the same, but its import alone takes longer than a whole fit: 1.6 s.
"""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

HISTORY = 10
"""Steps whose change of the gradient is remembered."""
ITERATIONS = 500
"""At most."""
ENOUGH, HALVINGS = 1e-4, 10
"""Share of the decrease that the slope promises, and how often a step that does not bring it is halved."""


def minimum(function: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, tolerance: float) -> Tensor:
    """Return where a convex function has its minimum.

    Args:
        function: Gives value and gradient; best of curvature about one along every direction.
        start: Where to begin.
        tolerance: Decrease of the value that is still to be expected where this stops.
    """
    at, (value, gradient) = start, function(start)
    steps: deque[tuple[Tensor, Tensor]] = deque(maxlen=HISTORY)
    for _ in range(ITERATIONS):
        way = _direction(gradient, steps)
        slope = float((gradient * way).sum())
        if -slope / 2 <= tolerance:
            break
        rounding = 10 * torch.finfo(start.dtype).eps * abs(value)
        for halved in range(HALVINGS):
            length = 0.5**halved
            following = at + length * way
            lower, moved = function(following)
            if lower <= value + ENOUGH * length * slope + rounding:
                break
        step, bend = following - at, moved - gradient
        if float((step * bend).sum()) > 0:  # not of rounding
            steps.append((step, bend))
        at, value, gradient = following, lower, moved
    return at


def _direction(gradient: Tensor, steps: deque[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the way down by the curvature that the last steps have shown."""
    way, shares = -gradient, []
    for step, bend in reversed(steps):
        shares.append((step * way).sum() / (step * bend).sum())
        way = way - shares[-1] * bend
    if steps:
        step, bend = steps[-1]
        way = way * ((step * bend).sum() / bend.square().sum())
    for (step, bend), share in zip(steps, reversed(shares), strict=True):
        way = way + (share - (bend * way).sum() / (step * bend).sum()) * step
    return way
