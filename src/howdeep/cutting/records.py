"""What was cut out of a network, and what that saved and cost: frozen records."""

from dataclasses import dataclass, field

from torch import Tensor

from howdeep.analysis.effects import Baseline, Effect
from howdeep.chain import Chain
from howdeep.cutting.options import CutBudget
from howdeep.networks.counting import describe_chain
from howdeep.runtime.timing import Timing
from howdeep.util.records import IN_MEMORY, Shown


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One unit that is taken out."""

    index: int
    """Number of the unit, from 1."""
    name: str
    """What it is called."""
    distance: float | None
    """How far what the head reads is off without it and all that went in earlier rounds, the unit behind each gap
    refitted: squared differences from the uncut network on the calibration images, as a share of its squares. None
    where that is not finite, or where the unit was named."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a network costs."""

    units: int
    """Units, which own a gate."""
    parameters: int
    """Trainable numbers, norms included."""
    macs: int
    """Multiply-adds per image, of convolutions and matrix products, those of attention among them."""
    latency: Timing
    """One image, norms folded."""

    @classmethod
    def of(cls, chain: Chain, image: Tensor, latency: Timing) -> "Size":
        """Return what a network costs for an image, shape (1, channels, height, width)."""
        counted = describe_chain(chain, tuple(image.shape[1:]), name="", family="")
        return cls(units=counted.units, parameters=counted.parameters, macs=counted.macs, latency=latency)


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands on the first units of a network: a logistic regression, and what it reads."""

    name: str
    """``pooled``, their activations averaged over space, or ``kept``, what the old classifier reads when the old head
    follows them at once."""
    features: int
    """How many numbers that is."""
    strength: float
    """Of the decay, chosen on the calibration images."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One cut network."""

    out: int
    """Units that are out: the first so many of the order."""
    size: Size
    """What it costs."""
    cut: Effect
    """What it gets wrong as it was cut."""
    recalibrated: Effect | None = None
    """What it gets wrong with its batch norm recalibrated; None, as the next, where the layers before those norms are
    what they were: of first units."""
    refitted: Effect | None = None
    """What it gets wrong with the units behind each gap refitted."""
    kept: str = "cut"
    """Which of the three it is, the best one on the calibration images: ``cut``, ``recalibrated`` or ``refitted``."""
    head: Head | None = None
    """Its new classifier; None where it has the one that it had."""

    @property
    def best(self) -> Effect:
        """What it gets wrong."""
        return getattr(self, self.kept)


@dataclass(frozen=True, kw_only=True)
class Test:
    """The test split, read once."""

    original: Baseline
    """The network before the cut."""
    cut: Effect
    """The network that came out."""


@dataclass(frozen=True, kw_only=True)
class InInt8:
    """A network with weights and activations of 8 bits, as ``howdeep export --int8`` writes it."""

    units: int
    """Units of it."""
    in_float32: Timing
    """One image in the network as it is, timed by turns with the other."""
    latency: Timing
    """One image in 8 bits."""
    effect: Effect
    """What it gets wrong in 8 bits, compared with the uncut network in float32."""


@dataclass(frozen=True, kw_only=True)
class Cut(Shown):
    """A network cut to a budget, without named units or to its first ones, or its whole frontier.

    First units get a new classifier, and so does the whole network that they are compared with.
    """

    budget: CutBudget
    """What was asked for; nothing where units were named."""
    original: Size
    """What the network costs."""
    baseline: Baseline
    """What it gets wrong."""
    order: tuple[Removal, ...]
    """The units in the order in which they go, as far as it was looked for; named ones by rising number, those behind
    the first ones from the last."""
    points: tuple[Point, ...]
    """Cut networks, the fewest units out first; all were timed by turns with the original."""
    chosen: int | None
    """How many units are out of the network that was chosen; None for the whole frontier."""
    head: str | None = None
    """Which head was chosen for the first units, by the name that it has in their points; None where the network keeps
    its own."""
    calibration_images: int
    """Images on which units were chosen, unless they were named, and which of two networks is kept."""
    statistics_images: int = 0
    """Images on which norm statistics were estimated."""
    refitting_images: int = 0
    """Of these, images on which units were refitted."""
    classifier_images: int = 0
    """Training images of the new classifiers."""
    threads: int
    """Threads of the timed passes."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    epochs: float = 0
    """Of fine-tuning."""
    tuned: Effect | None = None
    """The chosen network after the best epoch of fine-tuning, on the images of the points."""
    tuned_epoch: float | None = None
    """Which epoch that is; None where it is the last."""
    tuned_kept: bool = True
    """Whether the network is that one: whether fine-tuning helped on the calibration images."""
    test: Test | None = None
    """The network that is kept, on the test split."""
    int8: tuple[InInt8, ...] = ()
    """The uncut network and the one that is kept in 8 bits, where a runtime of ONNX was asked for."""
    chain: Chain | None = field(default=None, repr=False, compare=False, metadata=IN_MEMORY)
    """The network that is kept; of a whole frontier, the network as it is. None in a record that was read."""

    @property
    def choice(self) -> Point | None:
        """The point that was chosen."""
        return next(
            (one for one in self.points if (one.out, one.head and one.head.name) == (self.chosen, self.head)), None
        )

    @property
    def kept(self) -> str | None:
        """Which network is kept: ``cut``, ``recalibrated``, ``refitted`` or ``tuned``; None for the whole frontier."""
        if self.tuned is not None and self.tuned_kept:
            return "tuned"
        return self.choice and self.choice.kept

    @property
    def best(self) -> Effect | None:
        """What the network that is kept gets wrong, on the images of the points; None for the whole frontier."""
        return self.tuned if self.kept == "tuned" else self.choice and self.choice.best
