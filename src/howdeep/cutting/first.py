"""The first units of a trained network under a new classifier, for data of any classes.

The classifier is the logistic regression (see :mod:`howdeep.analysis.linear`) on what the network makes of the training
images, which is one of two things:

- *pooled*: the activations behind the units, averaged over space;
- *kept*: what the old classifier reads when the old head follows the units at once, where it reads such activations.

The better head is kept, or the faster where the difference of their errors may be chance. The whole network gets a new
classifier too, on what its old one reads, so that errors compare image by image whatever classes it knew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from howdeep.analysis.depths import Depth, Probe
from howdeep.analysis.effects import BaselineBatch, Effect
from howdeep.analysis.fits import Fits
from howdeep.analysis.linear import Features, regression, regression_images
from howdeep.analysis.probe import probe
from howdeep.chain import Chain
from howdeep.convert.classifier import read_by, replace_classifier, set_classifier
from howdeep.cutting.frontier import Answers, Frontier, answers_from, effect_between, errors_of, logits_of
from howdeep.cutting.images import Images
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut, Head, Point, Removal, Size
from howdeep.data import Batch
from howdeep.data.loaders import Loader, batches_of
from howdeep.deploying.latency import latencies
from howdeep.runs.resume import Journal
from howdeep.runtime.deployment import HERE, Deployment
from howdeep.runtime.modes import evaluating
from howdeep.runtime.parts import parts_of
from howdeep.transform.pooling import pooled
from howdeep.transform.truncation import averages, require_point, truncated
from howdeep.util.errors import UserError
from howdeep.util.intervals import of_change
from howdeep.util.progress import ProgressBar
from howdeep.util.records import from_json, to_json
from howdeep.util.text import Report, counted

WHOLE, POOLED, KEPT = "whole", "pooled", "kept"


class First(NamedTuple):
    """What was cut, and what it was compared with."""

    cut: Cut
    """The record, with the first units as its ``chain``."""
    whole: Chain
    """The whole network with a new classifier."""


Units = Literal["auto"] | int
"""How many stay; auto asks a probe of every depth."""


@dataclass(frozen=True, kw_only=True)
class FirstUnits:
    """How the first units of a network, and the whole of it, get new classifiers and are measured."""

    chain: Chain
    """The network, own or unravelled, on the device of the images; it stays as it is."""
    images: Images
    """What depth, strength and head are chosen on (the calibration), and what errors are measured on."""
    train: Callable[[int | None], Sequence[Batch]]
    """Gives the training images; a sample of so many where there are more."""
    classes: int
    """Of the images."""
    budget: CutBudget = field(default_factory=CutBudget)
    """What the network may cost, where its depth is not given."""
    where: Deployment = HERE
    """Where passes are timed."""
    seed: int = 0
    """Of the sample of a probe."""
    journal: Journal = field(default_factory=Journal)
    """Where finished steps are kept."""
    console: Console = field(default_factory=lambda: Console(stderr=True))
    """Where progress is shown if it is a terminal."""
    progress: Report = lambda _: None
    """Receives what is being done, in a few words, many times; a KeyboardInterrupt that it raises stops."""

    def result(self, units: Units) -> First:
        """Cut.

        Args:
            units: How many stay, from 0 to all, or ``auto`` (see :func:`depths_within`).

        Raises:
            UserError: The network has fewer units, or none of its depths holds the budget.
        """
        if units != "auto":
            require_point(self.chain, units)
            first = self._of(units)
            assert first is not None, "nothing limits what it costs"
            return first
        self.progress("probing every depth")
        cut: list[First] = []
        probe(
            self.chain,
            self.train(None),
            self.images.calibration,
            classes=self.classes,
            where=self.where,
            seed=self.seed,
            journal=self.journal,
            use=lambda found, fits: cut.append(self._at_depth_of(found, fits)),
        )
        return cut[0]

    def _at_depth_of(self, found: Probe, fits: Fits) -> First:
        """Return the first units that a probe says, of which no image has to pass again."""
        for depth in depths_within(found, self.budget):
            if (first := self._of(depth, fits)) is not None:
                within = "within the budget; without one " if self.budget.given else ""
                notes = (f"depth by a probe of all: {within}{found.finding}", *first.cut.notes)
                return first._replace(cut=replace(first.cut, budget=self.budget, notes=notes))
        raise UserError("no depth of this network held the budget both times that it was timed")

    def _of(self, units: int, fits: Fits | None = None) -> First | None:
        """Return so many first units and the whole network; None where no head of theirs holds the budget."""
        images = self.images.calibration
        with evaluating(self.chain):
            networks = list(_networks(self.chain, units, images[0].images[:2], self.classes))
        if fits is None:
            training = self.train(regression_images(max(one.width for one in networks), self.classes))
        else:
            training, images = (), ()
        with ProgressBar(self.console, total=len(training) + len(images) or None, counted=False) as bar:

            def report(line: str, done: float = 0) -> None:
                bar.show(line, more=done)
                self.progress(line)

            return _First(self, networks, units, training, fits, report).result()


def depths_within(found: Probe, budget: CutBudget) -> list[int]:
    """Return how many of the first units may stay, the best number first.

    Without a budget that is the depth that the probe recommends. Within one of time or MACs, depths follow each other
    by rising error; within one of the error alone, by rising depth.

    Raises:
        UserError: No depth holds the budget.
    """
    if not budget.given:
        return [found.choice.units]
    limit, end = budget.error_increase, found.end

    def size_of(depth: Depth) -> Size:
        return Size(units=depth.units, parameters=depth.parameters, macs=depth.macs, latency=depth.latency)

    def increase(depth: Depth) -> float:
        return depth.fitted.error_percent - end.fitted.error_percent

    sized = [depth for depth in found.depths if budget.excess(size_of(depth), size_of(end)) is None]
    if not sized:
        smallest = size_of(found.depths[0])
        raise UserError(
            f"no depth of this network holds {budget.excess(smallest, size_of(end))} is the smallest possible value"
        )
    holding = [depth for depth in sized if limit is None or increase(depth) <= limit]
    if not holding:
        least = min(map(increase, sized))
        raise UserError(f"no depth of this network holds error-increase {limit:g}: the smallest is {least:.2f} points")
    if budget.sized:
        holding.sort(key=lambda depth: (depth.fitted.error_percent, depth.units))
    return list(dict.fromkeys(depth.units for depth in holding))


def cut_to_first(
    chain: Chain,
    images: Images,
    units: Units,
    train: Loader | None,
    budget: CutBudget,
    *,
    where: Deployment,
    console: Console | None,
    progress: Report,
) -> First:
    """Cut a network to its first units by the images of loaders.

    Args:
        chain: The network.
        images: What depth, strength and head are chosen on, and errors are measured on.
        units: How many stay, or ``auto``.
        train: What the classifiers are fitted to; as many classes as the largest label of either says.
        budget: What the network may cost, where ``auto`` chooses.
        where: Where passes are timed.
        console: Where progress is shown.
        progress: Receives what is being done.

    Raises:
        UserError: There are no training images, fewer units, or no depth holds the budget.
    """
    if train is None:
        raise UserError(f"first {units} needs train: labelled images that the new classifier is fitted to")
    training = batches_of(chain, train, name="train", same_classes=False)
    work = FirstUnits(
        chain=chain,
        images=images,
        train=lambda _: training,
        classes=1 + max(int(batch.labels.max()) for batch in (*training, *images.calibration)),
        budget=budget,
        where=where,
        console=console or Console(stderr=True),
        progress=progress,
    )
    return work.result(units)


def or_gaps(first: First, budget: CutBudget, gaps: Callable[[Chain], Cut]) -> Cut:
    """Return the first units, or the whole network without units in between, whichever has fewer errors.

    Both hold one budget, their classifiers were fitted to the same images, and they are judged on those of the
    calibration; of two that are alike the first units, of which nothing is repaired.

    Args:
        first: The first units that hold the budget best, and the whole network with a new classifier.
        budget: What they may cost; where that is not limited, there is nothing to compare.
        gaps: Takes units out of a network until it holds the budget.
    """
    if not budget.sized or averages(first.whole) is not None:  # a head of averages is none that its library can build
        return first.cut
    try:
        found = gaps(first.whole)
    except UserError as error:
        return replace(first.cut, notes=(*first.cut.notes, f"taken out in between: {error}"))
    kept, left = sorted((first.cut, found), key=lambda one: one.best.error_percent if one.best else 100.0)
    assert left.choice is not None
    assert left.best is not None
    how = "the first units alone" if left is first.cut else "with units taken out in between"
    cost = f"{left.best.error_percent:.1f} % error, {left.choice.size.latency.median_ms:.3g} ms"
    other = f"{how}, within the same budget: {counted(left.choice.size.units, 'unit')}, {cost}"
    return replace(kept, classifier_images=first.cut.classifier_images, notes=(*kept.notes, other))


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

    work: FirstUnits
    networks: Sequence[_Network]
    """The whole one, and the first units under one or two heads."""
    units: int
    training: Sequence[Batch]
    fits: Fits | None
    """What a probe has read; None reads the training images."""
    report: Callable[..., None]

    def result(self) -> First | None:
        """Fit, measure, and keep one of the heads; None where none holds the budget."""
        work, images = self.work, self.work.images
        classifiers = work.journal.result(f"classifiers on {self.units} units", self._fitted)
        for one, found in zip(self.networks, classifiers["found"], strict=True):
            numbers = (torch.tensor(found[name], dtype=torch.float64) for name in ("weight", "bias"))
            set_classifier(one.chain, one.classifier, *numbers)
        whole, *shallow = self.networks
        frontier = Frontier(whole.chain, images, work.journal)
        self.report("measuring the network")
        before, names = frontier.answers(), whole.chain.names
        sizes, effects, head = self._measured(frontier, before)
        if head is None:
            return None
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
                Removal(index=index, name=names[index - 1], distance=None)
                for index in range(len(names), self.units, -1)
            ),
            points=tuple(points),
            chosen=len(names) - self.units,
            head=head,
            calibration_images=sum(len(batch.labels) for batch in images.calibration),
            classifier_images=classifiers["images"],
            threads=work.where.threads,
            notes=frontier.whole.notes,
            chain=next(one.chain for one in shallow if one.name == head),
        )
        return First(cut, whole.chain)

    def _fitted(self) -> dict:
        """Return the classifiers as plain data."""
        pairs = self._read()
        self.report("fitting the classifiers")
        found = [regression(*both, self.work.classes)[0] for both in pairs]
        numbers = [
            {"weight": one.weight.tolist(), "bias": one.bias.tolist(), "strength": one.strength} for one in found
        ]
        return {"images": len(pairs[0][0].labels), "found": numbers}

    def _read(self) -> list[tuple[Features, Features]]:
        """Return what the classifier of every network reads of the training images, and of those of the calibration."""
        if self.fits is not None:
            heads = [(len(one.chain), averages(one.chain) is None) for one in self.networks]
            return [self.fits.features(units, by_head=by_head) for units, by_head in heads]
        train, chosen_on = (self._features(batches) for batches in (self.training, self.work.images.calibration))
        return list(zip(train, chosen_on, strict=True))

    @torch.no_grad()
    def _features(self, batches: Sequence[Batch]) -> list[Features]:
        """Return what the classifier of every network reads of images: the first units compute once for all of them."""
        shallow = self.networks[1].chain
        first = Chain(shallow.stem, shallow.body, nn.Identity())
        read: list[list[Tensor]] = [[] for _ in self.networks]
        labels = []
        for batch in batches:
            x = torch.cat([first(part) for part in parts_of(first, batch.images)])
            for values, network in zip(read, self.networks, strict=True):
                values.append(network.read(x, len(first.body)).cpu())
            labels.append(batch.labels.cpu())
            self.report("computing activations", 1)
        return [Features(torch.cat(values), torch.cat(labels)) for values in read]

    def _measured(
        self, frontier: Frontier, before: Sequence[BaselineBatch]
    ) -> tuple[list[Size], list[Effect], str | None]:
        """Return what all networks cost, what those of the first units get wrong, and the head that is kept."""
        work = self.work

        def measured() -> dict:
            folded = [frontier.folded(one.chain) for one in self.networks]
            self.report(f"timing {len(folded)} networks by turns")
            calibration, evaluation = work.images.calibration, work.images.evaluation
            image = calibration[0].images[:1]
            times = latencies(folded, image, work.where)
            sizes = [Size.of(one.chain, image, time) for one, time in zip(self.networks, times, strict=True)]
            self.report("measuring the first units")
            logits = [logits_of(chain, evaluation) for chain in folded[1:]]
            chosen_on = logits if calibration is evaluation else [logits_of(chain, calibration) for chain in folded[1:]]
            answers = [answers_from(one, calibration) for one in chosen_on]
            effects = [effect_between(one, before) for one in logits]
            holding = [at for at, size in enumerate(sizes[1:]) if work.budget.excess(size, sizes[0]) is None]
            times = [sizes[1 + at].latency.median_ms for at in holding]
            best = holding[better([answers[at] for at in holding], times)] if holding else None
            return {
                "sizes": [to_json(size) for size in sizes],
                "effects": [to_json(effect) for effect in effects],
                "head": None if best is None else self.networks[1 + best].name,
            }

        found = work.journal.result(f"heads on {self.units} units", measured)
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
