"""How much of a network is needed for other data: a classifier is fitted on what can be read at every depth.

Alain and Bengio 2016 (arXiv 1610.01644) call them probes: multinomial logistic regression on the activations behind
every unit, of a network that stays as it is. Beside each stand what the network costs up to there, and what the nearest
neighbour gets wrong, which is fitted to nothing.
"""

import copy
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn

from howdeep.analysis.evaluation import Answers, Sums, exchanged
from howdeep.analysis.features import Place, Rows, places_of, read_at
from howdeep.analysis.linear import Features, Linear, regression, regression_images
from howdeep.analysis.neighbours import wrong_by_neighbour
from howdeep.analysis.study import SplitBatches, prepared
from howdeep.chain import Chain
from howdeep.convert.classifier import replace_classifier
from howdeep.data import Batch
from howdeep.data.loaders import Loader, batches_of
from howdeep.data.sampling import sample, sample_positions
from howdeep.networks.counting import describe_chain, output_and_macs, sample_of
from howdeep.runs.resume import Journal
from howdeep.runtime.modes import evaluating
from howdeep.runtime.timing import FEW, THREADS, Timing, forward_times
from howdeep.transform.pooling import Pooled
from howdeep.transform.truncation import cut_points
from howdeep.util.errors import UserError
from howdeep.util.intervals import chance_of_change, of_change, of_several, of_share
from howdeep.util.records import Shown, from_json, to_json
from howdeep.util.text import Report, bytes_text, counted

HELD_BYTES = 2**30
"""Features up to which they are held in memory, where the work is not to be resumed."""
ALPHA = 0.05
"""Chance below which a difference is more than chance."""


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
        return self.points > 0 and self.chance < ALPHA


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
    """Which of them is recommended: the shallowest whose difference to the lowest error may be none; with a budget, the
    one of the lowest error that holds it."""
    budget_ms: float | None
    """Time for one image."""
    threads: int
    """Threads of the timed passes."""
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


def probe(
    chain: Chain,
    train: Loader,
    validation: Loader,
    test: Loader | None = None,
    *,
    classes: int | None = None,
    budget_ms: float | None = None,
    threads: int = THREADS,
    autocast: torch.autocast | None = None,
    images: str | None = None,
    seed: int = 0,
    journal: Journal | None = None,
    report: Report = lambda line: None,
) -> Probe:
    """Fit a classifier of other data at every depth of a network, and measure error and cost up to there.

    The network's own classifier takes no part: its classes need not be those of the labels. Images pass once; what is
    read of them is held, or where it is more than a gigabyte kept in files.

    Args:
        chain: The network, own or unravelled; it stays as it is.
        train: Labelled images that classifiers are fitted on (see :mod:`howdeep.data.loaders`).
        validation: Those that errors are measured on; strengths and depth are chosen by them.
        test: Those that are read once, at the end; None leaves that out.
        classes: How many there are; None counts the labels.
        budget_ms: Milliseconds for one image.
        threads: Threads of the timed passes, on the host.
        autocast: Precision of the units; None is that of the weights.
        images: The :func:`howdeep.analysis.evaluation.fingerprint` of the validation images, for the record of who
            was answered wrong; None knows them by their labels.
        seed: Of the sample, where classifiers are fitted on fewer than all training images.
        journal: Where progress is shown and kept.
        report: Receives lines about the size of the work.

    Raises:
        UserError: There are no images, or training images of one class only; activations have no average; no depth
            holds the budget; or a loader yields something else.
    """
    given = {"training": train, "validation": validation, **({} if test is None else {"test": test})}
    batches = {
        name: batches_of(chain, loader, name=f"the {name} loader", same_classes=False) for name, loader in given.items()
    }
    for name, several in batches.items():
        if not len(several):
            raise UserError(f"there are no {name} images")
    autocast = autocast or torch.autocast("cpu", enabled=False)
    with evaluating(chain):
        work = _Probing(
            chain, batches, classes, budget_ms, threads, autocast, images, seed, journal or Journal(), report
        )
        return work.result()


@dataclass(frozen=True)
class _Probing:
    """Images pass once, then a classifier is fitted place by place."""

    chain: Chain
    batches: dict[str, Sequence[Batch]]
    known: int | None
    budget_ms: float | None
    threads: int
    autocast: torch.autocast
    images: str | None
    seed: int
    journal: Journal
    report: Report

    def result(self) -> Probe:
        """Return what was found."""
        if self.known is not None:
            self._require_budget(self.known)  # before all images pass
        with self._rows() as rows:
            labels = self._pass(rows)
            classes = self.known or 1 + int(max(one.max() for one in labels.values()))
            self._require_budget(classes)
            train, validation = labels["training"], labels["validation"]
            if len(train.unique()) < 2:
                raise UserError("all training images are of one class: there is nothing to tell apart")
            images = self.images or f"labels {hashlib.blake2b(validation.numpy().data, digest_size=16).hexdigest()}"
            fits = _Fits(rows, self.places, self.blocks, labels, classes, images, self.seed)
            depths = compared(self._depths(self._readings(fits), classes), len(validation))
            chosen = chosen_of(depths, self.budget_ms)
            test = self._tested(fits, chosen) if "test" in self.batches else None
        return Probe(
            n=len(validation),
            train_images=len(fits.sample),
            classes=classes,
            units=len(self.chain),
            depths=depths,
            best=lowest_of(depths),
            chosen=chosen,
            budget_ms=self.budget_ms,
            threads=self.threads,
            test=test,
            remarks=self._remarks(len(fits.sample), len(train)),
        )

    @cached_property
    def whole(self) -> Chain:
        """The network as it is run: norms folded, on the device of the images."""
        few = self.batches["validation"][0].images[:FEW]
        return prepared(self.chain, few, precision="fp32", device=few.device).chain

    @cached_property
    def one(self) -> Tensor:
        """One image."""
        return self.batches["validation"][0].images[:1]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where features are read, from the stem to the end."""
        return places_of(self.whole, self.one)

    @cached_property
    def training(self) -> Sequence[Batch]:
        """The training images; of a split as many as the widest regression takes, so that the others need not pass."""
        train = self.batches["training"]
        if self.known is None or not isinstance(train, SplitBatches):
            return train
        most = regression_images(max(place.features for place in self.places), self.known)
        return replace(train, split=sample(train.split, most, self.seed))

    def _remarks(self, fitted: int, passed: int) -> tuple[str, ...]:
        """Return what a reader should know: that classifiers are fitted on a sample."""
        train = self.batches["training"]
        there = train.images if isinstance(train, SplitBatches) else passed
        said = f"classifiers are fitted on {fitted:,} of {there:,} training images, a stratified sample"
        return (said,) if fitted < there else ()

    @cached_property
    def blocks(self) -> dict[str, range]:
        """Numbers of the mini-batches that are kept, by what they are for."""
        train, validation = len(self.training), len(self.batches["validation"])
        return {"training": range(train), "validation": range(train, train + validation)}

    @contextmanager
    def _rows(self) -> Iterator[Rows]:
        """Yield where features are kept: beside the journal, or in memory, or for the time of the work in files."""
        width, ranks = sum(place.features for place in self.places), self.journal.ranks
        images = sum(
            one.images if isinstance(one, SplitBatches) else len(one) * len(one[0].labels)
            for one in (self.training, self.batches["validation"])
        )
        size, folder = 4 * width * images, self.journal.folder
        self.report(f"{counted(len(self.chain) + 1, 'depth')}: {width:,} numbers per image, {bytes_text(size)} in all")
        if folder is not None or (ranks.alone and size <= HELD_BYTES):
            yield Rows(width, folder)
            return
        with tempfile.TemporaryDirectory(prefix="howdeep-") as own:
            yield Rows(width, Path(str(ranks.from_first(own))))
            ranks.gathered(None)  # nobody removes what another one reads

    def _pass(self, rows: Rows) -> dict[str, Tensor]:
        """Let all images pass, keep what is read of them, and return their labels."""
        train, validation = self.training, self.batches["validation"]
        total = len(train) + len(validation)

        def block(number: int) -> dict:
            batch = train[number] if number < len(train) else validation[number - len(train)]
            read = read_at(self.whole, self.places, batch.images, self.autocast)
            if not bool(read.isfinite().all()):
                raise UserError("the network returns activations that are not finite: weights or data are broken")
            rows.put(number, read)
            return {"labels": batch.labels.tolist()}

        names = [f"features {number}" for number in range(total)]
        lost = [name for number, name in enumerate(names) if number not in rows]
        # As process 0 sees it, before anyone writes: all must find the same work left.
        for name in self.journal.ranks.from_first(lost):  # type: ignore[attr-defined]
            self.journal.steps.pop(name, None)
        done = self.journal.blocks("images", total, block, names)
        return {
            name: torch.tensor([label for number in blocks for label in done[number]["labels"]])
            for name, blocks in self.blocks.items()
        }

    def _readings(self, fits: "_Fits") -> list[dict]:
        """Return of every place what its classifier and the nearest neighbour get wrong."""

        def reading(number: int) -> dict:
            return {"fitted": to_json(fits.fitted(number)), "neighbour": fits.neighbour_error_percent(number)}

        names = [f"classifier {number}" for number in range(len(self.places))]
        return self.journal.blocks("classifiers", len(self.places), reading, names)

    def _depths(self, readings: Sequence[dict], classes: int) -> list[Depth]:
        sizes, latencies, names = self._sizes(classes), self._latencies(classes), ["stem", *self.chain.names]
        depths = []
        for place, reading, latency, (macs, parameters) in zip(self.places, readings, latencies, sizes, strict=True):
            whole = place == self.places[-1]
            depths.append(
                Depth(
                    units=place.units,
                    name="end" if whole else names[place.units],
                    whole=whole,
                    head="kept" if place.by_head else "pooled",
                    fitted=from_json(Fitted, reading["fitted"]),
                    neighbour_error_percent=reading["neighbour"],
                    to_best=None,
                    to_end=None,
                    latency=latency,
                    macs=macs,
                    parameters=parameters,
                )
            )
        return depths

    def _sizes(self, classes: int) -> list[tuple[int, int]]:
        """Return multiply-adds and parameters up to every place, with a classifier of so many classes."""
        network, points = _with_classes(self.chain, self.one, classes), cut_points(self.chain)
        *parts, last = describe_chain(network, tuple(self.one.shape[1:]), name="", family="").parts
        # Of the stem, and of stem and body up to every module.
        macs, parameters = (
            list(accumulate(numbers)) for numbers in zip(*((p.macs, p.parameters) for p in parts), strict=True)
        )
        head, sizes = copy.deepcopy(network.head).to("meta"), []
        for place in self.places:
            point, features = points[place.units], place.features
            more = features * classes, (features + 1) * classes
            if place.by_head:
                more = output_and_macs(head, sample_of(parts[point].output))[1], last.parameters
            sizes.append((macs[point] + more[0], parameters[point] + more[1]))
        return sizes

    def _latencies(self, classes: int) -> list[Timing]:
        """Return how long one image takes up to every place, by turns."""

        def measured() -> list[dict]:
            chains, points, one, whole = [], cut_points(self.whole), self.one, self.whole
            kept = _with_classes(whole, one, classes).head
            for place in self.places:
                averaged = nn.Sequential(Pooled(), nn.Linear(place.features, classes).to(one))
                # The modules are shared: of large networks there is no room for a copy of every depth.
                body = whole.body[: points[place.units]]
                chains.append(Chain(whole.stem, body, kept if place.by_head else averaged))
            return [asdict(timing) for timing in forward_times(chains, one, threads=self.threads)]

        return [from_json(Timing, one) for one in self.journal.result("latencies", measured)]

    def _require_budget(self, classes: int) -> None:
        if self.budget_ms is None:
            return
        smallest = min(timing.median_ms for timing in self._latencies(classes))
        if smallest > self.budget_ms:
            budget = f"latency-budget {self.budget_ms:.3g}ms"
            raise UserError(f"no depth of this network holds {budget}: {smallest:.3g}ms is the smallest possible value")

    def _tested(self, fits: "_Fits", chosen: int) -> ProbeTest:
        """Return what the chosen depth and the whole network get wrong on the test images."""
        numbers, batches = sorted({chosen, len(self.places) - 1}), self.batches["test"]
        places, ranks = [self.places[number] for number in numbers], self.journal.ranks
        linears: list[Linear] = ranks.from_first([*map(fits.linear, numbers)] if ranks.first else None)  # type: ignore[assignment]

        def block(number: int) -> dict:
            batch = batches[number]
            parts = read_at(self.whole, places, batch.images, self.autocast).split([one.features for one in places], 1)
            labels = batch.labels.cpu()
            wrong = [one.wrong(Features(part, labels)) for one, part in zip(linears, parts, strict=True)]
            return {"wrong": [one.tolist() for one in wrong]}

        done = self.journal.blocks("test images", len(batches), block)
        wrong = [torch.tensor([image for one in done for image in one["wrong"][at]]) for at in (0, -1)]
        return ProbeTest(
            n=len(wrong[0]),
            error_percent=100 * float(wrong[0].double().mean()),
            end_error_percent=100 * float(wrong[1].double().mean()),
            change=changes([(int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum()))], len(wrong[0]))[0],
        )


@dataclass(frozen=True)
class _Fits:
    """The classifiers of all places, each fitted when it is asked for."""

    rows: Rows
    places: Sequence[Place]
    blocks: dict[str, range]
    labels: dict[str, Tensor]
    classes: int
    images: str
    seed: int
    _linears: dict[int, tuple[Linear, Sums]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def sample(self) -> Tensor:
        """Positions of the training images that classifiers are fitted on: the same ones at every place."""
        labels, most = (
            self.labels["training"],
            regression_images(max(place.features for place in self.places), self.classes),
        )
        return torch.arange(len(labels)) if len(labels) <= most else sample_positions(labels, most, self.seed)

    def fitted(self, number: int) -> Fitted:
        """Return what the classifier of a place gets wrong on the validation images."""
        linear, sums = self._fit(number)
        validation = self._features(number, "validation")
        low, high = of_share(sums.error_percent, sums.images)
        return Fitted(
            features=self.places[number].features,
            error_percent=sums.error_percent,
            low=low,
            high=high,
            loss=sums.mean_loss,
            strength=linear.strength,
            answers=Answers.of(self.images, linear.wrong(validation)),
        )

    def linear(self, number: int) -> Linear:
        """Return the classifier of a place."""
        return self._fit(number)[0]

    def neighbour_error_percent(self, number: int) -> float:
        """Return what the nearest training image gets wrong at a place, in percent."""
        wrong = wrong_by_neighbour(self._features(number, "training"), self._features(number, "validation"))
        return 100 * float(wrong.double().mean())

    def _fit(self, number: int) -> tuple[Linear, Sums]:
        if number not in self._linears:
            train, validation = self._features(number, "training"), self._features(number, "validation")
            some = Features(train.values[self.sample], train.labels[self.sample])
            self._linears[number] = regression(some, validation, self.classes, exact=False)
        return self._linears[number]

    def _features(self, number: int, name: str) -> Features:
        start = sum(place.features for place in self.places[:number])
        values = self.rows.columns(self.blocks[name], start, self.places[number].features)
        return Features(values, self.labels[name])


def _with_classes(chain: Chain, image: Tensor, classes: int) -> Chain:
    """Return a network with a new classifier, if it has one; all before the head is shared."""
    network = Chain(chain.stem, chain.body, copy.deepcopy(chain.head))
    some = next((one for one in chain.parameters()), image)
    try:
        replace_classifier(network, image.to(some), classes, seed=0)
    except UserError:  # its time is the best guess
        return chain
    return network


def changes(exchanges: Sequence[tuple[int, int]], n: int) -> list[Change]:
    """Return the changes of one family of comparisons, by newly wrong and newly right images of n."""
    chances = of_several([chance_of_change(worse, better, n) for worse, better in exchanges])
    return [
        Change(points=100 * (worse - better) / n, **of_change(worse, better, n)._asdict(), chance=chance)
        for (worse, better), chance in zip(exchanges, chances, strict=True)
    ]


def compared(depths: Sequence[Depth], n: int) -> tuple[Depth, ...]:
    """Return depths, compared with that of the lowest error and with the whole network, image by image of n."""

    def against(reference: int) -> list[Change | None]:
        others = [at for at in range(len(depths)) if at != reference]
        pairs = [exchanged(depths[at].fitted.answers, depths[reference].fitted.answers) for at in others]
        found: list[Change | None] = [None] * len(depths)
        for at, change in zip(others, changes([pair for pair in pairs if pair is not None], n), strict=True):
            found[at] = change
        return found

    pairs = zip(depths, against(lowest_of(depths)), against(len(depths) - 1), strict=True)
    return tuple(replace(depth, to_best=best, to_end=end) for depth, best, end in pairs)


def lowest_of(depths: Sequence[Depth]) -> int:
    """Return which depth has the lowest error, from 0; of several the shallowest."""
    return min(range(len(depths)), key=lambda at: depths[at].fitted.error_percent)


def chosen_of(depths: Sequence[Depth], budget_ms: float | None = None) -> int:
    """Return which depth is recommended, from 0.

    The shallowest whose difference to the lowest error may be none: its own 95 % interval holds 0. Holm's correction,
    with which fewer differences count, would take a shallower one the more depths there are. Within a budget, which has
    said what may be spent, the one of the lowest error.

    Args:
        depths: As :func:`compared` returns them.
        budget_ms: Milliseconds for one image, which one depth holds at least; None is no limit.
    """
    if budget_ms is None:
        return next(at for at, depth in enumerate(depths) if depth.to_best is None or depth.to_best.low <= 0)
    holding = [at for at, depth in enumerate(depths) if depth.latency.median_ms <= budget_ms]
    return min(holding, key=lambda at: depths[at].fitted.error_percent)
