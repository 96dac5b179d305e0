"""The first units of a trained network under a new classifier, for data of any classes.

The classifier is the logistic regression (see :mod:`howdeep.analysis.linear`) on what the network makes of the training
images, which is one of two things:

- *pooled*: the activations behind the units, averaged over space;
- *kept*: what the old classifier reads when the old head follows the units at once, where it reads such activations.

The better head is kept, or the faster where the difference of their errors may be chance. The whole network gets a new
classifier too, on what its old one reads, so that errors compare image by image whatever classes it knew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from howdeep.analysis.effects import BaselineBatch, Effect
from howdeep.analysis.linear import Features, regression, regression_images
from howdeep.chain import Chain
from howdeep.convert.classifier import read_by, replace_classifier, set_classifier
from howdeep.cutting.frontier import Answers, Frontier, answers_from, effect_between, errors_of, logits_of
from howdeep.cutting.images import Images, images_of
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut, Head, Point, Removal, Size
from howdeep.data import Batch
from howdeep.data.loaders import Loader, batches_of
from howdeep.runs.resume import Journal
from howdeep.runtime.modes import evaluating
from howdeep.runtime.timing import THREADS, forward_times
from howdeep.transform.pooling import pooled
from howdeep.transform.truncation import averages, require_point, truncated
from howdeep.util.errors import UserError
from howdeep.util.intervals import of_change
from howdeep.util.progress import ProgressBar
from howdeep.util.records import from_json, to_json
from howdeep.util.text import Report

WHOLE, POOLED, KEPT = "whole", "pooled", "kept"


class First(NamedTuple):
    """What was cut, and what it was compared with."""

    cut: Cut
    """The record, with the first units as its ``chain``."""
    whole: Chain
    """The whole network with a new classifier."""


def first_units(
    chain: Chain,
    images: Images,
    units: int,
    *,
    train: Callable[[int], Sequence[Batch]],
    classes: int,
    threads: int = THREADS,
    journal: Journal | None = None,
    console: Console | None = None,
    progress: Report = lambda _: None,
) -> First:
    """Give the first units of a network, and the whole of it, new classifiers, and measure both.

    Args:
        chain: The network, own or unravelled, on the device of the images; it stays as it is.
        images: What strength and head are chosen on (the calibration), and what errors are measured on.
        units: How many units stay, from 0 to all.
        train: Gives the training images; a sample of so many where there are more.
        classes: Of the images.
        threads: Threads of the timed passes, on the host.
        journal: Where finished steps are kept.
        console: Where progress is shown if it is a terminal; None is standard error.
        progress: Receives what is being done, in a few words, many times; a KeyboardInterrupt that it raises stops.

    Raises:
        UserError: The network has fewer units.
    """
    require_point(chain, units)
    with evaluating(chain):
        networks = list(_networks(chain, units, images.calibration[0].images[:2], classes))
    training = train(regression_images(max(one.width for one in networks), classes))
    total = len(training) + len(images.calibration)
    with ProgressBar(console or Console(stderr=True), total=total, counted=False) as bar:

        def report(line: str, done: float = 0) -> None:
            bar.show(line, more=done)
            progress(line)

        return _First(networks, units, images, training, classes, threads, journal or Journal(), report).result()


def cut_to_first(
    chain: Chain,
    loader: Loader | Images,
    units: int,
    train: Loader | None,
    *,
    threads: int,
    console: Console | None,
    progress: Report,
) -> Cut:
    """Cut a network to its first units by the images of loaders (see :func:`first_units`).

    Args:
        chain: The network.
        loader: What strength, head and errors are measured on.
        units: How many stay.
        train: What the classifiers are fitted to; as many classes as the largest label of either says.
        threads: Of the timed passes.
        console: Where progress is shown.
        progress: Receives what is being done.

    Raises:
        UserError: There are no training images, or fewer units.
    """
    if train is None:
        raise UserError(f"first {units} needs train: labelled images that the new classifier is fitted to")
    images = loader if isinstance(loader, Images) else images_of(chain, loader, same_classes=False)
    training = batches_of(chain, train, name="train", same_classes=False)
    classes = 1 + max(int(batch.labels.max()) for batch in (*training, *images.calibration))
    return first_units(
        chain,
        images,
        units,
        train=lambda _: training,
        classes=classes,
        threads=threads,
        console=console,
        progress=progress,
    ).cut


@dataclass(frozen=True)
class _Network:
    """A network whose classifier is new."""

    name: str
    chain: Chain
    classifier: Sequence[str]
    """Parameters: weight, bias."""

    @property
    def width(self) -> int:
        """How many features the classifier reads."""
        return self.chain.get_parameter(self.classifier[0])[0].numel()

    def read(self, x: Tensor, place: int) -> Tensor:
        """Return what the classifier reads, shape (batch, features), of activations behind so much of the body."""
        rest = Chain(nn.Identity(), list(self.chain.body)[place:], self.chain.head)
        read = read_by(rest, x.clone(), self.classifier)  # layers may write into what they read
        assert read is not None, "the classifier is one linear layer, which returns the logits"
        return read


def _networks(chain: Chain, units: int, example: Tensor, classes: int) -> Iterator[_Network]:
    """Yield the whole network, and its first units under every head that reads what they return."""
    kept = _with_old_head(WHOLE, chain, len(chain), example, classes)
    yield kept or _pooled(WHOLE, chain, len(chain), example, classes)
    yield _pooled(POOLED, chain, units, example, classes)
    # An old head that averages too is the same network.
    if averages(chain) is None and (kept := _with_old_head(KEPT, chain, units, example, classes)):
        yield kept


def _with_old_head(name: str, chain: Chain, units: int, example: Tensor, classes: int) -> _Network | None:
    """Return the first units under the old head; None where it reads other shapes, or has no one linear classifier."""
    shallow = truncated(chain, units, None)
    try:
        classifier = replace_classifier(shallow, example, classes, seed=0)
        read = read_by(shallow, example, classifier)
    except (UserError, RuntimeError, ValueError, AssertionError):
        return None
    return None if read is None else _Network(name, shallow, classifier)


def _pooled(name: str, chain: Chain, units: int, example: Tensor, classes: int) -> _Network:
    """Return the first units under a classifier of zeros on the averages."""
    ended = truncated(chain, units, None)
    ended.head = nn.Identity()
    with torch.no_grad():
        width = pooled(ended(example)).shape[1]
    linear = nn.Linear(width, classes, device="meta", dtype=example.dtype).to_empty(device=example.device)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return _Network(name, truncated(chain, units, linear), ["head.1.weight", "head.1.bias"])


@dataclass(frozen=True)
class _First:
    """How classifiers are fitted and networks compared."""

    networks: Sequence[_Network]
    """The whole one, and the first units under one or two heads."""
    units: int
    images: Images
    training: Sequence[Batch]
    classes: int
    threads: int
    journal: Journal
    report: Callable[..., None]

    def result(self) -> First:
        """Fit, measure, and keep one of the heads."""
        classifiers = self.journal.result("classifiers", self._fitted)
        for one, found in zip(self.networks, classifiers["found"], strict=True):
            numbers = (torch.tensor(found[name], dtype=torch.float64) for name in ("weight", "bias"))
            set_classifier(one.chain, one.classifier, *numbers)
        whole, *shallow = self.networks
        frontier = Frontier(whole.chain, self.images, self.journal)
        self.report("measuring the network")
        before, names = frontier.answers(), whole.chain.names
        sizes, effects, head = self._measured(frontier, before)
        points = [
            Point(
                out=len(names) - self.units,
                size=size,
                cut=effect,
                head=Head(name=one.name, features=one.width, strength=found["strength"]),
            )
            for one, found, size, effect in zip(shallow, classifiers["found"][1:], sizes[1:], effects, strict=True)
        ]
        cut = Cut(
            budget=CutBudget(),
            original=sizes[0],
            baseline=errors_of(before),
            order=tuple(
                Removal(index=index, name=names[index - 1], loss=None) for index in range(len(names), self.units, -1)
            ),
            points=tuple(points),
            chosen=len(names) - self.units,
            head=head,
            calibration_images=sum(len(batch.labels) for batch in self.images.calibration),
            classifier_images=classifiers["images"],
            threads=self.threads,
            notes=frontier.whole.notes,
            chain=next(one.chain for one in shallow if one.name == head),
        )
        return First(cut, whole.chain)

    def _fitted(self) -> dict:
        """Return the classifiers as plain data."""
        train, chosen_on = (self._features(batches) for batches in (self.training, self.images.calibration))
        self.report("fitting the classifiers")
        found = [regression(*both, self.classes)[0] for both in zip(train, chosen_on, strict=True)]
        numbers = [
            {"weight": one.weight.tolist(), "bias": one.bias.tolist(), "strength": one.strength} for one in found
        ]
        return {"images": len(train[0].labels), "found": numbers}

    @torch.no_grad()
    def _features(self, batches: Sequence[Batch]) -> list[Features]:
        """Return what the classifier of every network reads of images: the first units compute once for all of them."""
        shallow = self.networks[1].chain
        first = Chain(shallow.stem, shallow.body, nn.Identity())
        read: list[list[Tensor]] = [[] for _ in self.networks]
        labels = []
        for batch in batches:
            x = first(batch.images)
            for values, network in zip(read, self.networks, strict=True):
                values.append(network.read(x, len(first.body)).cpu())
            labels.append(batch.labels.cpu())
            self.report("computing activations", 1)
        return [Features(torch.cat(values), torch.cat(labels)) for values in read]

    def _measured(self, frontier: Frontier, before: Sequence[BaselineBatch]) -> tuple[list[Size], list[Effect], str]:
        """Return what all networks cost, what those of the first units get wrong, and which of these is kept."""

        def measured() -> dict:
            folded = [frontier.folded(one.chain) for one in self.networks]
            self.report(f"timing {len(folded)} networks by turns")
            calibration, evaluation = self.images.calibration, self.images.evaluation
            image = calibration[0].images[:1]
            times = forward_times(folded, image, threads=self.threads)
            sizes = [Size.of(one.chain, image, time) for one, time in zip(self.networks, times, strict=True)]
            self.report("measuring the first units")
            logits = [logits_of(chain, evaluation) for chain in folded[1:]]
            chosen_on = logits if calibration is evaluation else [logits_of(chain, calibration) for chain in folded[1:]]
            answers = [answers_from(one, calibration) for one in chosen_on]
            effects = [effect_between(one, before) for one in logits]
            return {
                "sizes": [to_json(size) for size in sizes],
                "effects": [to_json(effect) for effect in effects],
                "head": self.networks[1 + better(answers, [size.latency.median_ms for size in sizes[1:]])].name,
            }

        found = self.journal.result("heads", measured)
        sizes = [from_json(Size, one) for one in found["sizes"]]
        return sizes, [from_json(Effect, one) for one in found["effects"]], found["head"]


def better(answers: Sequence[Answers], milliseconds: Sequence[float]) -> int:
    """Return which of one or two networks is kept: that with fewer errors on the same images, or the faster one.

    The number of errors decides where the 95 % interval of their paired difference leaves out 0.
    """
    fastest = min(range(len(answers)), key=milliseconds.__getitem__)
    if len(answers) == 1:
        return fastest
    one, other = (found.wrong for found in answers)
    change = of_change(int((other & ~one).sum()), int((one & ~other).sum()), len(one))
    return int(change.high < 0) if change.beyond_chance else fastest
