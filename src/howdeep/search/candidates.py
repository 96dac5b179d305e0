"""What networks of different depth cost here, and which of them meet the budgets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.costs.measuring import Setting, peak_of_training
from howdeep.data import Dataset, steps_per_epoch
from howdeep.deploying.latency import latencies
from howdeep.networks import Spec, build, spec_of
from howdeep.networks.counting import describe_chain
from howdeep.runtime.deployment import Deployment
from howdeep.runtime.precision import Arithmetic, best_of
from howdeep.runtime.timing import Timing
from howdeep.search.families import LARGE_SIDE, network_name
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
LIMITS: dict[str, tuple[str, Callable[[float], str]]] = {
    "latency": ("latency_seconds", lambda seconds: f"{1000 * seconds:.3g}ms"),
    "parameters": ("parameters", lambda count: f"{count:,.0f}"),
    "memory": ("memory_bytes", lambda count: f"{count / 1e6:.3g}MB"),
    "train": ("train_seconds", lambda seconds: f"{seconds:.3g}s"),
}
"""Name of a budget in ``--…-budget`` → its name in :class:`Budgets`, and how a value is told."""


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
    """One image, norms folded, fp32."""
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
    """Which networks take part."""

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
    where: Deployment,
    report: Callable[[str], None],
) -> Candidates:
    """Measure networks, shallow first, and return those that meet the budgets.

    In a family costs rise with depth, so that nothing deeper is measured once a budget is missed.

    Args:
        config: Options of training; the network is each one in turn.
        depths: Family → depths, shallow first.
        budgets: The limits.
        dataset: For the shape and number of images.
        device: Where they are trained.
        where: Where their latency is measured.
        report: Receives one line per network.

    Raises:
        UserError: No network meets them; the smallest possible budget is named.
    """
    large = min(dataset.height, dataset.width) > LARGE_SIDE
    per_epoch = steps_per_epoch(len(dataset.split("train")), config.resolved_recipe().batch_size)

    def probe(family: str, depth: int) -> _Probe:
        named = replace(config, network=network_name(family, depth, large=large))
        return _Probe(named, family, depth, dataset, device, where, per_epoch)

    ladders = [[probe(family, depth) for depth in ladder] for family, ladder in depths.items()]
    first = ladders[0][0]
    arithmetic = best_of(trials_of(first.config, first.timed_steps(build(first.spec)))).arithmetic
    measured: list[CandidateCosts] = []
    dropped: list[Dropped] = []
    for ladder in ladders:
        missed: Dropped | None = None
        for one in ladder:
            if missed is not None:
                beyond = f"deeper than {missed.network}, which misses it"
                dropped.append(Dropped(one.family, one.depth, one.config.network, missed.budget, beyond, None))
                continue
            costs = one.against(budgets, arithmetic)
            if isinstance(costs, Dropped):
                missed = costs
                dropped.append(costs)
                report(f"  {costs.network}: left out, {costs.budget} budget: {costs.reason}")
                continue
            measured.append(costs)
            memory = ", activations computed twice" if costs.checkpointing else ""
            report(
                f"  {costs.network}: {costs.latency.median_ms:.2f} ms, {costs.parameters:,} parameters,"
                f" up to {costs.epochs:,.{0 if costs.epochs >= 10 else 1}f} epochs{memory}"
            )
    networks, half_trained = _affordable(measured, budgets, per_epoch)
    dropped += half_trained
    if not networks:
        least = min((one for one in dropped if one.needed is not None), key=lambda one: (one.depth, one.needed))
        attribute, told = LIMITS[least.budget]
        smaller = f"; smaller images (--size {LARGE_SIDE}) take less" if large else ""
        raise UserError(
            f"--{least.budget}-budget {told(getattr(budgets, attribute))} is not allowed:"
            f" {least.network}, the smallest network, needs {told(least.needed or 0.0)} here{smaller}"
        )
    return Candidates(tuple(networks), tuple(dropped), arithmetic)


def _affordable(
    measured: Sequence[CandidateCosts], budgets: Budgets, per_epoch: int
) -> tuple[list[CandidateCosts], list[Dropped]]:
    """Return who would be trained enough, with epochs, and who would end half-trained.

    The slowest goes first: the fewer remain, the more time each of them has.
    """
    kept, dropped = sorted(measured, key=lambda one: one.seconds_per_step), []
    while kept:
        share = final_share(len(kept)) * budgets.train_seconds
        kept = [replace(one, epochs=share / (one.seconds_per_step * per_epoch)) for one in kept]
        if kept[-1].epochs >= FEWEST_EPOCHS:
            break
        slowest = kept.pop()
        needed = FEWEST_EPOCHS * slowest.seconds_per_step * per_epoch
        reason = f"{seconds_text(needed)} for {FEWEST_EPOCHS} epochs, more than its share"
        dropped.append(Dropped(slowest.family, slowest.depth, slowest.network, "train", reason, needed))
    order = [one.network for one in measured]
    return sorted(kept, key=lambda one: order.index(one.network)), dropped


@dataclass(frozen=True)
class _Probe:
    """One network, to be measured as far as the budgets ask for it."""

    config: TrainConfig
    family: str
    depth: int
    dataset: Dataset
    device: torch.device
    where: Deployment
    per_epoch: int

    @property
    def spec(self) -> Spec:
        spec = spec_of(self.config.network, classes=len(self.dataset.classes), channels=self.dataset.channels)
        return spec.zero_initialised()

    def against(self, budgets: Budgets, arithmetic: Arithmetic) -> CandidateCosts | Dropped:
        """Return the network with its costs, or the first budget that it misses, cheapest measurement first."""

        def misses(budget: str, reason: str, needed: float | None) -> Dropped:
            return Dropped(self.family, self.depth, self.config.network, budget, reason, needed)

        chain, image = build(self.spec), (self.dataset.channels, self.dataset.height, self.dataset.width)
        counted = describe_chain(chain, image, name=self.config.network, family=self.family)
        if budgets.parameters is not None and counted.parameters > budgets.parameters:
            return misses("parameters", f"{counted.parameters:,} parameters", counted.parameters)
        one = torch.zeros(1, *image).to(self.device).contiguous(memory_format=torch.channels_last)
        folded = prepared(chain, one, precision="fp32", device=self.device).chain
        latency = latencies([folded], one, self.where, seconds=TIMED_SECONDS)[0]
        if budgets.latency_seconds is not None and latency.median_ms > 1000 * budgets.latency_seconds:
            return misses("latency", f"{latency.median_ms:.2f} ms", latency.median_ms / 1000)
        checkpointing, least = self._checkpointing(budgets, arithmetic)
        if checkpointing is None:
            return misses("memory", f"{bytes_text(least)} at least", least)
        trial = best_of(trials_of(self.config, self.timed_steps(chain, checkpointing), [arithmetic]))
        per_step = BESIDE * trial.seconds_per_step
        epochs = budgets.train_seconds / (per_step * self.per_epoch)
        if epochs < FEWEST_EPOCHS:
            needed = FEWEST_EPOCHS * per_step * self.per_epoch
            return misses("train", f"{seconds_text(needed)} for {FEWEST_EPOCHS} epochs", needed)
        return CandidateCosts(
            family=self.family,
            depth=self.depth,
            network=self.config.network,
            parameters=counted.parameters,
            macs=counted.macs,
            latency=latency,
            seconds_per_step=per_step,
            epochs=epochs,
            checkpointing=checkpointing,
        )

    def _checkpointing(self, budgets: Budgets, arithmetic: Arithmetic) -> tuple[bool | None, int | None]:
        """Return whether the budget needs activation checkpointing, or None and the least that training takes."""
        if budgets.memory_bytes is None:
            return False, None
        batch, _, height, width = batch_shape(self.config.resolved_recipe(), self.dataset)
        setting = Setting(max(height, width), batch, arithmetic.precision, arithmetic.memory_format, str(self.device))
        peaks = []
        for checkpointing in (False, True):
            peak = peak_of_training(self.spec, setting, checkpointing=checkpointing)
            if peak is None:
                raise UserError("--memory-budget is not allowed here: this system does not say how much memory is used")
            if peak <= budgets.memory_bytes:
                return checkpointing, peak
            peaks.append(peak)
        return None, min(peaks)

    def timed_steps(self, chain: Chain, checkpointing: bool = False) -> TrainingSteps:
        """Return its training steps, to be timed."""
        recipe = self.config.resolved_recipe()
        return TrainingSteps(chain, batch_shape(recipe, self.dataset), recipe, self.device, checkpointing)
