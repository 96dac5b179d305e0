"""Two networks on the same images: how they differ as they are, such as before a cut and after it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from howdeep.explorer.engine import Engine
from howdeep.util.errors import UserError
from howdeep.util.intervals import of_change
from howdeep.util.text import counted, minus, number


@dataclass(frozen=True, kw_only=True)
class Beside:
    """How two networks differ on the same images."""

    names: tuple[str, ...]
    """Of both, as they were asked for."""
    finding: str
    """Units, errors with the paired interval of their difference, and latencies."""


def side_by_side(engines: Sequence[Engine]) -> Beside:
    """Return how two networks differ, image by image.

    Raises:
        UserError: Their images, or the classes of these, are others.
    """
    names = tuple(engine.target.name for engine in engines)
    if len({(engine.sample.fingerprint, engine.classes) for engine in engines}) > 1:
        raise UserError(f"{names[1]} cannot stand beside {names[0]}: their images or classes are others")
    before, after = (torch.cat([batch.wrong for batch in engine.before]).cpu() for engine in engines)
    lost, won, n = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    low, high = of_change(lost, won, n)
    units = " and ".join(counted(len(engine.chain), "unit") for engine in engines)
    errors = " → ".join(f"{100 * wrong.double().mean():.1f}" for wrong in (before, after))
    change = minus(f"{100 * (lost - won) / n:+.1f} points (95 %: {low:+.1f} to {high:+.1f}, n = {n:,})")
    times = " → ".join(number(engine.costs.ms) for engine in engines)
    return Beside(names=names, finding=f"{units}: error {errors} %, {change}; {times} ms")
