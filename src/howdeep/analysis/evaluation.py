"""How good a network is: error, per class, calibration. Sums first, one division at the end."""

import base64
import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from heapq import nlargest

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from howdeep.analysis.views import require_views, views_of
from howdeep.chain import Chain, Gates
from howdeep.data import Batch, Split
from howdeep.data.loaders import Loader, batches_of
from howdeep.runtime.device import synchronise
from howdeep.runtime.modes import evaluating
from howdeep.runtime.parts import passed
from howdeep.transform.folding import folding_norms
from howdeep.util.errors import UserError
from howdeep.util.records import Shown

CALIBRATION_BINS = 15
MISTAKES = 24
"""Wrong answers that a record names, at most."""


class NotFiniteLogitsError(UserError):
    """A network returns logits that are not numbers: training diverged, or its weights are broken."""


@dataclass(frozen=True)
class Sums:
    """What one pass over a split adds up to."""

    images: int
    """Images seen."""
    wrong: int
    """Images whose highest score was not their class's."""
    loss: float
    """Sum of the cross-entropies."""
    which: torch.Tensor | None = None
    """Which images these are, bool of shape (images,) on the host; None where processes have added up their shares."""

    @property
    def error_percent(self) -> float:
        """Share of wrong answers."""
        return 100 * self.wrong / self.images

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.loss / self.images


@dataclass(frozen=True)
class ClassResult:
    """One class."""

    name: str
    """Name of the class."""
    n: int
    """Its images."""
    error_percent: float | None
    """Share of them that was given another class; None without images."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Answers of about one confidence, the highest probability of an image."""

    low: float
    """Least confidence in it, as a share."""
    high: float
    """Confidence from which on the next bin begins; the last one holds 1 too."""
    n: int
    """Images."""
    confidence_percent: float | None
    """Their mean confidence; None without images."""
    accuracy_percent: float | None
    """Share of right answers; None without images."""


@dataclass(frozen=True)
class Answers:
    """Which images were answered wrong, so that two networks can be compared image by image."""

    images: str
    """Which images, in which order: see :func:`fingerprint`."""
    wrong: str
    """One bit per image in that order, 1 for a wrong answer; bytes in base64."""

    @classmethod
    def of(cls, images: str, wrong: torch.Tensor) -> "Answers":
        """Return which images of a fingerprint were answered wrong: bool of shape (images,) on the host."""
        return cls(images, base64.b64encode(np.packbits(wrong.numpy()).tobytes()).decode())


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong answer."""

    image: int
    """Place of the image among those that were evaluated, from 0."""
    true: int
    """Its class, counted from 0."""
    given: int
    """The class that the network gave it."""
    confidence_percent: float
    """The probability that the network gave that class."""


@dataclass(frozen=True)
class Evaluation(Shown):
    """How a network does on a split."""

    n: int
    """Images."""
    error_percent: float
    """Share of wrong answers."""
    standard_error: float
    """Of the error, in percent: √(e(1−e)/n)."""
    loss: float
    """Mean cross-entropy in nats."""
    calibration_error_percent: float
    """Expected calibration error, 15 bins (Guo et al. 2017, Eq. 3)."""
    classes: tuple[ClassResult, ...]
    """One per class."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts, row = true class, column = given class."""
    images_per_second: float
    """Preparing images included."""
    bins: tuple[Bin, ...]
    """What the calibration error is summed over."""
    answers: Answers | None = None
    """Image by image; None where nobody said which images these were."""
    mistakes: tuple[Mistake, ...] = ()
    """The wrong answers of which the network was most sure, those first; 24 at most."""
    views: int = 1
    """Of every image, over which logits are averaged."""

    def __post_init__(self) -> None:
        if self.answers is not None and len(_bits(self.answers)) != -(-self.n // 8):
            raise ValueError(f"its answers are not those of {self.n} images")

    def to_json(self) -> dict:
        """Return the record as plain data."""
        return asdict(self)


@torch.inference_mode()
def add_up(chain: Chain, batches: Iterable[Batch], *, autocast: torch.autocast, gates: Gates | None = None) -> Sums:
    """Count the errors of a chain in evaluation mode; its mode is put back afterwards."""
    wrong, loss = [], 0.0
    with evaluating(chain):
        for batch in batches:
            with autocast:
                logits = passed(chain, batch.images, gates).float()
            loss += F.cross_entropy(logits, batch.labels, reduction="sum").item()
            wrong.append((logits.argmax(1) != batch.labels).cpu())
    which = torch.cat(wrong) if wrong else torch.zeros(0, dtype=torch.bool)
    return Sums(len(which), int(which.sum()), loss, which)


@torch.inference_mode()
def evaluate(
    chain: Chain,
    loader: Loader,
    classes: Sequence[str] | None = None,
    *,
    autocast: torch.autocast | None = None,
    images: str | None = None,
    views: int = 1,
    flip: bool = True,
) -> Evaluation:
    """Return how a chain does on the images of a split.

    A function of the chain and the batches alone: nothing is gathered from other processes of a process group.

    Args:
        chain: The network; its mode is put back afterwards.
        loader: Labelled images, once through (see :mod:`howdeep.data.loaders`).
        classes: Their names, in the order of the logits; None calls them by their numbers, from 0.
        autocast: The precision; None is that of the weights.
        images: The :func:`fingerprint` of the images of the loader, for the record of who was answered wrong.
        views: Of every image, over which logits are averaged (see :mod:`howdeep.analysis.views`); 1 to 10.
        flip: Whether mirror images are among them; without them there are 5.

    Raises:
        UserError: There are no images, or there are more or fewer logits than classes; there are not so many views; the
            loader yields something else.
        NotFiniteLogitsError: A score is not finite.
    """
    require_views(views, flip=flip)
    autocast = autocast or torch.autocast("cpu", enabled=False)
    confusion = torch.zeros((), dtype=torch.int64)
    calibration = torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64)
    wrong: list[torch.Tensor] = []
    mistakes: list[Mistake] = []
    n, loss, started = 0, 0.0, time.perf_counter()
    with evaluating(chain):
        quick = folding_norms(chain)
        for batch in batches_of(chain, loader):
            with autocast:
                seen = [passed(quick, view).float() for view in views_of(batch.images, views, flip=flip)]
            logits = torch.stack(seen).mean(0)
            classes = [str(number) for number in range(logits.shape[1])] if classes is None else classes
            if logits.shape[1] != len(classes):
                raise UserError(f"the network returns {logits.shape[1]} logits for {len(classes)} classes")
            if not bool(logits.isfinite().all()):
                raise NotFiniteLogitsError("the network returns logits that are not finite: its weights are broken")
            loss += F.cross_entropy(logits, batch.labels, reduction="sum").item()
            given, labels, probabilities = logits.argmax(1).cpu(), batch.labels.cpu(), logits.softmax(1).cpu()
            # Row: the true class; column: the given one.
            pairs = torch.bincount(labels * len(classes) + given, minlength=len(classes) ** 2)
            confusion = confusion + pairs.view(len(classes), len(classes))
            wrong.append(given != labels)
            mistakes = _most_sure([*mistakes, *_mistakes(probabilities, given, labels, first=n)])
            calibration += _calibration_sums(probabilities, labels)
            n += len(labels)
            synchronise(logits.device)
    seconds = time.perf_counter() - started
    if classes is None or not n:
        raise UserError("there are no images to evaluate on")
    totals, bins, error = confusion.sum(1), _bins(calibration), 1 - float(confusion.trace()) / n
    results = [
        ClassResult(name, int(total), 100 * (1 - float(right) / float(total)) if total else None)
        for name, total, right in zip(classes, totals, confusion.diag(), strict=True)
    ]
    return Evaluation(
        n=n,
        error_percent=100 * error,
        standard_error=standard_error_percent(error, n),
        loss=loss / n,
        calibration_error_percent=calibration_error_percent(bins),
        classes=tuple(results),
        confusion=tuple(map(tuple, confusion.tolist())),
        images_per_second=n / seconds,
        bins=bins,
        answers=None if images is None else Answers.of(images, torch.cat(wrong)),
        mistakes=tuple(mistakes),
        views=views,
    )


def _mistakes(
    probabilities: torch.Tensor, given: torch.Tensor, labels: torch.Tensor, *, first: int
) -> Iterator[Mistake]:
    """Return the wrong answers to images that begin at a place."""
    places = (given != labels).nonzero().squeeze(1)
    sure = 100 * probabilities[places, given[places]]
    rows = zip(places.tolist(), labels[places].tolist(), given[places].tolist(), sure.tolist(), strict=True)
    return (Mistake(image=first + at, true=true, given=other, confidence_percent=s) for at, true, other, s in rows)


def _most_sure(mistakes: Iterable[Mistake]) -> list[Mistake]:
    return nlargest(MISTAKES, mistakes, key=lambda one: (one.confidence_percent, -one.image))


def fingerprint(split: Split) -> str:
    """Return what two records of answers to the same images in the same order share: a hash of images and labels.

    Args:
        split: The images; they are the same where their bytes are, whatever they are called.
    """
    digests = split.digests_at(torch.arange(len(split)))
    return hashlib.blake2b(torch.stack([digests, split.labels]).numpy().data, digest_size=16).hexdigest()


def exchanged(one: Answers | None, other: Answers | None) -> tuple[int, int] | None:
    """Return how many images only the one network answers wrong, and how many only the other; None for other images."""
    if one is None or other is None or one.images != other.images:
        return None
    first, second = _bits(one), _bits(other)
    return int(np.bitwise_count(first & ~second).sum()), int(np.bitwise_count(second & ~first).sum())


def lost(before: Answers, after: Answers) -> list[int]:
    """Return the places of the images that only the second answers are wrong about; both are of the same images."""
    return np.flatnonzero(np.unpackbits(_bits(after) & ~_bits(before))).tolist()


def standard_error_percent(error: float, n: int) -> float:
    """Return the standard error, in percent, of a share of n independent answers."""
    return 100 * math.sqrt(error * (1 - error) / n)


def calibration_error_percent(bins: Sequence[Bin]) -> float:
    """Return Σ_b n_b/n · |accuracy_b − confidence_b| in percent (Guo et al. 2017, Eq. 3)."""
    gaps = [
        one.n * abs(one.accuracy_percent - one.confidence_percent)
        for one in bins
        if one.accuracy_percent is not None and one.confidence_percent is not None
    ]
    return math.fsum(gaps) / sum(one.n for one in bins)


def _bits(answers: Answers) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(answers.wrong), np.uint8)


def _calibration_sums(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return images, Σ confidence and right answers per bin, float64 of shape (3, bins)."""
    confidence, given = probabilities.max(1)
    # The edges are those of torchmetrics in float32, so that a confidence on an edge falls into the same bin.
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    number = torch.bucketize(confidence, edges, right=True)
    values = torch.stack([torch.ones_like(confidence), confidence, (given == labels).float()]).double()
    return torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64).index_add_(1, number, values)


def _bins(sums: torch.Tensor) -> tuple[Bin, ...]:
    bins = []
    for number, (images, confidence, right) in enumerate(sums.T.tolist()):
        means = (100 * confidence / images, 100 * right / images) if images else (None, None)
        low, high = number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS
        bins.append(Bin(low=low, high=high, n=int(images), confidence_percent=means[0], accuracy_percent=means[1]))
    return tuple(bins)
