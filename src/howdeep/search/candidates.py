"""What the networks of a plane cost here, which of them meet the budgets, and which compete."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from howdeep.analysis.study import prepared
from howdeep.costs.measuring import Setting, peak_of_training
from howdeep.costs.predicting import kind_of
from howdeep.data import Dataset, steps_per_epoch
from howdeep.deploying.latency import latencies
from howdeep.networks import Spec, build, skeleton, spec_of
from howdeep.networks.counting import describe_chain
from howdeep.runtime.deployment import Deployment
from howdeep.runtime.precision import Arithmetic, best_of
from howdeep.runtime.timing import Timing
from howdeep.search.families import LARGE_SIDE, Member
from howdeep.search.options import Budgets
from howdeep.search.spread import competing
from howdeep.search.study import final_share, round_ends
from howdeep.training.config import TrainConfig
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.util.errors import UserError
from howdeep.util.text import bytes_text, number, seconds_text

FEWEST_EPOCHS = 5
"""A network that is trained for less than this is half-trained, and a finished shallower one does better."""
BESIDE = 1.15
"""What a training run takes per second of its steps: augmentation, waiting for data, validation."""
TIMED_SECONDS = 2.0
"""Longest time in which one latency is measured, five passes at least."""
MEASURING, STEPS_OF_A_TRIAL = 0.05, 15
"""Share of the training budget in which steps are timed, and steps that timing one network takes."""
LEVER = 3.0
"""A line through two costs begins at the cheapest network, and goes on to one of so many times its multiply-adds."""
FASTER = 3.0
"""A wide network takes at most so many times less time for a multiply-add than a narrow one."""
AGAIN = 4 / 3
"""What a training step takes longer that computes activations twice: four passes instead of three."""
LIMITS: dict[str, tuple[str, Callable[[float], str]]] = {
    "latency": ("latency_seconds", lambda seconds: f"{1000 * seconds:.3g}ms"),
    "parameters": ("parameters", lambda count: f"{count:,.0f}"),
    "memory": ("memory_bytes", lambda count: f"{count / 1e6:.3g}MB"),
    "train": ("train_seconds", lambda seconds: f"{seconds:.3g}s" if seconds < 1 else f"{math.ceil(seconds)}s"),
}
"""Name of a budget in ``--…-budget`` → its name in :class:`Budgets`, and how a value is told."""


@dataclass(frozen=True)
class CandidateCosts:
    """A network that meets every budget and takes part, and what it costs."""

    family: str
    """Its family."""
    depth: int
    """Its layers."""
    width: int
    """Factor on the channels that the family's paper has."""
    network: str
    """Its name in the catalogue."""
    parameters: int
    """Trainable numbers."""
    macs: int
    """Multiply-adds per image."""
    latency: Timing
    """One image, norms folded, fp32."""
    seconds_per_step: float
    """Of training, everything beside the steps included."""
    predicted: bool
    """Whether that follows from other networks of the plane; else it was measured."""
    epochs: float
    """Passes over the training images that its training budget allows, were it chosen."""
    checkpointing: bool
    """Whether training computes activations twice, which is what meets the memory budget."""
    arithmetic: Arithmetic
    """Precision and memory format of training."""


@dataclass(frozen=True)
class Dropped:
    """A network that was left out."""

    family: str
    """Its family."""
    depth: int
    """Its layers."""
    width: int
    """Factor on the channels that the family's paper has."""
    network: str
    """Its name in the catalogue."""
    budget: str
    """The budget that it misses: ``latency``, ``parameters``, ``memory`` or ``train``; empty where it misses none, and
    others stand for it."""
    reason: str
    """What was measured; or that a shallower one misses it already."""
    needed: float | None
    """What the budget would have to be: of training time what was used before, and five epochs of this network alone,
    also where it misses none. None where that is not known."""


@dataclass(frozen=True)
class Candidates:
    """Which networks take part."""

    networks: tuple[CandidateCosts, ...]
    """Those that are compared: family by family, narrow first, shallow first."""
    dropped: tuple[Dropped, ...]
    """Those that are not, and why."""


def measure_candidates(
    config: TrainConfig,
    members: Sequence[Member],
    budgets: Budgets,
    dataset: Dataset,
    device: torch.device,
    where: Deployment,
    spent: Callable[[], float],
    report: Callable[[str], None],
) -> Candidates:
    """Measure a few networks, predict the others, and return which meet the budgets and compete.

    Costs rise with depth, so that no network is looked at once a shallower one of its width misses a budget.

    Args:
        config: Options of training; the network is each one in turn.
        members: The plane: family by family, narrow first, shallow first.
        budgets: The limits.
        dataset: For the shape and number of images.
        device: Where they are trained.
        where: Where their latency is measured.
        spent: Returns the seconds of the training budget that were used until now, from the start of the command.
        report: Receives one line per network that competes, and per width that misses a budget.

    Raises:
        UserError: No network meets them; the smallest possible budget is named.
    """
    bench = _Bench(config, members, budgets, dataset, device, where, spent)
    allowed, dropped = bench.allowed()
    for one in dropped:
        if one.needed is not None:
            report(f"  {one.network}: left out, {one.budget} budget: {one.reason}")
    affordable, half_trained = bench.affordable(allowed)
    dropped += half_trained
    if not affordable:
        least = min((one for one in dropped if one.needed is not None), key=lambda one: (one.width, one.depth))
        attribute, told = LIMITS[least.budget]
        smaller = f"; smaller images (--size {LARGE_SIDE}) take less" if bench.large else ""
        raise UserError(
            f"--{least.budget}-budget {told(getattr(budgets, attribute))} is not allowed:"
            f" {least.network}, the smallest network, needs {told(least.needed or 0.0)} here{smaller}"
        )
    taken = competing(affordable, lambda count: _first_round(count, bench.left), bench.epoch_seconds)
    like = "networks of like cost stand for it"
    others = [one for one in affordable if one not in taken]
    dropped += [bench.dropped(one, "", like, bench.needed(one)) for one in others]
    networks = tuple(map(bench.costs, taken, [final_share(len(taken)) * bench.left] * len(taken)))
    for one in networks:
        memory = ", activations computed twice" if one.checkpointing else ""
        epochs = f"{'about ' * one.predicted}{one.epochs:,.{0 if one.epochs >= 10 else 1}f} epochs"
        size = f"{number(one.latency.median_ms, zeros=True)} ms, {one.parameters:,} parameters"
        report(f"  {one.network}: {size}, up to {epochs}{memory}")
    return Candidates(networks, tuple(dropped))


def _first_round(networks: int, seconds: float) -> float:
    ends = round_ends(networks, seconds)
    return ends[0] if ends else seconds


@dataclass(frozen=True)
class _Place:
    """A network of the plane, counted, with the time of its training steps."""

    member: Member
    parameters: int
    macs: int
    step: float
    """Seconds, without what is beside it."""
    measured: bool
    arithmetic: Arithmetic
    checkpointing: bool = False

    @property
    def family(self) -> str:
        return self.member.family

    @property
    def width(self) -> int:
        return self.member.width

    @property
    def seconds_per_step(self) -> float:
        return BESIDE * self.step * (AGAIN if self.checkpointing else 1.0)


@dataclass(frozen=True)
class _Point:
    """What a training step takes."""

    macs: int
    seconds: float
    arithmetic: Arithmetic
    timed: bool


@dataclass(frozen=True)
class _Bench:
    """Where the networks of a plane are counted, timed and compared with the budgets."""

    config: TrainConfig
    members: Sequence[Member]
    budgets: Budgets
    dataset: Dataset
    device: torch.device
    where: Deployment
    spent: Callable[[], float]
    macs: dict[Member, tuple[int, int]] = field(default_factory=dict)
    """Parameters and multiply-adds of those that were counted."""
    latency: dict[Member, Timing] = field(default_factory=dict)
    peaks: dict[Member, tuple[bool | None, int]] = field(default_factory=dict)
    """Whether the memory budget needs activations to be computed twice, None where that does not do, and the peak."""

    @property
    def large(self) -> bool:
        return min(self.dataset.height, self.dataset.width) > LARGE_SIDE

    @cached_property
    def per_epoch(self) -> int:
        return steps_per_epoch(len(self.dataset.split("train")), self.config.resolved_recipe().batch_size)

    @property
    def left(self) -> float:
        """Seconds of the training budget."""
        return self.budgets.train_seconds - self.spent()

    def epoch_seconds(self, one: _Place) -> float:
        return one.seconds_per_step * self.per_epoch

    def needed(self, one: _Place) -> float:
        """Return the training budget of a network alone: what was used, and its fewest epochs."""
        return self.spent() + FEWEST_EPOCHS * self.epoch_seconds(one)

    def spec(self, member: Member) -> Spec:
        spec = spec_of(member.network, classes=len(self.dataset.classes), channels=self.dataset.channels)
        return spec.zero_initialised()

    def counted(self, member: Member) -> tuple[int, int]:
        """Return parameters and multiply-adds, counted without weights."""
        if member not in self.macs:
            image = (self.dataset.channels, self.dataset.height, self.dataset.width)
            found = describe_chain(skeleton(self.spec(member)).eval(), image, name=member.network, family=member.family)
            self.macs[member] = found.parameters, found.macs
        return self.macs[member]

    # --- which meet the budgets

    def allowed(self) -> tuple[list[_Place], list[Dropped]]:
        """Return the networks that meet every budget, and those that do not."""
        kept, dropped = [], []
        for _, line in groupby(self.members, key=lambda one: (one.family, one.width)):
            ladder = list(line)
            for holds in (self._few_parameters, self._in_time, self._fast, self._in_memory):
                end, missed = holds(ladder)
                if missed is not None:
                    dropped += [missed, *(self._beyond(one, missed) for one in ladder[end + 1 :])]
                ladder = ladder[:end]
            kept += map(self.place, ladder)
        return kept, dropped

    def affordable(self, places: Sequence[_Place]) -> tuple[list[_Place], list[Dropped]]:
        """Return who would be trained enough, were it chosen, and who would not; the slowest goes first."""
        kept, dropped = sorted(places, key=lambda one: one.seconds_per_step), []
        while kept and FEWEST_EPOCHS * self.epoch_seconds(kept[-1]) > final_share(len(kept)) * self.left:
            slowest = kept.pop()
            share = seconds_text(final_share(len(kept) + 1) * self.left)
            reason = f"{self._told(slowest)} for {FEWEST_EPOCHS} epochs, of {share}"
            dropped.append(self.dropped(slowest, "train", reason, self.needed(slowest)))
        return [one for one in places if one in kept], dropped

    def _few_parameters(self, ladder: Sequence[Member]) -> tuple[int, Dropped | None]:
        limit = self.budgets.parameters
        for number_, one in enumerate(ladder if limit is not None else ()):
            if (count := self.counted(one)[0]) > (limit or 0):
                return number_, self._missed(one, "parameters", f"{count:,} parameters", count)
        return len(ladder), None

    def _in_time(self, ladder: Sequence[Member]) -> tuple[int, Dropped | None]:
        for number_, one in enumerate(ladder):
            place = self.place(one)
            if (needed := self.needed(place)) > self.budgets.train_seconds:
                told = f"{self._told(place)} for {FEWEST_EPOCHS} epochs"
                return number_, self._missed(one, "train", told, needed)
        return len(ladder), None

    def _fast(self, ladder: Sequence[Member]) -> tuple[int, Dropped | None]:
        limit = self.budgets.latency_seconds
        if limit is None:
            return len(ladder), None
        end = bisect_left(ladder, True, key=lambda one: self._latency(one).median_ms > 1000 * limit)
        if end == len(ladder):
            return end, None
        median = self._latency(ladder[end]).median_ms
        return end, self._missed(ladder[end], "latency", f"{median:.2f} ms", median / 1000)

    def _in_memory(self, ladder: Sequence[Member]) -> tuple[int, Dropped | None]:
        end = bisect_left(ladder, True, key=lambda one: self._peak(one)[0] is None)
        if end == len(ladder):
            return end, None
        least = self._peak(ladder[end])[1]
        return end, self._missed(ladder[end], "memory", f"{bytes_text(least)} at least", least)

    def dropped(self, one: _Place, budget: str, reason: str, needed: float | None) -> Dropped:
        return self._missed(one.member, budget, reason, needed)

    def _missed(self, one: Member, budget: str, reason: str, needed: float | None) -> Dropped:
        return Dropped(one.family, one.depth, one.width, one.network, budget, reason, needed)

    def _beyond(self, one: Member, missed: Dropped) -> Dropped:
        return self._missed(one, missed.budget, f"deeper than {missed.network}, which misses it", None)

    def _told(self, place: _Place) -> str:
        return f"{'' if place.measured else 'about '}{seconds_text(FEWEST_EPOCHS * self.epoch_seconds(place))}"

    # --- what they cost

    def costs(self, place: _Place, seconds: float) -> CandidateCosts:
        """Return what a network that competes costs; ``seconds`` are those that it is trained for, were it chosen."""
        member, checkpointing = place.member, bool(self._peak(place.member)[0])
        place = replace(place, checkpointing=checkpointing)
        return CandidateCosts(
            family=member.family,
            depth=member.depth,
            width=member.width,
            network=member.network,
            parameters=place.parameters,
            macs=place.macs,
            latency=self._latency(member),
            seconds_per_step=place.seconds_per_step,
            predicted=not place.measured,
            epochs=seconds / self.epoch_seconds(place),
            checkpointing=checkpointing,
            arithmetic=place.arithmetic,
        )

    def place(self, member: Member) -> _Place:
        """Return a network with the time of its steps: a line in its multiply-adds, through networks of its kind."""
        points = self.points[kind_of(self.spec(member))]
        parameters, macs = self.counted(member)
        known = next((one for one in points if one.macs == macs and one.timed), None)
        first, last = points[0], points[-1]
        if first.macs == last.macs or last.seconds <= first.seconds:
            step = first.seconds * macs / first.macs
        else:
            slope = (last.seconds - first.seconds) / (last.macs - first.macs)
            # Nothing takes less than no time: a line that would begin below zero goes through it.
            slope = min(slope, last.seconds / last.macs)
            step = last.seconds + slope * (macs - last.macs)
        return _Place(member, parameters, macs, known.seconds if known else step, known is not None, first.arithmetic)

    @cached_property
    def points(self) -> dict[Spec, list[_Point]]:
        """Kind of unit → the steps that were timed, the cheapest network first.

        Of every kind the cheapest network is timed, and then, narrow kinds first, another one, as long as that takes no
        longer than its share of the budget. A kind that is too dear to be timed is as fast as a narrower one by
        multiply-adds.
        """
        kinds: dict[Spec, list[Member]] = {}
        for member in self.members:
            kinds.setdefault(kind_of(self.spec(member)), []).append(member)
        points: dict[Spec, list[_Point]] = {}
        left, before = MEASURING * self.budgets.train_seconds, None
        for kind, (first, *_) in kinds.items():
            if before is None:
                points[kind] = [self._timed(first)]
                left -= STEPS_OF_A_TRIAL * points[kind][0].seconds
            else:
                macs = self.counted(first)[1]
                guess = _Point(macs, before.seconds * macs / before.macs, before.arithmetic, False)
                hopeless = FEWEST_EPOCHS * self.per_epoch * guess.seconds > FASTER * self.budgets.train_seconds
                timed = not hopeless and STEPS_OF_A_TRIAL * guess.seconds <= left
                points[kind] = [self._timed(first) if timed else guess]
                left -= STEPS_OF_A_TRIAL * points[kind][0].seconds if timed else 0.0
            before = points[kind][0]
        for kind, alike in kinds.items():
            (first,) = points[kind]
            deeper = next((one for one in alike[1:] if self.counted(one)[1] >= LEVER * first.macs), alike[-1])
            expected = STEPS_OF_A_TRIAL * first.seconds * self.counted(deeper)[1] / first.macs
            if deeper != alike[0] and expected <= left:
                points[kind].append(self._timed(deeper, [first.arithmetic]))
                left -= expected
        return points

    def _timed(self, member: Member, arithmetics: list[Arithmetic] | None = None) -> _Point:
        config = replace(self.config, network=member.network)
        recipe = config.resolved_recipe()
        steps = TrainingSteps(build(self.spec(member)), batch_shape(recipe, self.dataset), recipe, self.device)
        best = best_of(trials_of(config, steps, arithmetics))
        return _Point(self.counted(member)[1], best.seconds_per_step, best.arithmetic, True)

    def _latency(self, member: Member) -> Timing:
        if member not in self.latency:
            image = self._image()
            folded = prepared(build(self.spec(member)), image, precision="fp32", device=self.device).chain
            self.latency[member] = latencies([folded], image, self.where, seconds=TIMED_SECONDS)[0]
        return self.latency[member]

    def _image(self) -> Tensor:
        image = torch.zeros(1, *self.dataset.shape).to(self.device)
        return image.contiguous(memory_format=torch.channels_last)

    def _peak(self, member: Member) -> tuple[bool | None, int]:
        """Return whether the budget needs activation checkpointing, or None, and the least that training takes."""
        limit = self.budgets.memory_bytes
        if limit is None:
            return False, 0
        if member not in self.peaks:
            self.peaks[member] = self._measured_peak(self.spec(member), limit)
        return self.peaks[member]

    def _measured_peak(self, spec: Spec, limit: float) -> tuple[bool | None, int]:
        batch, _, height, width = batch_shape(self.config.resolved_recipe(), self.dataset)
        arithmetic = self.points[kind_of(spec)][0].arithmetic
        setting = Setting(max(height, width), batch, arithmetic.precision, arithmetic.memory_format, str(self.device))
        peaks = []
        for checkpointing in (False, True):
            peak = peak_of_training(spec, setting, checkpointing=checkpointing)
            if peak is None:
                raise UserError("--memory-budget is not allowed here: this system does not say how much memory is used")
            if peak <= limit:
                return checkpointing, peak
            peaks.append(peak)
        return None, min(peaks)
