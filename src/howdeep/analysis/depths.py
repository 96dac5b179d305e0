"""A network at every depth: what a probe finds there, and what it says of all of them."""

from dataclasses import dataclass

from howdeep.analysis.evaluation import Answers
from howdeep.runtime.timing import Timing
from howdeep.util.intervals import OPEN, SIGNIFICANT
from howdeep.util.records import Shown


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a linear classifier gets wrong that was fitted on what is read at one place."""

    features: int
    """Numbers per image that it reads."""
    error_percent: float
    """Share of wrong answers."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""
    loss: float
    """Mean cross-entropy in nats."""
    strength: float
    """Of its decay, chosen on the same images (see :mod:`howdeep.analysis.linear`)."""
    answers: Answers
    """Image by image."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """An error minus another one on the same images, in points."""

    points: float
    """The difference."""
    low: float
    """Lower end of its 95 % interval: paired, and of this comparison alone."""
    high: float
    """Upper end."""
    chance: float
    """How likely so much is by chance alone, all comparisons of its kind considered (Holm 1979)."""

    @property
    def worse(self) -> bool:
        """Whether the error is higher beyond chance, all comparisons considered."""
        return self.points > 0 and self.chance < SIGNIFICANT

    @property
    def alike(self) -> bool:
        """Whether it may be none, and is at most small: its own interval holds 0 and does not reach far."""
        return self.low <= 0 and self.high <= OPEN


@dataclass(frozen=True, kw_only=True)
class Depth:
    """A network up to some depth, with a classifier of its own."""

    units: int
    """Units that it has."""
    name: str
    """What the last of them is called; ``stem`` without any, ``end`` for the whole network."""
    whole: bool
    """Whether it is the whole network, head included."""
    head: str
    """What its classifier reads: ``pooled``, the activations averaged over space; or ``kept``, what the network's own
    classifier would read if the units behind were gone."""
    fitted: Fitted
    """What the classifier gets wrong."""
    neighbour_error_percent: float
    """What the nearest training image gets wrong, by the cosine of the same features, standardised."""
    to_best: Change | None
    """Against the depth of the lowest error; None for itself."""
    to_end: Change | None
    """Against the whole network; None for itself."""
    latency: Timing
    """One image, norms folded."""
    macs: int
    """Multiply-adds per image."""
    parameters: int
    """Trainable numbers, norms included."""


@dataclass(frozen=True, kw_only=True)
class ProbeTest:
    """The test split, read once."""

    n: int
    """Images."""
    error_percent: float
    """Of the chosen depth."""
    end_error_percent: float
    """Of the whole network."""
    end_neighbour_error_percent: float
    """Of the nearest neighbour, by what the whole network computes."""
    change: Change
    """The one minus the other."""


@dataclass(frozen=True, kw_only=True)
class Probe(Shown):
    """Error and cost of a network at every depth, on data that it need not know."""

    n: int
    """Images on which errors are measured, and depth and strengths are chosen."""
    train_images: int
    """Images on which the classifiers are fitted."""
    classes: int
    """Classes of the data."""
    units: int
    """Units of the network."""
    depths: tuple[Depth, ...]
    """From the stem to the whole network; where the head accepts the activations, one more of as many units with it."""
    best: int
    """Which of them, from 0, has the lowest error; of several the shallowest."""
    chosen: int
    """Which of them is recommended: the shallowest whose difference to the lowest error may be none and is small; with
    a budget, the one of the lowest error that holds it."""
    budget_ms: float | None
    """Time for one image."""
    threads: int
    """Threads of the timed passes."""
    views: int = 1
    """Views of every image over which what was read was averaged."""
    test: ProbeTest | None = None
    """The chosen depth and the whole network on other images."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""

    @property
    def choice(self) -> Depth:
        """The depth that is recommended."""
        return self.depths[self.chosen]

    @property
    def lowest(self) -> Depth:
        """The depth of the lowest error."""
        return self.depths[self.best]

    @property
    def end(self) -> Depth:
        """The whole network."""
        return self.depths[-1]
