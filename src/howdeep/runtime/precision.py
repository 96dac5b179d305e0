"""Which precision and memory format, and in how many threads: what a device has, and the measured choice.

A choice is measured on this device, this network and this batch: a few steps of every candidate are timed, and one
counts only if its logits are those of fp32 but for rounding. What a step is, a :class:`Workload` says.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from howdeep.chain import Chain
from howdeep.runtime.device import laid_out, peak_bytes, reset_peak
from howdeep.runtime.timing import ROUNDS, SLOWER, race_of_threads, seconds_of, threads_of
from howdeep.util.errors import UserError, out_of_memory
from howdeep.util.text import Report

ENOUGH_SECONDS = 10.0
"""No further format is tried once the trials took this long and found a correct candidate. Every precision is tried:
of a network of a thousand layers the first can take all of that time, and the second be the fast one."""
HOPELESS = 3.0
"""Threads whose forward pass takes this much longer than with the best number are tried no further."""
TOLERANCE = 0.1
"""Largest ‖logits − logits in fp32‖ / ‖logits in fp32‖ of a precision that counts as correct; bfloat16 rounds to
three significant digits, which many layers add up to some percent."""


@dataclass(frozen=True)
class Arithmetic:
    """How feature maps are computed and laid out."""

    precision: str
    """``fp32`` or ``bf16``: convolutions and products in bfloat16, weights and updates in float32."""
    memory_format: str
    """``contiguous`` or ``channels_last``."""

    @property
    def channels_last(self) -> bool:
        """Whether channels are the innermost dimension."""
        return self.memory_format == "channels_last"

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which the network runs."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def laid_out(self, images: Tensor) -> Tensor:
        """Return images in this memory format."""
        return laid_out(images, channels_last=self.channels_last)


FP32 = Arithmetic("fp32", "contiguous")
"""What every other arithmetic is compared with."""


def place(chain: Chain, arithmetic: Arithmetic, device: torch.device) -> Chain:
    """Move a chain, in place, to a device and a memory format."""
    chain.to(device)
    if arithmetic.channels_last:
        chain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return chain


def has_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 itself: in software a step can take a minute."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(found for name, found in torch.cpu.get_capabilities().items() if "bf16" in name)
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def require_precision(precision: str, device: torch.device) -> None:
    """Refuse numbers that a device does not have; a processor computes bf16 in software where it must.

    Raises:
        UserError: It has none of 16 bits (bf16), or of 64 (fp64).
    """
    missing = precision == "fp64" and device.type == "mps"
    if precision == "bf16" and device.type != "cpu":
        missing = not has_bf16(device)
    if missing:
        raise UserError(f"precision {precision} is not allowed on {device}: it has no such numbers; use fp32")


@contextmanager
def true_fp32() -> Iterator[None]:
    """Let float32 be float32 meanwhile: no TF32, which keeps ten bits and is cuDNN's default for convolutions."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:  # TF32 was allowed by the newer of torch's two interfaces, which the older one refuses to read
        products = "high"
    convolutions.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        convolutions.fp32_precision = before
        torch.set_float32_matmul_precision(products)


@contextmanager
def readable_tf32() -> Iterator[None]:
    """Let torch.export read the switch of TF32 meanwhile, as it cannot in :func:`true_fp32`; it computes nothing."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = torch.backends.cudnn.rnn.fp32_precision  # type: ignore[attr-defined]
    try:
        yield
    finally:
        convolutions.fp32_precision = before


@dataclass(frozen=True)
class Trial:
    """One candidate and what it cost."""

    precision: str
    """``fp32`` or ``bf16``."""
    memory_format: str
    """``contiguous`` or ``channels_last``."""
    seconds_per_step: float
    """Median of the timed steps; each candidate has done one before, unmeasured."""
    steps: int
    """Steps that were timed."""
    peak_bytes: int | None
    """Peak memory meanwhile; None where this system cannot say."""
    difference: float
    """‖logits − logits in fp32‖ / ‖logits in fp32‖."""
    threads: int
    """Threads of the host."""

    @property
    def correct(self) -> bool:
        """Whether the logits are those of fp32 but for rounding."""
        return self.difference <= TOLERANCE

    @property
    def arithmetic(self) -> Arithmetic:
        """Precision and memory format that were tried."""
        return Arithmetic(self.precision, self.memory_format)

    @property
    def choice(self) -> dict:
        """What a run records of it, if it is selected."""
        return {"precision": self.precision, "memory_format": self.memory_format, "threads": self.threads}


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the fastest correct trial; fp32 is correct by definition, and a forced precision is taken as it is."""
    return min([trial for trial in trials if trial.correct] or trials, key=lambda trial: trial.seconds_per_step)


def arithmetics(precision: str, memory_format: str, device: torch.device) -> list[Arithmetic]:
    """Return the candidates, surest first; ``auto`` allows all, a forced choice leaves only itself.

    Raises:
        UserError: The device has no such numbers.
    """
    require_precision(precision, device)
    both = ["fp32", "bf16"] if has_bf16(device) else ["fp32"]
    precisions = both if precision == "auto" else [precision]
    formats = ["channels_last", "contiguous"] if memory_format == "auto" else [memory_format]
    return [Arithmetic(precision, memory_format) for memory_format in formats for precision in precisions]


class Workload(Protocol):
    """What is timed: steps of one network on one batch."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    def logits(self, arithmetic: Arithmetic) -> Tensor:
        """Return the logits of a few images, in float32, by which a candidate is correct or not."""
        ...

    @property
    def share(self) -> float:
        """How much of a step is timed: where a step is many equal parts, one of them says what it takes."""
        ...

    def step(self, arithmetic: Arithmetic) -> Callable[[], object]:
        """Return what does one step, or the share of it that is timed."""
        ...

    def short_step(self) -> Callable[[], object]:
        """Return what is like a step and takes less, by which hopeless numbers of threads are found."""
        ...


def measure(
    workload: Workload,
    candidates: Sequence[Arithmetic],
    *,
    threads: Sequence[int],
    all_of_them: bool = False,
    report: Report = lambda line: None,
) -> list[Trial]:
    """Time a few steps of every candidate.

    All precisions and formats are tried with the threads in which a short step is fastest; the other numbers of
    threads then only with the best of them, by turns with it. Torch's random state is left as it was.

    Args:
        workload: What is timed.
        candidates: What to try.
        threads: Numbers of threads to choose from (see :func:`howdeep.runtime.timing.thread_counts`).
        all_of_them: Try every candidate, however long that takes.
        report: Receives one line for a candidate that there is too little memory for.

    Raises:
        MemoryError: There is too little for every candidate.
    """
    device = workload.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        count, *others = _promising(workload, threads)
        with threads_of(count):
            trials = _trials(workload, candidates, math.inf if all_of_them else ENOUGH_SECONDS, report)
        if not others:
            return trials
        best = best_of(trials)
        times = race_of_threads(workload.step(best.arithmetic), [count, *others], device)
        again = [
            replace(
                best,
                threads=number,
                seconds_per_step=statistics.median(seconds) / workload.share,
                steps=len(seconds),
            )
            for number, seconds in times.items()
        ]
        return [trial for trial in trials if trial is not best] + again


def _promising(workload: Workload, threads: Sequence[int]) -> list[int]:
    """Return the numbers of threads that are worth trying, fastest first."""
    if len(threads) == 1:
        return list(threads)
    times = race_of_threads(workload.short_step(), threads, workload.device)
    seconds = {count: statistics.median(times[count]) for count in threads}
    best = min(seconds.values())
    return sorted((count for count in threads if seconds[count] <= HOPELESS * best), key=seconds.__getitem__)


def _trials(workload: Workload, candidates: Sequence[Arithmetic], enough: float, report: Report) -> list[Trial]:
    """Return the trials of all candidates that there is time and memory for."""
    expected, started = workload.logits(FP32), time.perf_counter()
    trials: list[Trial] = []
    untried, shortage = {one.precision for one in candidates}, ""
    for arithmetic in candidates:
        late = time.perf_counter() - started > enough
        if late and not untried and any(trial.correct for trial in trials):
            break
        untried.discard(arithmetic.precision)
        best = min((trial.seconds_per_step for trial in trials), default=float("inf"))
        try:
            trials.append(_trial(workload, arithmetic, expected, best))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            shortage = str(error)  # the error itself would hold on to the memory
            report(f"  {arithmetic.precision} {arithmetic.memory_format:13} left out: not enough memory")
    if not trials:
        raise MemoryError(shortage)
    return trials


def _trial(workload: Workload, arithmetic: Arithmetic, expected: Tensor, best: float) -> Trial:
    difference = float((workload.logits(arithmetic) - expected).norm() / expected.norm().clamp_min(1e-12))
    reset_peak(workload.device)
    seconds = _time(workload.step(arithmetic), workload.device, best * workload.share)
    return Trial(
        arithmetic.precision,
        arithmetic.memory_format,
        statistics.median(seconds) / workload.share,
        len(seconds),
        peak_bytes(workload.device),
        difference,
        torch.get_num_threads(),
    )


def _time(step: Callable[[], object], device: torch.device, best: float) -> list[float]:
    """Return the seconds of a candidate's steps after one unmeasured, which loads what it needs."""
    seconds_of(step, device)
    seconds: list[float] = []
    while len(seconds) < ROUNDS and not (seconds and seconds[0] > SLOWER * best):
        seconds.append(seconds_of(step, device))
    return seconds
