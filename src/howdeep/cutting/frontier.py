"""Networks that are a trained one without more and more units: which go first, and what a network costs."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from howdeep.analysis.effects import (
    Baseline,
    BaselineBatch,
    Effect,
    baseline_batch,
    baseline_of,
    counts,
    effect_of,
    per_class,
)
from howdeep.analysis.study import Prepared, prepared
from howdeep.chain import Chain, run
from howdeep.cutting.images import Images
from howdeep.cutting.records import Removal
from howdeep.data import Batch
from howdeep.runs.resume import Journal
from howdeep.runtime.parts import passed
from howdeep.runtime.precision import Arithmetic
from howdeep.transform.norms import reestimate
from howdeep.transform.refitting import refitted
from howdeep.transform.removal import without
from howdeep.util.intervals import of_change


@dataclass(frozen=True)
class Answers:
    """What a network answers on some images."""

    wrong: Tensor
    """Which images it gets wrong, bool of shape (images,); logits that are not finite count as wrong."""
    loss: float
    """Mean cross-entropy in nats; infinite where a logit is not finite."""

    @property
    def error_percent(self) -> float:
        """Share of wrong answers."""
        return 100 * float(self.wrong.double().mean())


def answers_from(logits: Sequence[Tensor], batches: Sequence[Batch]) -> Answers:
    """Return the answers that the logits of all batches are, each of shape (batch, classes)."""
    whole, labels = torch.cat([one.float() for one in logits]), torch.cat([batch.labels for batch in batches])
    wrong = (whole.argmax(1) != labels) | ~whole.isfinite().all(1)
    loss = float(F.cross_entropy(whole, labels))
    return Answers(wrong.cpu(), loss if math.isfinite(loss) else math.inf)


def is_better(new: Answers, old: Answers) -> bool:
    """Return whether a changed network answers better than the one before, on the same images.

    Image by image: it has fewer errors, and the 95 % interval of the paired difference leaves out 0; or it has no more
    errors and a lower mean cross-entropy. Else the old one stays. The same images choose and say how good the choice
    is, which flatters it a little: the test split, read once at the end, does not take part.
    """
    newly_wrong, newly_right = int((new.wrong & ~old.wrong).sum()), int((old.wrong & ~new.wrong).sum())
    _, high = of_change(newly_wrong, newly_right, len(old.wrong))
    return high < 0 or (newly_wrong <= newly_right and new.loss < old.loss)


WAYS = ("cut", "recalibrated", "refitted")
"""What can be done to a network without some of its units: nothing, batch norm recalibrated, units refitted."""
REFITTED_ON, AT_ONCE, MEMORY = 500, 100, 2**31
"""Images on which units are refitted at most, so many at once, and the bytes that their activations may take."""
AT_A_TIME = 4
"""One in so many of the units that are left goes in each round."""
Advance = Callable[[float], None]


@dataclass(frozen=True)
class Frontier:
    """A trained network, and all the networks that are it without the first units of the order."""

    chain: Chain
    """The network, in evaluation mode, on its device."""
    images: Images
    journal: Journal = field(default_factory=Journal)
    """Where finished steps are kept."""
    precision: str = "fp32"
    """In which units are chosen: ``fp32``, ``bf16`` or ``auto``, the fastest correct one; errors are those of fp32."""
    advance: Advance = lambda _: None
    """Receives how much of the work was done: networks tried, each in calibration batches."""

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.images.calibration[0].images.device

    def removals(self) -> Iterator[Removal]:
        """Yield the units that can go, in the order in which they do; those of one round by rising distance."""
        left = [index for index, unit in enumerate(self.chain.units) if unit.merge.removable]
        closed: list[int] = []
        precision = self.journal.result("precision", lambda: self._prepared(self.chain, self.precision).precision)
        autocast = Arithmetic(precision, "channels_last").autocast(self.device)
        while left:
            name = f"without {len(closed)} and one more of {len(left)}"
            found = self.journal.result(name, lambda: self._distances(closed, left, autocast))  # noqa: B023
            by_unit = dict(zip(left, found, strict=True))
            ranked = [(math.inf if one is None else one, unit) for unit, one in by_unit.items()]
            for _, index in sorted(ranked)[: max(1, len(left) // AT_A_TIME)]:
                yield Removal(index=index + 1, name=self.chain.names[index], distance=by_unit[index])
                closed.append(index)
            left = [index for index in left if index not in closed]

    def cut(self, order: Sequence[Removal]) -> Chain:
        """Return the network without these units."""
        return without(self.chain, [removal.index - 1 for removal in order])

    def made(self, way: str, order: Sequence[Removal]) -> Chain:
        """Return the network without these units, repaired in one of the ways."""
        if way == "refitted":
            return refitted(self.chain, [removal.index - 1 for removal in order], self.refitting)
        chain = self.cut(order)
        if way == "recalibrated":
            reestimate(chain, (batch.images for batch in self.images.statistics))
        return chain

    @cached_property
    def refitting(self) -> list[Tensor]:
        """Images on which units are refitted: the first of the statistics, as many as fit into memory, batch by batch.

        Activations of all of them are held, of two networks.
        """
        largest, x = 0, self._few[:1]
        with torch.inference_mode():
            for step in ((self.chain.stem, 1.0), *self.chain.steps()):
                x = run([step], x)
                largest = max(largest, 2 * x.numel() * x.element_size())
        count = max(1, min(REFITTED_ON, MEMORY // largest))
        return first_images((batch.images for batch in self.images.statistics), count)

    @property
    def refitting_images(self) -> int:
        """How many these are."""
        return sum(len(batch) for batch in self.refitting)

    @cached_property
    def whole(self) -> Prepared:
        """The network as it is run, and what a reader should know of that."""
        return self._prepared(self.chain, "fp32")

    def folded(self, chain: Chain) -> Chain:
        """Return a network as it is run: norms folded where that is possible, activations laid out channels last."""
        return (self.whole if chain is self.chain else self._prepared(chain, "fp32")).chain

    def _prepared(self, chain: Chain, precision: str) -> Prepared:
        return prepared(chain, self._few, precision=precision, device=self.device)

    def answers(self) -> list[BaselineBatch]:
        """Return what the whole network answers on the images of the evaluation."""
        return answers_of(self.whole.chain, self.images.evaluation)

    def effects(
        self, networks: Iterable[Callable[[], Chain]], before: Sequence[BaselineBatch]
    ) -> tuple[list[Effect], int]:
        """Return what networks get wrong, compared with the whole one image by image, and which of them is kept.

        Each is in place of the best one before it where it helps on the calibration images (see
        :func:`howdeep.cutting.frontier.is_better`).
        """
        effects, kept, best = list[Effect](), 0, None
        for number, network in enumerate(networks):
            effect, answers = self._measured(network(), before)
            effects.append(effect)
            if best is None or is_better(answers, best):
                kept, best = number, answers
        return effects, kept

    def _measured(self, chain: Chain, before: Sequence[BaselineBatch]) -> tuple[Effect, Answers]:
        """Return what a network gets wrong on the images of the evaluation, and its answers on the calibration's."""
        calibration, evaluation = self.images.calibration, self.images.evaluation
        folded = self.folded(chain)
        logits = logits_of(folded, evaluation)
        calibrating = logits if calibration is evaluation else logits_of(folded, calibration)
        return effect_between(logits, before), answers_from(calibrating, calibration)

    @property
    def _few(self) -> Tensor:
        return self.images.calibration[0].images[:32]

    def _distances(self, closed: Sequence[int], left: Sequence[int], autocast: torch.autocast) -> list[float | None]:
        """Return how far the head's input is off without each of the units that are left, the closed ones being out.

        The unit behind each gap is refitted, on few images: what counts is what cannot be made up for (Wang and Wu
        2023, PRACTISE, whose adaptors are trained). Squared differences, as a share of the whole network's squares.
        """
        few = first_images(self.refitting, AT_ONCE)
        with torch.inference_mode(), autocast:
            whole = [before_head(self.whole.chain, batch.images) for batch in self.images.calibration]
        total, distances = sum(one.square().sum().item() for one in whole), []
        for one in left:
            chain = self.folded(refitted(self.chain, [*closed, one], few, reach=1))
            with torch.inference_mode(), autocast:
                pairs = zip(whole, self.images.calibration, strict=True)
                off = sum((before_head(chain, batch.images) - old).square().sum().item() for old, batch in pairs)
            distances.append(off / total if math.isfinite(off) and total else None)
            self.advance(len(self.images.calibration))
        return distances


def first_images(batches: Iterable[Tensor], count: int) -> list[Tensor]:
    """Return the first so many images of some batches, a few at a time."""
    first: list[Tensor] = []
    for images in batches:
        first += images[:count].split(AT_ONCE)
        count -= len(images[:count])
        if not count:
            break
    return first


def networks_tried(left: int, out: int) -> int:
    """Return how many networks are tried until so many of the units that are left are out."""
    networks, gone = 0, 0
    while gone < out:
        several = max(1, left // AT_A_TIME)
        networks, left, gone = networks + left, left - several, gone + several
    return networks


def before_head(chain: Chain, images: Tensor) -> Tensor:
    """Return what the head of a network reads, in single precision at least."""
    features = run(chain.steps(), chain.stem(images))
    return features if features.dtype == torch.float64 else features.float()


def logits_of(chain: Chain, batches: Sequence[Batch]) -> list[Tensor]:
    """Return the logits of a network, batch by batch."""
    with torch.inference_mode():
        return [passed(chain, batch.images) for batch in batches]


def answers_of(chain: Chain, batches: Sequence[Batch]) -> list[BaselineBatch]:
    """Return what a network answers, batch by batch.

    Raises:
        UserError: A logit is not finite.
    """
    pairs = zip(logits_of(chain, batches), batches, strict=True)
    return [baseline_batch(logits, batch.labels) for logits, batch in pairs]


def errors_of(before: Sequence[BaselineBatch]) -> Baseline:
    """Return how good a network is by itself."""
    classes = before[0].logits.shape[1]
    wrong = [per_class(one.labels[one.wrong], classes) for one in before]
    totals = [per_class(one.labels, classes) for one in before]
    return baseline_of(
        [sum(column) for column in zip(*wrong, strict=True)], [sum(column) for column in zip(*totals, strict=True)]
    )


def effect_between(logits: Sequence[Tensor], before: Sequence[BaselineBatch]) -> Effect:
    """Return what a network gets wrong whose logits these are, compared with another's answers image by image."""
    classes = before[0].logits.shape[1]
    rows = [counts(one, new, classes) for one, new in zip(before, logits, strict=True)]
    n = sum(len(one.labels) for one in before)
    return effect_of([math.fsum(column) for column in zip(*rows, strict=True)], n)
