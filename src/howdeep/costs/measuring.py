"""What one network costs, measured: peak memory of training steps, and times.

Peaks are measured in a process of their own: a used one keeps what it freed before.

What counts is what training adds to an idle process that has torch loaded and its libraries warm: weights, gradients,
momentum, running statistics, the maps of one step, scratch space. On CUDA it is the peak of torch's allocator.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter

import torch

from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.deploying.latency import latencies, written
from howdeep.networks import Spec, build, spec_from_json, spec_of, spec_to_json
from howdeep.runtime.deployment import Deployment
from howdeep.runtime.device import peak_bytes, reset_peak, synchronise, used_bytes
from howdeep.runtime.precision import Arithmetic, arithmetics, best_of, measure, place
from howdeep.runtime.process import keep_freed_memory
from howdeep.runtime.timing import Timing, by_turns
from howdeep.training.optimizers import make_optimizer
from howdeep.training.precision import TrainingSteps
from howdeep.training.recipes import recipe_of
from howdeep.training.step import engine_of, train_step
from howdeep.util.errors import UserError
from howdeep.util.seeds import generator

STEPS = 3
"""Momentum exists from the first step on, and the second one finds it there."""
SECONDS = 1.0
"""Of each timed thing in one round, where five runs take no longer."""


@dataclass(frozen=True)
class Setting:
    """What a training step is measured with."""

    size: int
    """Side of the images in pixels."""
    batch_size: int
    """Images of a step."""
    precision: str
    """``fp32`` or ``bf16``."""
    memory_format: str
    """``contiguous`` or ``channels_last``."""
    device: str
    """Such as ``cpu`` or ``cuda:0``."""


class Stepper:
    """A network in training, on random images; calling it does one step with all units open.

    Args:
        spec: The network.
        setting: Batch, arithmetic and device.
        checkpointing: Compute activations a second time instead of keeping them.
    """

    def __init__(self, spec: Spec, setting: Setting, checkpointing: bool = False) -> None:
        self.arithmetic = Arithmetic(setting.precision, setting.memory_format)
        self.device = torch.device(setting.device)
        chain: Chain = place(build(spec.zero_initialised()).train(), self.arithmetic, self.device)
        self.engine, self.optimizer = engine_of(chain, checkpointing), make_optimizer(chain, recipe_of("fast"))
        self.gates = [1.0] * len(chain)
        stream, shape = generator(0, "cost"), (setting.batch_size, spec.channels, setting.size, setting.size)
        images = self.arithmetic.laid_out(torch.randn(shape, generator=stream).to(self.device))
        labels = torch.randint(spec.classes, (setting.batch_size,), generator=stream).to(self.device)
        self.batch = Batch(images, labels, setting.batch_size)

    def __call__(self) -> None:
        train_step(
            self.engine, self.optimizer, self.batch, self.gates, lr=0.0, smoothing=0.0, arithmetic=self.arithmetic
        )
        synchronise(self.device)


def peak_of_training(spec: Spec, setting: Setting, *, checkpointing: bool) -> int | None:
    """Return the bytes that training takes at its peak, measured in a new process; None where the system cannot say.

    Args:
        spec: The network.
        setting: Batch, arithmetic and device.
        checkpointing: Compute activations a second time instead of keeping them.

    Raises:
        UserError: It does not fit the memory.
    """
    order = json.dumps({"spec": spec_to_json(spec), "setting": asdict(setting), "checkpointing": checkpointing})
    # In a group of its own: a signal to all of the command's processes must not pass for a lack of memory.
    done = subprocess.run(
        [sys.executable, "-m", "howdeep.costs.measuring"], input=order, capture_output=True, text=True, process_group=0
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        what = f"{spec.name} at batch size {setting.batch_size}"
        raise UserError(f"{what} was not measured: {reason[:200]}; less memory: a smaller --batch-size")
    return json.loads(done.stdout)


def main() -> None:
    """Read an order from standard input and write the bytes to standard output."""
    keep_freed_memory()
    order = json.load(sys.stdin)
    setting = Setting(**order["setting"])
    print(json.dumps(_peak(spec_from_json(order["spec"]), setting, order["checkpointing"])))


def _peak(spec: Spec, setting: Setting, checkpointing: bool) -> int | None:
    device = torch.device(setting.device)
    # Train a tiny network on tiny images first, so that what libraries load once is not counted.
    Stepper(spec_of("cifar_resnet8"), replace(setting, size=8, batch_size=2))()
    before = used_bytes(device)
    step = Stepper(spec, setting, checkpointing)
    reset_peak(device)
    for _ in range(STEPS):
        step()
    peak = peak_bytes(device)
    return None if peak is None or before is None else peak - before


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
    """Return the fastest correct arithmetic of a training step (see ``runtime.precision``).

    Args:
        spec: The network that it is tried on.
        setting: Batch and device.
        precision: ``fp32``, ``bf16`` or ``auto``.
    """
    shape, device = (setting.batch_size, spec.channels, setting.size, setting.size), torch.device(setting.device)
    steps = TrainingSteps(build(spec.zero_initialised()), shape, recipe_of("fast"), device)
    trials = measure(steps, arithmetics(precision, "auto", device), threads=[torch.get_num_threads()])
    return best_of(trials).arithmetic


def times_of(spec: Spec, setting: Setting, where: Deployment) -> Times:
    """Return how long one network takes in one round.

    Args:
        spec: The network, with initial weights: times do not depend on them.
        setting: Images, batch, arithmetic of training, device.
        where: Where the latency is measured; a batch has all threads there.
    """
    started, device = time.perf_counter(), torch.device(setting.device)
    training = by_turns([Stepper(spec, setting)], seconds=SECONDS, device=device)[0].per(setting.batch_size)
    image = torch.randn((1, spec.channels, setting.size, setting.size), generator=generator(0, "cost")).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    # A fresh network of hundreds of units overflows in evaluation mode, unless its branches start at zero.
    ready = prepared(build(spec.zero_initialised()), image, precision="fp32", device=device)
    network = [written(ready.chain, image, where.runtime)]
    latency = latencies(network, image, where, seconds=SECONDS)[0]
    every = replace(where, threads=torch.get_num_threads(), batch=setting.batch_size)
    batch = latencies(network, image, every, seconds=SECONDS)[0]
    seconds = time.perf_counter() - started
    return Times(latency, batch, training, seconds, ready.notes)


def over_rounds(rounds: Sequence[Times]) -> Times:
    """Return the times of the quietest round, each on its own; seconds add up.

    A time is the median of a round's runs. Other work on the machine only ever slows a round down: where it holds one
    of two cores, threads that wait for each other take three times as long, in every run of that round.
    """
    median = attrgetter("median_ms")
    return Times(
        latency=min((times.latency for times in rounds), key=median),
        inference=min((times.inference for times in rounds), key=median),
        training=min((times.training for times in rounds), key=median),
        seconds=sum(times.seconds for times in rounds),
        notes=rounds[0].notes,
    )


if __name__ == "__main__":
    main()
