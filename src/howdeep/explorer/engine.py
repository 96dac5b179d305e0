"""One network on one sample: what it answers in any state, from activations that are kept, and the next state to try.

What a route has passed up to some place is a prefix; equal prefixes have equal activations, whichever route and
whichever tab they belong to, so that after a change only what follows it is computed. Of a network whose activations
are too large to keep them all, those at some places are kept (see :func:`kept_places`). Where all images take long, the
numbers of the first ones are told meanwhile.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from howdeep.analysis.effects import BaselineBatch, Effect, baseline_batch, counts, effect_of
from howdeep.analysis.gradients import path_counts
from howdeep.analysis.lesion import kendall_tau
from howdeep.analysis.routes import Route, Step, baseline
from howdeep.chain import Chain, run
from howdeep.cutting.frontier import Frontier, networks_tried
from howdeep.cutting.images import Images
from howdeep.explorer.costs import Costs
from howdeep.explorer.images import Sample, Upload
from howdeep.explorer.jobs import Advance
from howdeep.explorer.records import Answer, Guess, Mean, PathsLeft, State, Watched, own_state
from howdeep.runs.resume import Journal
from howdeep.runs.target import Target
from howdeep.util.errors import UserError
from howdeep.util.intervals import of_mean, of_share

LIMIT = 1 << 30
"""Bytes of activations that are kept at most."""
MOST_PREFIXES = 1 << 18
"""Prefixes that have a number at a time."""
PATIENCE = 0.6
"""Seconds after which the numbers of the images so far are told, and again."""


class ActivationCache:
    """Logits of routes through one network, and the activations on their way.

    Args:
        chain: The network, in evaluation mode.
        chunks: The images, shape (chunk, channels, height, width) each.
        autocast: The precision.
        limit: Bytes of activations that are kept at most. Those of the network as it is, to which most changes are
            made, go last, before them those of the latest routes.
    """

    def __init__(self, chain: Chain, chunks: list[Tensor], *, autocast: torch.autocast, limit: int = LIMIT) -> None:
        self.chain, self.chunks, self.autocast, self.limit = chain, chunks, autocast, limit
        self._own = baseline(chain)
        self.steps = 0
        self._numbers: dict[tuple[int, Step], int] = {}
        self._maps: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._bytes = 0
        self._places: frozenset[int] | None = None if limit else frozenset()

    def logits(self, route: Route, chunk: int, *, keep: bool = True) -> Tensor:
        """Return the logits of one chunk of images on a route, shape (chunk, classes), float32.

        ``steps`` counts the places of the body that had to be computed.

        Args:
            route: The way through the network.
            chunk: Number of the chunk.
            keep: Keep activations for later routes.
        """
        own, ways = list(self._ways(self._own)), list(self._ways(route))
        self._refresh(chunk, own)
        self._refresh(chunk, ways)
        with torch.inference_mode(), self.autocast:
            if self._places is None:
                self._places = kept_places(self._sizes(route), self.limit // 2)
            known = next((at for at in reversed(range(len(ways))) if (chunk, ways[at]) in self._maps), None)
            x = self.chain.stem(self.chunks[chunk]) if known is None else self._maps[chunk, ways[known]]
            if known is None:
                known = 0
                if keep:
                    self._keep(chunk, ways, 0, x)
            for at, (place, gate) in enumerate(route[known:], known + 1):
                x = run([(self.chain.body[place], gate)], x)
                self.steps += 1
                if keep:
                    self._keep(chunk, ways, at, x)
            return self.chain.head(x).float()

    def _sizes(self, route: Route) -> list[int]:
        """Return the bytes of the activations of all images, behind the stem and behind every step of a route."""
        images, x = sum(map(len, self.chunks)), self.chain.stem(self.chunks[0][:1])
        sizes = [images * x.numel() * x.element_size()]
        for place, gate in route:
            x = run([(self.chain.body[place], gate)], x)
            sizes.append(images * x.numel() * x.element_size())
        return sizes

    def _ways(self, route: Route) -> Iterator[int]:
        """Yield a number for every prefix, the empty one first; equal prefixes have equal numbers."""
        if len(self._numbers) > MOST_PREFIXES:
            self._numbers.clear()
            self._maps.clear()
            self._bytes = 0
        number = 0
        yield number
        for step in route:
            number = self._numbers.setdefault((number, step), len(self._numbers) + 1)
            yield number

    def _refresh(self, chunk: int, ways: list[int]) -> None:
        """Make the activations of a route the most recently used ones."""
        for way in ways:
            if (chunk, way) in self._maps:
                self._maps.move_to_end((chunk, way))

    def _keep(self, chunk: int, ways: list[int], at: int, x: Tensor) -> None:
        assert self._places is not None, "planned before the first activations"
        if at not in self._places:
            return
        self._maps[chunk, ways[at]] = x
        self._bytes += x.numel() * x.element_size()
        while self._bytes > self.limit:
            _, oldest = self._maps.popitem(last=False)
            self._bytes -= oldest.numel() * oldest.element_size()


def kept_places(sizes: Sequence[int], room: int) -> frozenset[int]:
    """Return the places at which activations are kept: all, or those that fit, closer together where they are small.

    Of g places from one kept to the next, a change computes (g − 1)/2 anew in the mean. For all places together, with
    so many bytes to spend, that is least where g rises with the root of the size.

    Args:
        sizes: Bytes at every place.
        room: Bytes that may be kept.
    """
    if sum(sizes) <= room:
        return frozenset(range(len(sizes)))
    densities = [size**-0.5 for size in sizes]
    stride = min(densities)
    while True:
        counted = [0, *(int(reached) for reached in accumulate(density / stride for density in densities))]
        kept = [at for at, (before, now) in enumerate(pairwise(counted)) if now > before]
        if sum(sizes[at] for at in kept) <= room:
            return frozenset(kept)
        stride *= 1.1


TOP = 3
"""Classes that are reported of an image."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A trained network and everything that was prepared for asking it quickly."""

    target: Target
    """The network, and how its images are prepared."""
    chain: Chain
    """The network as it is, on its device."""
    cache: ActivationCache
    """The same as it is run, with the maps of the sample."""
    sample: Sample
    """The images that errors are counted on."""
    classes: tuple[str, ...]
    """Their classes."""
    costs: Costs
    """What the network costs."""
    precision: str
    """Of the maps."""
    threads: int
    """Threads of the host in which answers are computed."""
    journal: Journal = field(default_factory=Journal)
    """Rounds of the greedy cut that are known."""

    @cached_property
    def own(self) -> State:
        """The network as it is."""
        return own_state(self.chain)

    @cached_property
    def before(self) -> list[BaselineBatch]:
        """What it answers as it is, a chunk at a time."""
        route = self.own.route(self.chain)
        batches = enumerate(self.sample.batches)
        return [baseline_batch(self.cache.logits(route, at), batch.labels) for at, batch in batches]

    def answer(self, state: State, watched: Sequence[int], upload: Upload | None, advance: Advance) -> Answer:
        """Return what the network gets wrong in a state, and what it costs.

        Args:
            state: Gates and order.
            watched: Images of the sample to tell about.
            upload: An image that was dropped.
            advance: Called after every chunk of images; where they take long, with the answer of those so far, which
                tells of no single image.
        """
        started, rows, chunks, steps = time.perf_counter(), [], [], len(self.before)
        told = started
        for some, row in self._passes(state):
            chunks.append(some)
            rows.append(row)
            more, now = None, time.perf_counter()
            if now - told > PATIENCE and len(rows) < steps:
                more, told = {"answer": asdict(self._answer(state, chunks, rows, (), None, started))}, now
            advance(len(rows), steps, more)
        return self._answer(state, chunks, rows, watched, upload, started)

    def _answer(
        self,
        state: State,
        chunks: Sequence[Tensor],
        rows: Sequence[Sequence[float]],
        watched: Sequence[int],
        upload: Upload | None,
        started: float,
    ) -> Answer:
        """Return the answer of the first images, of which these are the logits and counts."""
        logits = torch.cat(list(chunks)).cpu()
        own = torch.cat([one.logits for one in self.before[: len(chunks)]]).cpu()
        effect = effect_of(_sums(rows), len(logits))
        low, high = of_share(effect.error_percent, len(logits))
        wrong, was_wrong = self._wrong(logits), self._wrong(own)
        loss, probability = self._sureness(logits, own)
        macs, parameters, ms = self.costs.left(state.closed)
        labels = [self.classes[int(self.sample.labels[image])] for image in watched]
        return Answer(
            n=len(logits),
            of=len(self.sample.pixels),
            error_percent=effect.error_percent,
            low=low,
            high=high,
            change=effect.change,
            change_low=effect.change_low,
            change_high=effect.change_high,
            loss=loss,
            probability=probability,
            not_finite=effect.not_finite,
            closed=len(state.closed),
            units=len(state.gates),
            kendall_tau=kendall_tau(state.order) if state.shuffled else None,
            paths=self.paths(state),
            macs=macs,
            macs_all=self.costs.macs,
            ms=ms,
            ms_all=self.costs.ms,
            parameters=parameters,
            parameters_all=self.costs.parameters,
            wrong=tuple(sorted(wrong)),
            newly_wrong=tuple(sorted(wrong - was_wrong)),
            newly_right=tuple(sorted(was_wrong - wrong)),
            confusion=self._confusion(logits),
            watched=tuple(
                Watched(image=image, label=label, top=self._top(logits[image], own[image]))
                for image, label in zip(watched, labels, strict=True)
            ),
            upload=None if upload is None else self._upload(upload, state),
            seconds=time.perf_counter() - started,
        )

    def _passes(self, state: State, *, keep: bool = True) -> Iterator[tuple[Tensor, list[float]]]:
        """Yield the logits of a state and their :func:`counts`, chunk by chunk."""
        route = state.route(self.chain)
        for at, before in enumerate(self.before):
            logits = self.cache.logits(route, at, keep=keep)
            yield logits, counts(before, logits, len(self.classes))

    def _wrong(self, logits: Tensor) -> set[int]:
        wrong = (logits.argmax(1) != self.sample.labels[: len(logits)]) | ~logits.isfinite().all(1)
        return set(wrong.nonzero().squeeze(1).tolist())

    def _sureness(self, logits: Tensor, own: Tensor) -> tuple[Mean | None, Mean | None]:
        """Return the means of the cross-entropy and of the probability of the right class."""
        if not bool(logits.isfinite().all()):
            return None, None
        labels = self.sample.labels[: len(logits)]
        now, before = (F.cross_entropy(one.double(), labels, reduction="none") for one in (logits, own))
        return _mean(now, before), _mean((-now).exp(), (-before).exp())

    def _confusion(self, logits: Tensor) -> tuple[tuple[int, ...], ...]:
        """Return how often images of a class (row) were given a class (column), of those with finite logits."""
        classes, finite = len(self.classes), logits.isfinite().all(1)
        pairs = self.sample.labels[: len(logits)][finite] * classes + logits.argmax(1)[finite]
        return tuple(map(tuple, pairs.bincount(minlength=classes**2).view(classes, classes).tolist()))

    def _upload(self, upload: Upload, state: State) -> tuple[Guess, ...]:
        chain = self.cache.chain
        alone = ActivationCache(chain, [upload.image], autocast=self.cache.autocast, limit=0)
        (now,), (before,) = (alone.logits(one.route(chain), 0) for one in (state, self.own))
        return self._top(now.cpu(), before.cpu())

    def _top(self, logits: Tensor, before: Tensor) -> tuple[Guess, ...]:
        """Return the likeliest classes; none where a logit is not finite."""
        if not bool(logits.isfinite().all()):
            return ()
        now, was = logits.softmax(0), before.softmax(0)
        likeliest = now.topk(min(TOP, len(now))).indices.tolist()
        return tuple(
            Guess(name=self.classes[index], probability=float(now[index]), before=float(was[index]))
            for index in likeliest
        )

    @cached_property
    def own_lengths(self) -> dict[int, int]:
        """How many paths of each length the network has as it is."""
        return self.lengths(self.own)

    def lengths(self, state: State) -> dict[int, int]:
        """Return how many paths of each length there are in a state, exactly."""
        return path_counts(self.chain, state.gates)

    def paths(self, state: State) -> PathsLeft:
        """Return the paths that are left in a state."""
        lengths = self.lengths(state)
        total = sum(lengths.values())
        return PathsLeft(
            total=f"{total:,}",
            log2=math.log2(total) if total else 0.0,
            of=f"{sum(self.own_lengths.values()):,}",
            shortest=min(lengths, default=0),
            longest=max(lengths, default=0),
            mean=sum(length * count for length, count in lengths.items()) / total if total else 0.0,
        )

    def deletions(self, advance: Advance) -> list[Effect | None]:
        """Return what each unit does when it alone is out; None where it must stay."""
        able = [index for index, unit in enumerate(self.chain.units) if unit.merge.removable]
        found, done = list[Effect | None]([None] * len(self.chain)), 0
        for unit in able:
            gates = tuple(None if index == unit else gate for index, gate in enumerate(self.own.gates))
            rows = []
            for _, row in self._passes(replace(self.own, gates=gates), keep=False):
                rows.append(row)
                done += 1
                advance(done, len(able) * len(self.before))
            found[unit] = effect_of(_sums(rows), len(self.sample.pixels))
        return found

    def greedy(self, units: int, advance: Advance) -> list[int]:
        """Return which units go, counted from 0, in their order, until only ``units`` are left (see :class:`Frontier`).

        A step is a network that is tried; those of rounds that are known are not counted.

        Raises:
            UserError: That many cannot be left.
        """
        able = sum(unit.merge.removable for unit in self.chain.units)
        out = len(self.chain) - units
        if not 0 <= out <= able:
            raise UserError(f"units {units} is not allowed: {len(self.chain) - able} to {len(self.chain)} can be left")
        known = sum(len(found) for found in self.journal.steps.values() if isinstance(found, list))
        total, done = networks_tried(able, out) - known, 0

        def advanced(_: float) -> None:
            nonlocal done
            done += 1
            advance(done, total)

        same = self.sample.batches
        images = Images(calibration=same, evaluation=same, statistics=same)
        removals = Frontier(self.chain, images, self.journal, precision=self.precision, advance=advanced).removals()
        return [next(removals).index - 1 for _ in range(out)]


def _mean(now: Tensor, before: Tensor) -> Mean:
    """Return the mean of one number per image, and its change."""
    changes = (now - before).tolist()
    low, high = of_mean(changes) if len(changes) > 1 else (None, None)
    return Mean(value=now.mean().item(), change=math.fsum(changes) / len(changes), change_low=low, change_high=high)


def _sums(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the sums of the columns."""
    return [math.fsum(column) for column in zip(*rows, strict=True)]
