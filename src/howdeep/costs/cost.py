"""What networks cost on this device, as a table over depths: which are measured, which predicted, and the record."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from howdeep.costs.caches import FITS, FLOAT_BYTES, Caches, measured_caches
from howdeep.costs.counting import Counts, counts_of, described
from howdeep.costs.measuring import Setting, Times, arithmetic_of, over_rounds, peak_of_training, times_of
from howdeep.costs.options import CostOptions
from howdeep.costs.predicting import CostModel, Costs, Plan, difference_of, errors_of, model_of, plans_of
from howdeep.costs.scaling import Paper
from howdeep.networks import Spec
from howdeep.networks.counting import LARGE, SMALL
from howdeep.runs.resume import Journal, options_key, work_key
from howdeep.runtime import device as devices
from howdeep.runtime.deployment import Deployment
from howdeep.util.records import Shown, from_json, to_json
from howdeep.util.text import Report

FREE_SHARE = 0.8
"""Share of the free memory that a network may be predicted to need and still be measured."""


@dataclass(frozen=True)
class DepthCost:
    """One network of a ladder."""

    network: str
    """Name."""
    depth: int
    """Layers."""
    counts: Counts
    """Counted, exact."""
    fitted: bool
    """Whether predictions are fitted on it; what is measured and not fitted on checks them."""
    times: Times | None
    """Measured, with spread; None where it was not."""
    measured: Costs | None
    """The numbers of those times, and peaks."""
    predicted: Costs | None
    """None where nothing was fitted."""
    error_percent: Costs | None
    """100 · (predicted / measured − 1)."""
    expected_training_ms: float | None
    """Training time per image under the survival rule, in proportion to its multiply-adds; measured, else predicted."""


@dataclass(frozen=True)
class Ladder(Shown):
    """What the depths of one family cost; or one network alone."""

    title: str
    """What the user called it."""
    size: int
    """Side of the images in pixels."""
    batch_size: int
    """Images of a training step and of a batch."""
    threads: int
    """Threads of the latency on the host."""
    precision: str
    """Of training, ``fp32`` or ``bf16``; latency and inference are fp32."""
    memory_format: str
    """Of training."""
    survival: str
    """The rule of the expected costs."""
    rounds: int
    """Rounds of measuring: a time is the median of the quietest one's runs."""
    depths: tuple[DepthCost, ...]
    """Shallow first."""
    fitted_on: tuple[str, ...]
    """Networks, asked for or not; empty where nothing was fitted."""
    fit_error_percent: Costs | None
    """Largest relative error of the fit on those."""
    one_more: Counts
    """What one more unit in each stage of the deepest network adds."""
    one_more_costs: Costs | None
    """Predicted likewise; of saved memory there is none, which moves in steps."""

    @property
    def aside(self) -> str:
        """Where latencies were measured, in brackets; empty for one image, one thread, PyTorch."""
        return next((one.times.latency.aside for one in self.depths if one.times), "")


@dataclass(frozen=True, kw_only=True)
class Cost(Shown):
    """What networks cost: here, and on many devices."""

    ladders: tuple[Ladder, ...] = ()
    """Measured and predicted, one per family and kind of unit."""
    scaled: tuple[Paper, ...] = ()
    """Training on many devices, on paper."""

    def to_json(self) -> dict:
        """Return the record as plain data, with the formulas in words."""
        return {"ladders": list(map(to_json, self.ladders)), "scaled": [paper.to_json() for paper in self.scaled]}


def cost(
    network: str,
    depths: Sequence[int] | None = None,
    measured: Sequence[int] | None = None,
    options: CostOptions | None = None,
    *,
    place: str | Path | None = None,
    report: Report = lambda line: None,
) -> Cost:
    """Return what networks cost on this device; one ladder for each kind of unit that the depths have.

    Args:
        network: A name of the catalogue; with depths also a family, such as ``cifar_resnet``.
        depths: Layers; None measures the network itself.
        measured: Depths that predictions are fitted on; None takes the shallowest or, where stages have unequally
            many units, small networks of the same kind.
        options: How costs are measured.
        place: File beside which finished measurements are kept until the record is written.
        report: Receives lines for the user.

    Raises:
        UserError: There is no such network or depth, it does not fit the images, the rule or the memory.
        Stopped: An interrupt arrived.
    """
    options, place = options or CostOptions(), None if place is None else Path(place)
    plans = plans_of(network, depths, measured, channels=options.channels)
    for plan in plans:
        for spec in plan.asked:
            options.rule.check(described(spec, options.size).units)
    return Cost(ladders=tuple(_ladder(plan, options, place, report) for plan in plans))


def forget_kept(place: Path | None) -> None:
    """Remove the measurements that were kept beside a file: the record is written."""
    for path in place.parent.glob(f"{place.name}.*.part[0-9]*") if place else ():
        path.unlink()


@dataclass(frozen=True)
class _Measurement:
    """Measurements of one network."""

    times: Times
    peaks: tuple[int | None, int | None]

    @property
    def costs(self) -> Costs:
        times = self.times
        return Costs(times.latency.median_ms, times.inference.median_ms, times.training.median_ms, *self.peaks)


def _ladder(plan: Plan, options: CostOptions, place: Path | None, report: Report) -> Ladder:
    setting, journal = _opened(plan, options, place)
    report(f"{plan.title}: training in {setting.precision}, {setting.memory_format}")
    measurements, model = _measured(plan, setting, options, journal)
    for spec, one in measurements.items():
        for note in one.times.notes:
            report(f"{spec.name}: {note}")
    deepest = plan.asked[-1]
    deeper = replace(deepest, units=tuple(count + 1 for count in deepest.units))
    before, after = (described(spec, options.size) for spec in (deepest, deeper))
    more = model and difference_of(model.costs(after), model.costs(before))
    return Ladder(
        title=plan.title,
        size=setting.size,
        batch_size=options.batch_size,
        threads=options.threads,
        precision=setting.precision,
        memory_format=setting.memory_format,
        survival=str(options.rule),
        rounds=options.rounds,
        depths=tuple(
            _at_depth(spec, measurements.get(spec), model, options, fitted=model is not None and spec in plan.fitted)
            for spec in plan.asked
        ),
        fitted_on=tuple(spec.name for spec in plan.fitted) if model else (),
        fit_error_percent=model and model.error_percent,
        one_more=counts_of(deeper, after, options.rule).minus(counts_of(deepest, before, options.rule)),
        one_more_costs=more and replace(more, memory_checkpointing_bytes=None),
    )


def _at_depth(
    spec: Spec, measurement: _Measurement | None, model: CostModel | None, options: CostOptions, *, fitted: bool
) -> DepthCost:
    network = described(spec, options.size)
    counts = counts_of(spec, network, options.rule)
    predicted, measured = model and model.costs(network), measurement and measurement.costs
    costs = measured or predicted
    known = costs and costs.training_ms
    return DepthCost(
        network=spec.name,
        depth=spec.depth,
        counts=counts,
        fitted=fitted,
        times=measurement and measurement.times,
        measured=measured,
        predicted=predicted,
        error_percent=errors_of(predicted, measured) if predicted and measured else None,
        expected_training_ms=None if known is None else known * counts.expected_training_macs / counts.training_macs,
    )


def _opened(plan: Plan, options: CostOptions, place: Path | None) -> tuple[Setting, Journal]:
    """Return the arithmetic, as it was chosen before where measurements were kept, and the journal that keeps them."""
    first = plan.fitted[0]
    size = (LARGE if first.large else SMALL) if options.size is None else options.size
    device = devices.pick(options.device)
    setting = Setting(size, options.batch_size, "fp32", "channels_last", str(device))
    networks = {"networks": [spec.name for spec in (*plan.fitted, *plan.asked)]}
    key = work_key({**options_key(options, CostOptions), **networks}, device)
    journal = Journal.open(place and place.with_name(f"{place.name}.{first.name.replace(' ', '_')}"), key)
    chosen = journal.result("arithmetic", lambda: to_json(arithmetic_of(first, setting, options.precision)))
    return replace(setting, precision=chosen["precision"], memory_format=chosen["memory_format"]), journal


def _measured(
    plan: Plan, setting: Setting, options: CostOptions, journal: Journal
) -> tuple[dict[Spec, _Measurement], CostModel | None]:
    """Return what was measured, and what predicts the rest; None where nothing is to be predicted.

    Networks that predictions are fitted on and those that check them are timed in the same rounds, as machines drift.
    """
    fitted = plan.fitted if plan.predicts else plan.asked
    peaks, caches = _peaks(fitted, setting, journal), _caches(plan, options, setting, journal)

    def fitted_model(measurements: Sequence[_Measurement]) -> CostModel:
        networks = [described(spec, options.size) for spec in fitted]
        seconds = [one.times.seconds for one in measurements]
        return model_of(networks, [one.costs for one in measurements], seconds, setting.precision, caches)

    checks: list[Spec] = []
    if plan.predicts:
        once = _rounds(fitted, range(1), setting, options, journal)
        rough = fitted_model([_Measurement(times, peaks[spec]) for spec, times in once.items()])
        checks = _affordable(plan, rough, options, torch.device(setting.device))
        peaks |= _peaks(checks, setting, journal)  # before times: they tell whether there is memory enough
    start = 1 if checks else 0  # the first one is of other minutes than those of the checks
    times = _rounds((*fitted, *checks), range(start, start + options.rounds), setting, options, journal)
    measurements = {spec: _Measurement(found, peaks[spec]) for spec, found in times.items()}
    model = fitted_model([measurements[spec] for spec in fitted]) if plan.predicts else None
    return measurements, model


def _peaks(specs: Sequence[Spec], setting: Setting, journal: Journal) -> dict[Spec, tuple[int | None, int | None]]:
    """Return the peaks of training, activations kept and computed twice."""

    def compute(block: int) -> dict:
        number, checkpointing = divmod(block, 2)
        return {"peak": peak_of_training(specs[number], setting, checkpointing=bool(checkpointing))}

    names = [f"{spec.name} peak {checkpointing}" for spec in specs for checkpointing in (0, 1)]
    # A peak that does not show above the idle process is as good as none.
    found = [one["peak"] or None for one in journal.blocks("peaks", len(names), compute, names)]
    return dict(zip(specs, zip(found[::2], found[1::2], strict=True), strict=True))


def _rounds(
    specs: Sequence[Spec], numbers: range, setting: Setting, options: CostOptions, journal: Journal
) -> dict[Spec, Times]:
    """Return the times of networks over rounds of these numbers, each in every one; none is measured twice."""

    def compute(block: int) -> dict:
        return to_json(times_of(specs[block % len(specs)], setting, options.where))

    # By name: which networks are checked depends on the memory that is free, which another start may have more of.
    names = [f"{spec.name} round {number}" for number in numbers for spec in specs]
    found = [from_json(Times, one) for one in journal.blocks("rounds", len(names), compute, names)]
    return {spec: over_rounds(found[place :: len(specs)]) for place, spec in enumerate(specs)}


def _caches(plan: Plan, options: CostOptions, setting: Setting, journal: Journal) -> Caches | None:
    """Return what the caches hold, where a network may have more weights than that; only torch is measured."""
    largest = max(described(spec, options.size).parameters for spec in plan.asked)
    elsewhere = setting.device != "cpu" or options.where != Deployment(threads=options.threads)
    if elsewhere or FLOAT_BYTES * largest <= FITS:
        return None
    return from_json(Caches, journal.result("caches", lambda: to_json(measured_caches(options.threads))))


def _affordable(plan: Plan, model: CostModel, options: CostOptions, device: torch.device) -> list[Spec]:
    """Return the networks that time and memory allow to measure as a check, shallow first."""
    chosen, left, free = [], options.seconds, FREE_SHARE * _free_bytes(device)
    for spec in plan.asked:
        if spec in plan.fitted:
            continue
        network = described(spec, options.size)
        left -= options.rounds * model.seconds(network)
        if left < 0 or (model.costs(network).memory_bytes or 0) > free:
            break
        chosen.append(spec)
    return chosen


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    names = os.sysconf_names
    known = "SC_AVPHYS_PAGES" in names and "SC_PAGE_SIZE" in names
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if known else float("inf")
