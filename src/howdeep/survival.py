"""Survival rules: with which probability each unit is open in training, and what evaluation does instead.

Stochastic depth (Huang et al. 2016) closes whole units while training, b_l ~ Bernoulli(p_l), without rescaling, and
multiplies each branch by its survival p_l at test time (Eq. 5). With linear decay p_l = 1 − (l/L)(1 − p_L), l = 1..L
(Eq. 4): the input counts as l = 0, so the first unit already closes with probability (1 − p_L)/L.

Veit et al. 2016 train with exactly 23 of 54 units open, another uniformly random subset in every mini-batch, so that
paths have about the lengths that carry the gradient (11.5 on average). Each unit is open with probability m/L, but
units are not independent: their number never varies.

Draws per sample are systematic (Madow 1949): with one uniform number u per unit, part i of the 8 of a mini-batch keeps
the unit where (u + i/8) mod 1 < p_l. Every sample's gates have the law above, and units are independent; as many parts
as p_l says, to one, keep a unit, and they are neighbours, so that little is copied. The units that ``exactly`` opens
are drawn for every sample on its own.

The DropPath of later code bases is another rule: it divides by p_l in training and does nothing at test time. The two
are never mixed here.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from howdeep.chain import Chain, Gates
from howdeep.util.errors import UserError, unknown
from howdeep.util.seeds import generator

Schedule = Literal["constant", "linear", "uniform", "exactly"]
Draw = Literal["batch", "sample"]
PARTS = 8
"""Of a mini-batch, each of which has gates of its own in mode ``sample``. Steps took 2 % longer with gates for each of
128 samples, whose groups are copied more often and have odd sizes."""
RULES = "constant, linear:0.5, uniform:0.8 or exactly:23"


@dataclass(frozen=True)
class Survival:
    """A rule for the gates of training and their expectation in evaluation."""

    schedule: Schedule = "constant"
    """``constant`` (every unit always open), ``linear`` (p decays to ``last``), ``uniform`` (every p is ``last``) or
    ``exactly`` (``open_units`` of them, whichever)."""
    last: float = 1.0
    """p_L, the survival of the last unit, in (0, 1]."""
    mode: Draw = "batch"
    """Gates for the whole mini-batch; or others for each eighth of its samples, of ``exactly`` for each sample."""
    open_units: int | None = None
    """How many units ``exactly`` opens, at least 1; None for the other rules."""

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise unknown("survival rule", self.schedule, get_args(Schedule))
        if self.mode not in get_args(Draw):
            raise unknown("survival mode", self.mode, get_args(Draw))
        if not 0 < self.last <= 1:
            raise UserError(f"survival {self.last} is not allowed: it must be above 0 and at most 1")
        count = self.open_units
        if (self.schedule == "exactly") != (count is not None):
            raise UserError(f"open_units {count} is not allowed for survival {self.schedule!r}: only exactly has it")
        if count is not None and not (isinstance(count, int) and count >= 1):
            raise UserError(f"survival exactly:{count} is not allowed: it must be a whole number, at least 1")

    def __str__(self) -> str:
        number = self.open_units if self.schedule == "exactly" else f"{self.last:g}"
        name = "constant" if self.schedule == "constant" else f"{self.schedule}:{number}"
        return name if self.mode == "batch" else f"{name} per {self.mode}"

    @classmethod
    def parse(cls, text: str, mode: str = "batch") -> "Survival":
        """Read ``constant``, ``linear:0.5``, ``uniform:0.8`` or ``exactly:23``.

        Raises:
            UserError: The rule is unknown, its number is not in (0, 1], or its count of units not whole or below 1.
        """
        schedule, _, number = text.partition(":")
        if schedule not in get_args(Schedule):
            raise unknown("survival rule", schedule, get_args(Schedule))
        if (schedule == "constant") == bool(number):
            raise UserError(f"survival {text!r} is not allowed: write {RULES}")
        if schedule == "exactly":
            return cls(schedule, mode=mode, open_units=_whole(number, text))  # type: ignore[arg-type]
        return cls(schedule, _number(number, text) if number else 1.0, mode)  # type: ignore[arg-type]

    def check(self, num_units: int) -> None:
        """Refuse a chain that the rule does not fit.

        Raises:
            UserError: More units are to be open than there are.
        """
        if self.open_units is not None and self.open_units > num_units:
            raise UserError(f"survival {self} is not allowed for {num_units} units: at most {num_units} can be open")

    def probabilities(self, num_units: int) -> tuple[float, ...]:
        """Return p_1 … p_L for a chain of ``num_units`` units.

        Raises:
            UserError: More units are to be open than there are.
        """
        self.check(num_units)
        if self.open_units is not None:
            return (self.open_units / num_units,) * num_units
        if self.schedule == "linear":
            return tuple(1 - unit / num_units * (1 - self.last) for unit in range(1, num_units + 1))
        return (self.last if self.schedule == "uniform" else 1.0,) * num_units

    @property
    def random(self) -> bool:
        """Whether training draws anything: false where every unit always survives.

        ``exactly`` counts as random, because only a chain knows whether it has more units than that.
        """
        return self.schedule == "exactly" or (self.schedule != "constant" and self.last < 1)

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
            UserError: More units are to be open than there are.
        """
        if self.mode == "sample" and batch < 1:
            raise ValueError(f"{self} draws for a batch of {batch} images: it must be at least 1")
        columns = batch if self.mode == "sample" and self.schedule == "exactly" else 1
        uniform = torch.rand(num_units, columns, generator=generator(seed, "gates", step), dtype=torch.float64)
        if self.mode == "batch":
            return self._opened(uniform)[:, 0].double().tolist()
        if self.schedule != "exactly":
            parts = min(PARTS, batch)
            uniform = (uniform + torch.arange(batch) * parts // batch / parts) % 1
        return list(self._opened(uniform)[:, samples or slice(None)])

    def _opened(self, uniform: Tensor) -> Tensor:
        """Return which units are open, bool, from uniform numbers of the same shape (units, draws)."""
        p = torch.tensor(self.probabilities(len(uniform)), dtype=torch.float64)
        if self.open_units is None:
            return uniform < p[:, None]
        # Every order of independent numbers is equally likely, so the units of the m smallest are any m units.
        smallest = uniform.argsort(dim=0, stable=True)[: self.open_units]
        return torch.zeros_like(uniform, dtype=torch.bool).scatter_(0, smallest, True)


class Drawing(nn.Module):
    """A chain as a module of images alone: in training it draws the gates of its rule, by seed and number of the pass.

    It begins in training mode, as new modules do and trainers expect, and its mode is the chain's too. The number is a
    buffer: a copy, a pickle or a state that was loaded draws what the original would have drawn next. Processes that
    hold the same seed and number close the same units.

    Args:
        chain: The network, whose weights are shared.
        seed: Of the draws.

    Raises:
        UserError: The network cannot be trained as a chain.
    """

    def __init__(self, chain: Chain, seed: int) -> None:
        super().__init__()
        self.chain, self.seed = chain, seed
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.passes: Tensor
        """Passes in training mode so far."""
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (batch, classes), of images, shape (batch, channels, height, width)."""
        rule, gates = self.chain.rule, None
        if self.training and isinstance(rule, Survival) and rule.random:
            gates = rule.draw(len(self.chain), seed=self.seed, step=int(self.passes), batch=len(images))
            self.passes += 1
        return self.chain(images, gates)


def expected_open(rule: Survival, num_units: int) -> float:
    """Return how many units are open on average, Σ p_l; (3L − 1)/4 for linear decay to 0.5."""
    return math.fsum(rule.probabilities(num_units))


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"survival {whole!r} is not allowed: {text!r} is not a number") from None


def _whole(text: str, whole: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"survival {whole} is not allowed: it must be a whole number, at least 1") from None
