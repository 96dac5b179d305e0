"""What one network costs on this device: measured in rounds, so that other work on the machine disturbs all alike."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from howdeep.costs.peak import Setting, Stepper
from howdeep.dissect.subject import prepared
from howdeep.networks import Spec, build
from howdeep.seeds import generator
from howdeep.stopwatch import Timing, by_turns, forward_times
from howdeep.training.precision import Trial, best_of, candidates, measure
from howdeep.training.recipes import recipe_of
from howdeep.training.step import Arithmetic

SECONDS = 1.0
"""Of each timed thing in one round, where five runs take no longer."""


@dataclass(frozen=True)
class Times:
    """How long one network takes."""

    latency: Timing
    """One image alone, fp32, norms folded."""
    inference: Timing
    """Per image of a batch, fp32, norms folded."""
    training: Timing
    """Per image of a training step, in the arithmetic of the table."""
    seconds: float
    """What measuring took."""
    notes: tuple[str, ...] = ()
    """What a reader should know: that norms were not folded."""


def arithmetic_of(spec: Spec, setting: Setting, precision: str) -> Arithmetic:
    """Return the fastest correct arithmetic of a training step (see ``training.precision``).

    Args:
        spec: The network that it is tried on.
        setting: Batch and device.
        precision: ``fp32``, ``bf16`` or ``auto``.
    """
    shape, device = (setting.batch_size, spec.channels, setting.size, setting.size), torch.device(setting.device)
    trials: list[Trial] = measure(
        build(spec.zero_initialised()), shape, recipe_of("fast"), candidates(precision, "auto", device), memory="fast",
        device=device, threads=[torch.get_num_threads()],
    )  # fmt: skip
    return best_of(trials).arithmetic


def times_of(spec: Spec, setting: Setting, *, threads: int) -> Times:
    """Return how long one network takes in one round.

    Args:
        spec: The network, with initial weights: times do not depend on them.
        setting: Images, batch, arithmetic of training, device.
        threads: Threads of the latency on the host; a batch has all of them.
    """
    started, device = time.perf_counter(), torch.device(setting.device)
    training = _per_image(by_turns([Stepper(spec, setting)], seconds=SECONDS, device=device)[0], setting.batch_size)
    shape = (setting.batch_size, spec.channels, setting.size, setting.size)
    images = torch.randn(shape, generator=generator(0, "cost")).to(device).contiguous(memory_format=torch.channels_last)
    # A fresh network of hundreds of units overflows in evaluation mode, unless its branches start at zero.
    found = prepared(build(spec.zero_initialised()), images[:1], precision="fp32", device=device)
    chain = found.chain
    latency = forward_times([chain], images[:1], threads=threads, seconds=SECONDS)[0]
    batch = forward_times([chain], images, threads=torch.get_num_threads(), seconds=SECONDS)[0]
    seconds = time.perf_counter() - started
    return Times(latency, _per_image(batch, setting.batch_size), training, seconds, found.notes)


def over_rounds(rounds: Sequence[Times]) -> Times:
    """Return the times of the quietest round, each on its own; seconds add up.

    A time is the median of a round's runs. Other work on the machine only ever slows a round down: where it holds one
    of two cores, threads that wait for each other take three times as long, in every run of that round.
    """
    return Times(
        latency=_quietest([times.latency for times in rounds]),
        inference=_quietest([times.inference for times in rounds]),
        training=_quietest([times.training for times in rounds]),
        seconds=sum(times.seconds for times in rounds),
        notes=rounds[0].notes,
    )


def _quietest(timings: Sequence[Timing]) -> Timing:
    return min(timings, key=lambda timing: timing.median_ms)


def _per_image(timing: Timing, images: int) -> Timing:
    first, third = timing.quartiles_ms
    return Timing(timing.median_ms / images, (first / images, third / images), timing.runs)
