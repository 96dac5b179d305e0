"""What networks of different depth cost here, and which of them meet the budgets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.costs.measuring import Setting, peak_of_training
from howdeep.data import Dataset, steps_per_epoch
from howdeep.networks import Spec, build, spec_of
from howdeep.networks.counting import describe_chain
from howdeep.runtime.precision import Arithmetic, best_of
from howdeep.runtime.timing import THREADS, Timing, forward_times
from howdeep.search.ladder import LARGE_SIDE, network_name
from howdeep.search.options import Budgets
from howdeep.search.study import final_share
from howdeep.training.config import TrainConfig
from howdeep.training.precision import TrainingSteps, batch_shape, trials_of
from howdeep.util.errors import UserError
from howdeep.util.text import bytes_text, seconds_text

FEWEST_EPOCHS = 5
"""A network that is trained for less than this is half-trained, and a finished shallower one does better."""
BESIDE = 1.15
"""What a training run takes per second of its steps: augmentation, waiting for data, validation."""
TIMED_SECONDS = 2.0


@dataclass(frozen=True)
class CandidateCosts:
    """A network that meets every budget, and what it costs."""

    family: str
    """Its family."""
    depth: int
    """Its layers."""
    network: str
    """Its name in the catalogue."""
    parameters: int
    """Trainable numbers."""
    macs: int
    """Multiply-adds per image."""
    latency: Timing
    """One image, norms folded, fp32, one thread."""
    seconds_per_step: float
    """Of training, everything beside the steps included."""
    epochs: float
    """Passes over the training images that its training budget allows, were it chosen."""
    checkpointing: bool
    """Whether training computes activations twice, which is what meets the memory budget."""


@dataclass(frozen=True)
class Dropped:
    """A network that was left out."""

    family: str
    """Its family."""
    depth: int
    """Its layers."""
    network: str
    """Its name in the catalogue."""
    budget: str
    """The budget that it misses: ``latency``, ``parameters``, ``memory`` or ``train``."""
    reason: str
    """What was measured; or that a shallower one misses it already."""
    needed: float | None
    """What the budget would have to be; None where that was not measured."""


@dataclass(frozen=True)
class Candidates:
    """Who takes part."""

    networks: tuple[CandidateCosts, ...]
    """Those that are compared, shallow first in every family."""
    dropped: tuple[Dropped, ...]
    """Those that are not, and why."""
    arithmetic: Arithmetic
    """Precision and memory format of training."""


def measure_candidates(
    config: TrainConfig,
    depths: Mapping[str, Sequence[int]],
    budgets: Budgets,
    dataset: Dataset,
    device: torch.device,
    report: Callable[[str], None],
) -> Candidates:
    """Measure networks, shallow first, and return those that meet the budgets.

    In a family costs rise with depth, so that nothing deeper is measured once a budget is missed.

    Args:
        config: Options of training; the network is each one in turn.
        depths: Family → depths, shallow first.
        budgets: The limits.
        dataset: For the shape and number of images.
        device: Where.
        report: Receives one line per network.

    Raises:
        UserError: No network meets them; the smallest possible budget is named.
    """
    large = min(dataset.height, dataset.width) > LARGE_SIDE

    def probe(family: str, depth: int) -> _Probe:
        named = replace(config, network=network_name(family, depth, large=large))
        return _Probe(named, family, depth, dataset, device)

    probes = [[probe(family, depth) for depth in ladder] for family, ladder in depths.items()]
    arithmetic = probes[0][0].arithmetic()
    probed = [one for ladder in probes for one in _measured(ladder, budgets, arithmetic, report)]
    measured = [one for one in probed if isinstance(one, CandidateCosts)]
    dropped = [one for one in probed if isinstance(one, Dropped)]
    return _affordable(measured, dropped, arithmetic, budgets, dataset, config)


def _measured(
    ladder: Sequence["_Probe"], budgets: Budgets, arithmetic: Arithmetic, report: Callable[[str], None]
) -> Iterator[CandidateCosts | Dropped]:
    """Yield what each depth of a family costs, until one misses a budget; the deeper ones miss it too."""
    misses: Dropped | None = None
    for probe in ladder:
        if misses is not None:
            beyond = f"deeper than {misses.network}, which misses it"
            yield Dropped(probe.family, probe.depth, probe.config.network, misses.budget, beyond, None)
            continue
        costs = probe.against(budgets, arithmetic)
        report(_line(costs))
        misses = costs if isinstance(costs, Dropped) else None
        yield costs


def _affordable(
    measured: list[CandidateCosts],
    dropped: list[Dropped],
    arithmetic: Arithmetic,
    budgets: Budgets,
    dataset: Dataset,
    config: TrainConfig,
) -> Candidates:
    """Drop who would end half-trained; the fewer remain, the more time each of them has."""
    per_epoch = _steps(config, dataset)
    kept = sorted(measured, key=lambda one: one.seconds_per_step)
    while kept:
        share = final_share(len(kept)) * budgets.train_seconds
        kept = [replace(one, epochs=share / (one.seconds_per_step * per_epoch)) for one in kept]
        if kept[-1].epochs >= FEWEST_EPOCHS:
            break
        dropped = [*dropped, _half_trained(kept.pop(), per_epoch)]
    if not kept:
        raise _impossible(dropped, budgets)
    order = {one.network: number for number, one in enumerate(measured)}
    return Candidates(tuple(sorted(kept, key=lambda one: order[one.network])), tuple(dropped), arithmetic)


def _half_trained(one: CandidateCosts, per_epoch: int) -> Dropped:
    needed = FEWEST_EPOCHS * one.seconds_per_step * per_epoch
    reason = f"{seconds_text(needed)} for {FEWEST_EPOCHS} epochs, more than its share"
    return Dropped(one.family, one.depth, one.network, "train", reason, needed)


@dataclass(frozen=True)
class _Probe:
    """One network, to be measured as far as the budgets ask for it."""

    config: TrainConfig
    family: str
    depth: int
    dataset: Dataset
    device: torch.device

    @property
    def spec(self) -> Spec:
        spec = spec_of(self.config.network, classes=len(self.dataset.classes), channels=self.dataset.channels)
        return spec.zero_initialised()

    def arithmetic(self) -> Arithmetic:
        """Return the fastest correct arithmetic of this network, which the others then use as well."""
        return best_of(trials_of(self.config, self._timed_steps(build(self.spec)))).arithmetic

    def against(self, budgets: Budgets, arithmetic: Arithmetic) -> CandidateCosts | Dropped:
        """Return the network with its costs, or the first budget that it misses, cheapest measurement first."""
        chain, image = build(self.spec), (self.dataset.channels, self.dataset.height, self.dataset.width)
        counted = describe_chain(chain, image, name=self.config.network, family=self.family)
        if budgets.parameters is not None and counted.parameters > budgets.parameters:
            reason = f"{counted.parameters:,} parameters"
            return self._misses("parameters", reason, counted.parameters)
        latency = self._latency(chain)
        if budgets.latency_seconds is not None and latency.median_ms > 1000 * budgets.latency_seconds:
            return self._misses("latency", f"{latency.median_ms:.2f} ms", latency.median_ms / 1000)
        checkpointing, least = self._checkpointing(budgets, arithmetic)
        if checkpointing is None:
            return self._misses("memory", f"{bytes_text(least)} at least", least)
        trial = best_of(trials_of(self.config, self._timed_steps(chain, checkpointing), [arithmetic]))
        per_step = BESIDE * trial.seconds_per_step
        epochs = budgets.train_seconds / (per_step * _steps(self.config, self.dataset))
        if epochs < FEWEST_EPOCHS:
            needed = FEWEST_EPOCHS * per_step * _steps(self.config, self.dataset)
            return self._misses("train", f"{seconds_text(needed)} for {FEWEST_EPOCHS} epochs", needed)
        return CandidateCosts(
            self.family,
            self.depth,
            self.config.network,
            counted.parameters,
            counted.macs,
            latency,
            per_step,
            epochs,
            checkpointing,
        )

    def _latency(self, chain: Chain) -> Timing:
        image = torch.zeros(1, self.dataset.channels, self.dataset.height, self.dataset.width)
        image = image.to(self.device).contiguous(memory_format=torch.channels_last)
        folded = prepared(chain, image, precision="fp32", device=self.device).chain
        return forward_times([folded], image, threads=THREADS, seconds=TIMED_SECONDS)[0]

    def _checkpointing(self, budgets: Budgets, arithmetic: Arithmetic) -> tuple[bool | None, int | None]:
        """Return whether the budget needs activation checkpointing, or None and the least that training takes."""
        if budgets.memory_bytes is None:
            return False, None
        batch, _, height, width = batch_shape(self.config.resolved_recipe(), self.dataset)
        setting = Setting(max(height, width), batch, arithmetic.precision, arithmetic.memory_format, str(self.device))
        peaks = {}
        for checkpointing in (False, True):
            peaks[checkpointing] = peak_of_training(self.spec, setting, checkpointing=checkpointing)
            if peaks[checkpointing] is None:
                raise UserError("--memory-budget is not allowed here: this system does not say how much memory is used")
            if peaks[checkpointing] <= budgets.memory_bytes:
                return checkpointing, peaks[checkpointing]
        return None, min(peaks.values())

    def _timed_steps(self, chain: Chain, checkpointing: bool = False) -> TrainingSteps:
        recipe = self.config.resolved_recipe()
        return TrainingSteps(chain, batch_shape(recipe, self.dataset), recipe, self.device, checkpointing)

    def _misses(self, budget: str, reason: str, needed: float | None) -> Dropped:
        return Dropped(self.family, self.depth, self.config.network, budget, reason, needed)


def _steps(config: TrainConfig, dataset: Dataset) -> int:
    return steps_per_epoch(len(dataset.split("train")), config.resolved_recipe().batch_size)


def _line(found: CandidateCosts | Dropped) -> str:
    if isinstance(found, Dropped):
        return f"  {found.network}: left out, {found.budget} budget: {found.reason}"
    memory = ", activations computed twice" if found.checkpointing else ""
    return (
        f"  {found.network}: {found.latency.median_ms:.2f} ms, {found.parameters:,} parameters,"
        f" up to {found.epochs:,.{0 if found.epochs >= 10 else 1}f} epochs{memory}"
    )


def _impossible(dropped: Sequence[Dropped], budgets: Budgets) -> UserError:
    """Return the error that names the smallest possible value of the budget that the cheapest network misses."""
    least = min((one for one in dropped if one.needed is not None), key=lambda one: (one.depth, one.needed))
    given, needed = _told(least.budget, getattr(budgets, _ATTRIBUTES[least.budget])), _told(least.budget, least.needed)
    return UserError(
        f"--{least.budget}-budget {given} is not allowed: {least.network}, the smallest network, needs {needed} here"
    )


_ATTRIBUTES = {
    "latency": "latency_seconds",
    "parameters": "parameters",
    "memory": "memory_bytes",
    "train": "train_seconds",
}


def _told(budget: str, value: float | None) -> str:
    assert value is not None, "the budget was missed, and by what was measured"
    if budget == "latency":
        return f"{1000 * value:.3g}ms"
    if budget == "train":
        return f"{value:.3g}s"
    return f"{value / 1e6:.3g}MB" if budget == "memory" else f"{value:,.0f}"
