"""Recipes as data: how the literature trained these networks, and a short modern one.

A schedule is a pure function of how much of the run is done, so that a resumed run, a plot and a run of another
length cannot disagree.
"""

import math
import textwrap
from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

from howdeep.util.errors import UserError, unknown
from howdeep.util.text import counted

Kind = Literal["sgd", "adamw", "muon"]
Statistics = Literal["batch", "frozen", "auto"]
Tune = Literal["all", "classifier"]
Freeze = int | Literal["auto"]
Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Steps:
    """A learning rate that stays, then falls at given moments."""

    extendable: ClassVar[bool] = False
    rates: tuple[tuple[float, float], ...]
    """(share of the run from which it holds, learning rate), the first from 0."""

    def at(self, step: int, total: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        moments = [moment for moment, _ in self.rates]
        return self.rates[bisect_right(moments, step / total) - 1][1]

    @property
    def peak(self) -> float:
        """Highest learning rate."""
        return max(rate for _, rate in self.rates)

    def scaled(self, peak: float) -> "Steps":
        """Return the same schedule with another highest rate."""
        factor = peak / self.peak
        return Steps(tuple((moment, rate * factor) for moment, rate in self.rates))


@dataclass(frozen=True)
class OneCycle:
    """A learning rate that rises linearly to its peak and falls linearly towards 0."""

    extendable: ClassVar[bool] = False
    peak: float
    """Highest learning rate."""
    rise: float
    """Share of the run until the peak."""

    def at(self, step: int, total: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        done = (step + 0.5) / total
        return self.peak * min(done / self.rise, (1 - done) / (1 - self.rise))

    def scaled(self, peak: float) -> "OneCycle":
        """Return the same schedule with another highest rate."""
        return OneCycle(peak, self.rise)


@dataclass(frozen=True)
class Cosine:
    """A learning rate that rises linearly to its peak and falls to 0 as half a cosine does."""

    extendable: ClassVar[bool] = False
    peak: float
    """Highest learning rate."""
    rise: float
    """Share of the run until the peak."""

    def at(self, step: int, total: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        done = (step + 0.5) / total
        if done < self.rise:
            return self.peak * done / self.rise
        return self.peak * (1 + math.cos(math.pi * (done - self.rise) / (1 - self.rise))) / 2

    def scaled(self, peak: float) -> "Cosine":
        """Return the same schedule with another highest rate."""
        return Cosine(peak, self.rise)


@dataclass(frozen=True)
class WarmupStableDecay:
    """A learning rate that rises, stays, and falls linearly towards 0.

    A finished run can be given more epochs: it rises again from what was learned (Wen et al. 2024, arXiv 2410.05192,
    the simplified variant), so that every end of a phase is a finished network and nothing is trained twice.
    """

    extendable: ClassVar[bool] = True
    peak: float
    """Highest learning rate."""
    rise: float
    """Share of a phase until the peak."""
    fall: float
    """Share of a phase in which it falls."""

    def at(self, step: int, total: int) -> float:
        """Return the learning rate of a step of a phase, counted from 0."""
        done = (step + 0.5) / total
        return self.peak * min(1.0, done / self.rise, (1 - done) / self.fall)

    def scaled(self, peak: float) -> "WarmupStableDecay":
        """Return the same schedule with another highest rate."""
        return replace(self, peak=peak)


@dataclass(frozen=True)
class Warmup:
    """A low learning rate at the start, until a moment that the run itself decides."""

    rate: float
    """Learning rate meanwhile."""
    steps: int
    """It ends after so many steps at the latest."""
    until_error: float | None = None
    """It ends as soon as the training error of the last ``window`` mini-batches is below this share."""
    window: int = 20
    """Mini-batches over which that error is taken."""
    from_depth: int = 0
    """Networks of fewer layers start without."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, apart from the network and the data."""

    name: str
    """Name on the command line."""
    source: str
    """Where it comes from."""
    batch_size: int
    """Images per mini-batch, over all devices."""
    schedule: Steps | OneCycle | Cosine | WarmupStableDecay
    """Learning rate over the run."""
    epochs: float | None = None
    """Passes over the training images; None where ``steps`` says it."""
    steps: int | None = None
    """Mini-batches in all; None where ``epochs`` says it."""
    optimizer: Kind = "sgd"
    """Rule of the update."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = True
    """Nesterov's momentum."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's means of gradients and of their squares, a step."""
    layer_decay: float = 1.0
    """Learning rate of a unit, as a share of that of the next one on the way to the head."""
    clip: float | None = None
    """Largest L2 norm of all gradients together; None for any."""
    weight_decay: float = 1e-4
    """L2 penalty; AdamW's and Muon's is decoupled: a step takes this times the rate from a weight."""
    decay_all: bool = True
    """Decay norms and biases too, as the papers' code does; else convolutions and classifier only."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    normalization: str = "per_channel"
    """How pixels are normalised."""
    survival: str = "constant"
    """Survival rule of the units."""
    zero_init: bool = False
    """Branches return zeros at the start."""
    warmup: Warmup | None = None
    """A low learning rate at the start."""
    norm_statistics: Statistics = "batch"
    """What norms normalise by in training: their mini-batch, or their running statistics, which stay as they are."""
    tune: Tune = "all"
    """What of given weights is trained: all, or nothing beyond the regression with which a new classifier begins."""
    freeze: Freeze = 0
    """So many units at the start stay as they are, and the stem before them."""
    ema: float | None = None
    """What of the weights' moving average stays in a step; None for no average."""
    keep: Keep = "last"
    """The weights that a run stands for: those of the epoch of the best validation, or the last."""

    @property
    def lines(self) -> list[str]:
        """Everything that shapes the training, in lines of 80 columns."""
        lengths = (self.epochs, "epoch"), (self.steps, "step")
        length = next(counted(number, what) for number, what in lengths if number is not None)
        rate = f"{self.optimizer} at {self.schedule.peak:g} ({type(self.schedule).__name__})"
        decay = f"weight decay {self.weight_decay:g}" + ("" if self.decay_all else " on matrices")
        more = {
            f"layer decay {self.layer_decay:g}": self.layer_decay != 1,
            f"clip {self.clip}": self.clip is not None,
            f"ema {self.ema}": self.ema is not None,
            f"smoothing {self.label_smoothing:g}": self.label_smoothing,
            f"survival {self.survival}": self.survival != "constant",
            f"norms {self.norm_statistics}": self.norm_statistics != "batch",
            f"tune {self.tune}": self.tune != "all",
            f"freeze {self.freeze}": self.freeze != 0,
        }
        shown = [text for text, on in more.items() if on]
        rest = ", ".join([decay, *shown, f"{self.keep} epoch kept"])
        wrapped = textwrap.wrap(rest, 80, initial_indent="  ", subsequent_indent="  ")
        return [f"recipe {self.name}: {length}, batch {self.batch_size}, {rate}", *wrapped]

    def to_json(self) -> dict:
        """Return every value as plain data; the schedule with its kind."""
        return {**asdict(self), "schedule": {"kind": type(self.schedule).__name__, **asdict(self.schedule)}}

    def settled(self, *, given: bool) -> "Recipe":
        """Return the same recipe with the norm statistics that ``auto`` is: frozen for given weights.

        Test errors with frozen statistics and with those of mini-batches, one seed each, of tf_efficientnet_lite0:
        signs of hands 0.5 and 11.7 % (n = 411), waste 7.9 and 8.7 % (n = 504), waste with six units frozen 8.1 and
        14.7 %, digits 2.8 and 0.6 % (n = 179: within chance).

        Args:
            given: Whether the network begins with given weights.
        """
        return replace(self, norm_statistics="frozen" if given else "batch") if self.norm_statistics == "auto" else self

    def check(self, name: str, units: int, *, new: bool) -> None:
        """Refuse to train less of a network than it has.

        Args:
            name: What the network is called.
            units: How many it has.
            new: Whether its classifier is a new one.

        Raises:
            UserError: The classifier alone is to be trained and is not new, or more units are to be frozen.
        """
        if self.tune == "classifier" and not new:
            raise UserError("--tune classifier is not allowed: it is kept; --classifier new begins with another")
        if self.freeze != "auto" and self.freeze > units:
            raise UserError(f"--freeze {self.freeze} is not allowed: {name} has {units} units")

    def for_depth(self, depth: int) -> "Recipe":
        """Return the same recipe without a warm-up that is meant for deeper networks."""
        return replace(self, warmup=None) if self.warmup is not None and depth < self.warmup.from_depth else self

    def total(self, steps_per_epoch: int) -> int:
        """Return the mini-batches of a run whose epochs have so many; none where nothing more is trained."""
        if self.tune == "classifier":
            return 0
        if self.steps is not None:
            return self.steps
        # Rounded first: epochs that were computed from steps give those steps again.
        return max(1, math.ceil(round((self.epochs or 0) * steps_per_epoch, 6)))

    def scaled(self, peak: float) -> "Recipe":
        """Return the same recipe with another highest learning rate; the warm-up keeps its share of it."""
        warmup = self.warmup and replace(self.warmup, rate=self.warmup.rate * peak / self.schedule.peak)
        return replace(self, schedule=self.schedule.scaled(peak), warmup=warmup)


DROPS = Steps(((0.0, 0.1), (0.5, 0.01), (0.75, 0.001)))

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="fast",
            source="short enough for a laptop: one cycle, label smoothing, zero-initialised branches, best epoch kept",
            batch_size=128,
            epochs=20,
            schedule=OneCycle(peak=0.2, rise=0.25),
            weight_decay=5e-4,
            decay_all=False,
            label_smoothing=0.1,
            zero_init=True,
            keep="best",
        ),
        Recipe(
            name="extendable",
            source="Wen et al. 2024: as fast, but a finished run can be given more epochs and resumes",
            batch_size=128,
            epochs=20,
            schedule=WarmupStableDecay(peak=0.1, rise=0.05, fall=0.5),
            weight_decay=5e-4,
            decay_all=False,
            label_smoothing=0.1,
            zero_init=True,
        ),
        Recipe(
            name="finetune",
            source="for given weights: AdamW, cosine with warm-up, lower rates towards the stem, best epoch kept",
            batch_size=32,
            epochs=8,
            schedule=Cosine(peak=1e-3, rise=0.1),
            optimizer="adamw",
            layer_decay=0.85,
            clip=1.0,
            weight_decay=0.05,
            decay_all=False,
            label_smoothing=0.1,
            norm_statistics="auto",
            keep="best",
        ),
        Recipe(
            name="he2015",
            source="He et al. 2015, section 4.2: 64k steps, a tenth at 32k and 48k; 0.01 first from 110 layers on",
            batch_size=128,
            steps=64_000,
            schedule=DROPS,
            nesterov=False,
            normalization="per_pixel_mean",
            warmup=Warmup(rate=0.01, steps=2_000, until_error=0.8, from_depth=110),
        ),
        Recipe(
            name="identity2016",
            source="He et al. 2016, appendix: as 2015, with 0.01 for the first 400 steps of every network",
            batch_size=128,
            steps=64_000,
            schedule=DROPS,
            nesterov=False,
            normalization="per_pixel_mean",
            warmup=Warmup(rate=0.01, steps=400),
        ),
        Recipe(
            name="stochastic_depth2016",
            source="Huang et al. 2016, section 4: 500 epochs, a tenth after 250 and 375, linear decay to 0.5",
            batch_size=128,
            epochs=500,
            schedule=DROPS,
            normalization="per_pixel_mean_scalar_std",
            survival="linear:0.5",
        ),
        Recipe(
            name="densenet2016",
            source="Huang et al. 2016 (DenseNet), section 4.2: 300 epochs, a tenth after 150 and 225",
            batch_size=64,
            epochs=300,
            schedule=DROPS,
        ),
    )
}


def recipe_of(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        UserError: There is none; the nearest is named.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
