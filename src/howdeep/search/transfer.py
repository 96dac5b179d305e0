"""What a search among published networks has found."""

from dataclasses import dataclass

from howdeep.analysis.depths import Depth, Probe
from howdeep.chain import Chain
from howdeep.runs import folder as runs
from howdeep.runtime.timing import Timing
from howdeep.search.answer import FinalError
from howdeep.search.options import Budgets
from howdeep.util.records import Shown


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a network can begin: a published one, for images of some size, up to some depth."""

    network: str
    """Its name."""
    size: int
    """Side of its images in pixels."""
    units: int
    """Units that it has."""
    of_units: int
    """Units of the whole network."""
    whole: bool
    """Whether it is the whole network, with the head before its classifier."""
    head: str
    """``pooled``: its classifier reads activations averaged over space; ``kept``: it has the head of the network."""

    @property
    def depth(self) -> str:
        """How much of the network it is, in a few words."""
        head = " + head" if self.head == "kept" else ""
        return "whole" if self.whole else f"{self.units} of {self.of_units} units{head}"

    @property
    def text(self) -> str:
        """Which one it is, in a few words."""
        return f"{self.network} at {self.size}, {self.depth}"


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A published network for images of some size, probed at every depth."""

    network: str
    """Its name."""
    size: int
    """Side of its images in pixels."""
    probe: Probe
    """Error, cost and answers of every depth, under a classifier that was fitted there."""
    seconds: float
    """Time that this took."""

    @property
    def text(self) -> str:
        """Which one it is, in a few words."""
        return f"{self.network} at {self.size}"

    def start(self, depth: Depth) -> Start:
        """Return one of its depths as a start."""
        units = {"units": depth.units, "of_units": self.probe.units, "whole": depth.whole, "head": depth.head}
        return Start(network=self.network, size=self.size, **units)


@dataclass(frozen=True, kw_only=True)
class Missed:
    """A network that no depth of can meet a budget."""

    network: str
    """Its name."""
    size: int
    """Side of its images in pixels."""
    budget: str
    """``latency`` or ``parameters``."""
    reason: str
    """What its stem alone costs."""
    needed: float
    """What the budget would have to be."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a start, which begins with the classifier that was fitted to all its training images."""

    start: Start
    """What was trained."""
    run: str
    """Its run folder."""
    seed: int
    """Of order and augmentation."""
    steps: int
    """Mini-batches; 0 where the classifier alone was fitted."""
    epochs: float
    """Passes over the training images."""
    seconds: float
    """Time that this took."""
    before_percent: float
    """Validation error of what it began with."""
    kept_epoch: float
    """Epoch that was kept; 0 is what it began with, where no epoch had fewer errors."""
    train_error_percent: float | None
    """Of the last epoch, while it was trained and augmented."""
    validation_error_percent: float
    """Of what was kept."""
    validation_images: int
    """Images behind it."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """Another network on the test split."""

    what: str
    """Which one."""
    latency: Timing
    """One image, norms folded."""
    test: FinalError
    """Its test error."""


@dataclass(frozen=True)
class Verdict:
    """Why not better."""

    limit: str
    """``latency`` or ``parameters``: a network beyond that budget did better; ``train``: there was no time for more
    training, which helps; ``unknown``: there was little, which did not help, and more may, or none for the finalist
    with the lowest error; ``data``: the network knows its training images; ``nothing``."""
    finding: str
    """The evidence, in one sentence."""
    advice: str
    """What to do, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Transfer(Shown):
    """The answer to how deep where published networks are begun with, and its evidence."""

    chosen: Start
    """What is recommended."""
    run: str
    """Its run folder."""
    validation_error_percent: float
    """By which it was chosen: optimistic, as the best of several."""
    validation_images: int
    """Images behind it."""
    test: FinalError
    """Its test error."""
    latency: Timing
    """One image, norms folded, fp32; measured on the trained network."""
    parameters: int
    """Its trainable numbers."""
    macs: int
    """Its multiply-adds per image."""
    spent_seconds: float
    """Time that all of this took here."""
    budgets: Budgets
    """What was allowed."""
    verdict: Verdict
    """Why not better."""
    guessing_percent: float
    """Validation error of who always says the most frequent class."""
    probed: tuple[Probed, ...]
    """Every network, at every depth."""
    dropped: tuple[Missed, ...]
    """Those that no budget allows."""
    finalists: tuple[Start, ...]
    """The lowest error within the budgets, then the fastest that is not worse beyond chance, if that is another."""
    trainings: tuple[Training, ...]
    """In the order in which they were done."""
    others: tuple[Other, ...]
    """Further networks on the test split."""
    notes: tuple[str, ...]
    """Decisions on the data and the time."""

    @property
    def chain(self) -> Chain:
        """The network that is recommended, trained, read from its run folder."""
        return runs.load(self.run)
