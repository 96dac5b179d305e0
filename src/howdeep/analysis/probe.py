"""How much of a network is needed for other data: a classifier is fitted on what can be read at every depth.

Alain and Bengio 2016 (arXiv 1610.01644) call them probes: multinomial logistic regression on the activations behind
every unit, of a network that stays as it is. Beside each stand what the network costs up to there, and what the nearest
neighbour gets wrong, which is fitted to nothing.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from howdeep.analysis.choice import changes, chosen_of, compared, lowest_of
from howdeep.analysis.depth_costs import latencies_of, sizes_of
from howdeep.analysis.depths import Depth, Fitted, Probe, ProbeTest
from howdeep.analysis.features import Place, Rows, places_of, read_at
from howdeep.analysis.fits import Fits
from howdeep.analysis.linear import Features, Linear, regression_images
from howdeep.analysis.study import SplitBatches, prepared
from howdeep.analysis.views import require_views, views_of
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.data.loaders import Loader, batches_of
from howdeep.data.sampling import sample
from howdeep.runs.resume import Journal
from howdeep.runtime.deployment import HERE, Deployment
from howdeep.runtime.modes import evaluating
from howdeep.runtime.timing import Timing
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, to_json
from howdeep.util.text import Report, bytes_text, counted

HELD_BYTES = 2**30
"""Features up to which they are held in memory, where the work is not to be resumed."""


def probe(
    chain: Chain,
    train: Loader,
    validation: Loader,
    test: Loader | None = None,
    *,
    classes: int | None = None,
    budget_ms: float | None = None,
    where: Deployment = HERE,
    views: int = 1,
    flip: bool = True,
    autocast: torch.autocast | None = None,
    images: str | None = None,
    seed: int = 0,
    journal: Journal | None = None,
    report: Report = lambda line: None,
    use: Callable[[Probe, Fits], object] = lambda found, fits: None,
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
        where: Where passes are timed: what runs them, threads, images at a time.
        views: Of every image, over which what is read is averaged (see :mod:`howdeep.analysis.views`); 1 to 10.
        flip: Whether mirror images are among them; without them there are 5.
        autocast: Precision of the units; None is that of the weights.
        images: The :func:`howdeep.analysis.evaluation.fingerprint` of the validation images, for the record of who
            was answered wrong; None knows them by their labels.
        seed: Of the sample, where classifiers are fitted on fewer than all training images.
        journal: Where progress is shown and kept.
        report: Receives lines about the size of the work.
        use: Receives the result and what it was fitted on, as long as that is held.

    Raises:
        UserError: There are no images, or training images of one class only; activations have no average; no depth
            holds the budget; there are not so many views; or a loader yields something else.
    """
    require_views(views, flip=flip)
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
            chain=chain,
            batches=batches,
            known=classes,
            budget_ms=budget_ms,
            where=where,
            views=views,
            flip=flip,
            autocast=autocast,
            images=images,
            seed=seed,
            journal=journal or Journal(),
            report=report,
            use=use,
        )
        return work.result()


@dataclass(frozen=True, kw_only=True)
class _Probing:
    """Images pass once, then a classifier is fitted place by place."""

    chain: Chain
    batches: dict[str, Sequence[Batch]]
    known: int | None
    budget_ms: float | None
    where: Deployment
    views: int
    flip: bool
    autocast: torch.autocast
    images: str | None
    seed: int
    journal: Journal
    report: Report
    use: Callable[[Probe, Fits], object]

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
            fits = Fits(rows, self.places, self.blocks, labels, classes, images, self.seed)
            depths = compared(self._depths(self._readings(fits), classes), len(validation))
            chosen = chosen_of(depths, self.budget_ms)
            test = self._tested(fits, chosen) if "test" in self.batches else None
            found = Probe(
                n=len(validation),
                train_images=len(fits.sample),
                classes=classes,
                units=len(self.chain),
                depths=depths,
                best=lowest_of(depths),
                chosen=chosen,
                budget_ms=self.budget_ms,
                threads=self.where.threads,
                views=self.views,
                test=test,
                remarks=self._remarks(len(fits.sample), len(train)),
            )
            self.use(found, fits)
        return found

    @cached_property
    def whole(self) -> Chain:
        """The network as it is run: norms folded, on the device of the images."""
        few = self.batches["validation"][0].images
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
        """Return what a reader should know: that classifiers are fitted on a sample, and on views of the images."""
        train = self.batches["training"]
        there = train.images if isinstance(train, SplitBatches) else passed
        said = []
        if fitted < there:
            said.append(f"classifiers are fitted on {fitted:,} of {there:,} training images, a stratified sample")
        if self.views > 1:
            kind = "shifted" if not self.flip else "mirrored" if self.views == 2 else "mirrored and shifted"
            said.append(f"read as the average of {self.views} views, {kind}: an answer takes {self.views} times the ms")
        return tuple(said)

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
            read = self._read(self.places, batch.images)
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

    def _read(self, places: Sequence[Place], images: Tensor) -> Tensor:
        """Return what is read of images at some places, averaged over their views."""
        views = views_of(images, self.views, flip=self.flip)
        return torch.stack([read_at(self.whole, places, view, self.autocast) for view in views]).mean(0)

    def _readings(self, fits: Fits) -> list[dict]:
        """Return of every place what its classifier and the nearest neighbour get wrong."""

        def reading(number: int) -> dict:
            return {"fitted": to_json(fits.fitted(number)), "neighbour": fits.neighbour_error_percent(number)}

        names = [f"classifier {number}" for number in range(len(self.places))]
        return self.journal.blocks("classifiers", len(self.places), reading, names)

    def _depths(self, readings: Sequence[dict], classes: int) -> list[Depth]:
        sizes = sizes_of(self.chain, self.places, self.one, classes)
        latencies, names = self._latencies(classes), ["stem", *self.chain.names]
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

    def _latencies(self, classes: int) -> list[Timing]:
        """Return how long one image takes up to every place."""

        def measured() -> list[dict]:
            return [asdict(one) for one in latencies_of(self.whole, self.places, self.one, classes, self.where)]

        return [from_json(Timing, one) for one in self.journal.result("latencies", measured)]

    def _require_budget(self, classes: int) -> None:
        if self.budget_ms is None:
            return
        smallest = min(timing.median_ms for timing in self._latencies(classes))
        if smallest > self.budget_ms:
            budget = f"latency-budget {self.budget_ms:.3g}ms"
            raise UserError(f"no depth of this network holds {budget}: {smallest:.3g}ms is the smallest possible value")

    def _tested(self, fits: Fits, chosen: int) -> ProbeTest:
        """Return what the chosen depth and the whole network get wrong on the test images."""
        numbers, batches = sorted({chosen, len(self.places) - 1}), self.batches["test"]
        places, ranks = [self.places[number] for number in numbers], self.journal.ranks
        linears: list[Linear] = ranks.from_first([*map(fits.linear, numbers)] if ranks.first else None)  # type: ignore[assignment]

        def block(number: int) -> dict:
            batch = batches[number]
            parts = self._read(places, batch.images).split([one.features for one in places], 1)
            labels = batch.labels.cpu()
            wrong = [one.wrong(Features(part, labels)) for one, part in zip(linears, parts, strict=True)]
            neighbour = fits.wrong_by_neighbour(numbers[-1], Features(parts[-1], labels))
            return {"wrong": [one.tolist() for one in wrong], "neighbour": neighbour.tolist()}

        done = self.journal.blocks("test images", len(batches), block)
        neighbour = [image for one in done for image in one["neighbour"]]
        wrong = [torch.tensor([image for one in done for image in one["wrong"][at]]) for at in (0, -1)]
        return ProbeTest(
            n=len(wrong[0]),
            error_percent=100 * float(wrong[0].double().mean()),
            end_error_percent=100 * float(wrong[1].double().mean()),
            end_neighbour_error_percent=100 * mean(neighbour),
            change=changes([(int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum()))], len(wrong[0]))[0],
        )
