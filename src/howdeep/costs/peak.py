"""Peak memory of training steps, measured in a process of its own: a used one keeps what it freed before.

What counts is what training adds to an idle process that has torch loaded and its libraries warm: weights, gradients,
momentum, running statistics, the maps of one step, scratch space. On CUDA it is the peak of torch's allocator.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

import torch

from howdeep.allocation import keep_freed_memory
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.device import peak_bytes, reset_peak, synchronise, used_bytes
from howdeep.errors import UserError
from howdeep.networks import Spec, build, spec_from_json, spec_of, spec_to_json
from howdeep.seeds import generator
from howdeep.training.recipes import recipe_of
from howdeep.training.step import Arithmetic, engine_of, make_optimizer, place, train_step

STEPS = 3
"""Momentum exists from the first step on, and the second one finds it there."""


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
        memory: ``fast`` or ``save``.
    """

    def __init__(self, spec: Spec, setting: Setting, memory: str = "fast") -> None:
        self.arithmetic = Arithmetic(setting.precision, setting.memory_format)
        self.device = torch.device(setting.device)
        chain: Chain = place(build(spec.zero_initialised()).train(), self.arithmetic, self.device)
        self.engine, self.optimizer = engine_of(chain, memory), make_optimizer(chain, recipe_of("fast"), drift=True)
        self.gates = [1.0] * len(chain)
        self.batch = _batch(spec, setting, self.arithmetic, self.device)

    def __call__(self) -> None:
        train_step(
            self.engine, self.optimizer, self.batch, self.gates, lr=0.0, smoothing=0.0, arithmetic=self.arithmetic
        )
        synchronise(self.device)


def peak_of_training(spec: Spec, setting: Setting, memory: str) -> int | None:
    """Return the bytes that training takes at its peak, measured in a new process; None where the system cannot say.

    Args:
        spec: The network.
        setting: Batch, arithmetic and device.
        memory: ``fast`` or ``save``.

    Raises:
        UserError: It does not fit the memory.
    """
    order = json.dumps({"spec": spec_to_json(spec), "setting": asdict(setting), "memory": memory})
    # In a group of its own: a signal to all of the command's processes must not pass for a lack of memory.
    done = subprocess.run(
        [sys.executable, "-m", "howdeep.costs.peak"], input=order, capture_output=True, text=True, process_group=0
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
    print(json.dumps(_peak(spec_from_json(order["spec"]), setting, order["memory"])))


def _peak(spec: Spec, setting: Setting, memory: str) -> int | None:
    device = torch.device(setting.device)
    _warm_up(setting)
    before = used_bytes(device)
    step = Stepper(spec, setting, memory)
    reset_peak(device)
    for _ in range(STEPS):
        step()
    peak = peak_bytes(device)
    return None if peak is None or before is None else peak - before


def _warm_up(setting: Setting) -> None:
    """Train a tiny network on tiny images, so that what libraries load once is not counted."""
    few = Setting(8, 2, setting.precision, setting.memory_format, setting.device)
    Stepper(spec_of("cifar_resnet8"), few)()


def _batch(spec: Spec, setting: Setting, arithmetic: Arithmetic, device: torch.device) -> Batch:
    stream, shape = generator(0, "cost"), (setting.batch_size, spec.channels, setting.size, setting.size)
    laid_out = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
    images = torch.randn(shape, generator=stream).to(device).contiguous(memory_format=laid_out)
    labels = torch.randint(spec.classes, (setting.batch_size,), generator=stream).to(device)
    return Batch(images, labels, setting.batch_size)


if __name__ == "__main__":
    main()
