"""Survival rules: with which probability each unit is open in training, and what evaluation does instead.

Stochastic depth (Huang et al. 2016) closes whole units while training, b_l ~ Bernoulli(p_l), without rescaling, and
multiplies each branch by its survival p_l at test time (Eq. 5). With linear decay p_l = 1 − (l/L)(1 − p_L), l = 1..L
(Eq. 4): the input counts as l = 0, so the first unit already closes with probability (1 − p_L)/L.

The DropPath of later code bases is another rule: it divides by p_l in training and does nothing at test time. The two
are never mixed here.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from howdeep.chain import Gates
from howdeep.errors import UserError, unknown
from howdeep.seeds import generator

Schedule = Literal["constant", "linear", "uniform"]
Draw = Literal["batch", "sample"]


@dataclass(frozen=True)
class Survival:
    """A rule for the gates of training and their expectation in evaluation."""

    schedule: Schedule = "constant"
    """``constant`` (every unit always open), ``linear`` (p decays to ``last``) or ``uniform`` (every p is ``last``)."""
    last: float = 1.0
    """p_L, the survival of the last unit, in (0, 1]."""
    mode: Draw = "batch"
    """One draw per unit for the whole mini-batch, or one per unit and sample."""

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise unknown("survival rule", self.schedule, get_args(Schedule))
        if self.mode not in get_args(Draw):
            raise unknown("survival mode", self.mode, get_args(Draw))
        if not 0 < self.last <= 1:
            raise UserError(f"survival {self.last} is not allowed: it must be above 0 and at most 1")

    def __str__(self) -> str:
        name = "constant" if self.schedule == "constant" else f"{self.schedule}:{self.last:g}"
        return name if self.mode == "batch" else f"{name} per {self.mode}"

    @classmethod
    def parse(cls, text: str, mode: str = "batch") -> "Survival":
        """Read ``constant``, ``linear:0.5`` or ``uniform:0.8``.

        Raises:
            UserError: The rule is unknown or its number is not in (0, 1].
        """
        schedule, _, number = text.partition(":")
        if schedule not in get_args(Schedule):
            raise unknown("survival rule", schedule, get_args(Schedule))
        if (schedule == "constant") == bool(number):
            raise UserError(f"survival {text!r} is not allowed: write constant, linear:0.5 or uniform:0.8")
        return cls(schedule, _number(number, text) if number else 1.0, mode)  # type: ignore[arg-type]

    def probabilities(self, num_units: int) -> tuple[float, ...]:
        """Return p_1 … p_L for a chain of ``num_units`` units."""
        if self.schedule == "linear":
            return tuple(1 - unit / num_units * (1 - self.last) for unit in range(1, num_units + 1))
        return (self.last if self.schedule == "uniform" else 1.0,) * num_units

    @property
    def random(self) -> bool:
        """Whether training draws anything: false where every unit always survives."""
        return self.schedule != "constant" and self.last < 1

    def expected(self, num_units: int) -> Gates:
        """Return the gates of evaluation, E[b_l] = p_l."""
        return self.probabilities(num_units)

    def draw(self, num_units: int, *, seed: int, step: int, samples: slice | None = None, batch: int = 0) -> Gates:
        """Return the gates of one training step, a function of the seed and the step alone.

        Args:
            num_units: Units of the chain.
            seed: Seed of the run.
            step: Index of the mini-batch, so that every process and every resumed run draws the same.
            samples: For per-sample draws: the part of the mini-batch that this process holds; None is all.
            batch: For per-sample draws: images of the whole mini-batch over all processes.

        Raises:
            ValueError: A rule per sample was not told the size of the mini-batch.
        """
        if self.mode == "sample" and batch < 1:
            raise ValueError(f"{self} draws for a batch of {batch} images: it must be at least 1")
        p = torch.tensor(self.probabilities(num_units), dtype=torch.float64)
        stream = generator(seed, "gates", step)
        if self.mode == "batch":
            return (torch.rand(num_units, generator=stream, dtype=torch.float64) < p).double().tolist()
        uniform = torch.rand(num_units, batch, generator=stream, dtype=torch.float64)
        return list((uniform < p[:, None])[:, samples or slice(None)])


def expected_open(rule: Survival, num_units: int) -> float:
    """Return how many units are open on average, Σ p_l; (3L − 1)/4 for linear decay to 0.5."""
    return math.fsum(rule.probabilities(num_units))


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"survival {whole!r} is not allowed: {text!r} is not a number") from None
