"""Choose precision and memory format by timing a few steps on this device, this network and this batch."""

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.device import peak_bytes, reset_peak, synchronise
from howdeep.seeds import generator
from howdeep.training.recipes import Recipe
from howdeep.training.step import Arithmetic, engine_of, make_optimizer, place, train_step

ENOUGH_SECONDS = 10.0
"""No further candidate is tried once the trials took this long and found a correct one."""
TIMED_STEPS = 3
SLOWER = 1.5
"""A candidate whose first step is this much slower than the best one's steps is not timed further."""
TOLERANCE = 0.1
"""Largest ‖scores − scores in fp32‖ / ‖scores in fp32‖ of a precision that counts as correct; bfloat16 rounds to
three significant digits, which many layers add up to some percent."""


@dataclass(frozen=True)
class Trial:
    """One candidate and what it cost."""

    precision: str
    """``fp32`` or ``bf16``."""
    memory_format: str
    """``contiguous`` or ``channels_last``."""
    seconds_per_step: float
    """Median of the timed steps, or the first step where it was clearly slower."""
    steps: int
    """Steps that were timed."""
    peak_bytes: int | None
    """Peak memory meanwhile; None where this system cannot say."""
    difference: float
    """‖scores − scores in fp32‖ / ‖scores in fp32‖."""

    @property
    def correct(self) -> bool:
        """Whether the scores are those of fp32 but for rounding."""
        return self.difference <= TOLERANCE

    @property
    def arithmetic(self) -> Arithmetic:
        """What was tried."""
        return Arithmetic(self.precision, self.memory_format)


def candidates(precision: str, memory_format: str) -> list[Arithmetic]:
    """Return what to try, likeliest first; a forced choice leaves only itself."""
    precisions = ["bf16", "fp32"] if precision == "auto" else [precision]
    formats = ["channels_last", "contiguous"] if memory_format == "auto" else [memory_format]
    return [Arithmetic(chosen, laid_out) for laid_out in formats for chosen in precisions]


def measure(
    chain: Chain, shape: tuple[int, int, int, int], recipe: Recipe, tried: list[Arithmetic], *,
    memory: str, device: torch.device,
) -> list[Trial]:  # fmt: skip
    """Time training steps of every candidate on random images.

    The chain itself and torch's random state are left as they were.

    Args:
        chain: The network, all units open.
        shape: Of a batch: images, channels, height, width.
        recipe: For the optimizer.
        tried: The candidates.
        memory: ``fast`` or ``save``.
        device: Where.
    """
    accelerators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=accelerators):
        return _trials(chain, shape, recipe, tried, memory, device)


def _trials(
    chain: Chain, shape: tuple[int, int, int, int], recipe: Recipe, tried: list[Arithmetic], memory: str,
    device: torch.device,
) -> list[Trial]:  # fmt: skip
    stream = generator(0, "trial")
    images = torch.randn(shape, generator=stream)
    expected = _scores(chain, images, Arithmetic("fp32", "contiguous"), device)
    labels = torch.randint(expected.shape[1], (len(images),), generator=stream)
    trials: list[Trial] = []
    started = time.perf_counter()
    for arithmetic in tried:
        if any(trial.correct for trial in trials) and time.perf_counter() - started > ENOUGH_SECONDS:
            break
        best = min((trial.seconds_per_step for trial in trials), default=float("inf"))
        scores = _scores(chain, images, arithmetic, device)
        difference = float((scores - expected).norm() / expected.norm().clamp_min(1e-12))
        seconds, peak = _time(chain, Batch(images, labels, len(labels)), recipe, arithmetic, memory, device, best)
        trials.append(
            Trial(
                arithmetic.precision,
                arithmetic.memory_format,
                statistics.median(seconds),
                len(seconds),
                peak,
                difference,
            )
        )
    return trials


def best_of(trials: list[Trial]) -> Trial:
    """Return the fastest correct trial; fp32 is correct by definition, and a forced precision is taken as it is."""
    return min([trial for trial in trials if trial.correct] or trials, key=lambda trial: trial.seconds_per_step)


def _scores(chain: Chain, images: Tensor, arithmetic: Arithmetic, device: torch.device) -> Tensor:
    """Return the scores of a copy in training mode, which needs no running statistics, without dropout's draws."""
    trial = place(copy.deepcopy(chain).train(), arithmetic, device)
    for layer in trial.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
    few = _laid_out(images[:32], arithmetic, device)
    with torch.no_grad(), arithmetic.autocast(device):
        return trial(few, [1.0] * len(chain)).float()


def _laid_out(images: Tensor, arithmetic: Arithmetic, device: torch.device) -> Tensor:
    laid_out = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
    return images.to(device).contiguous(memory_format=laid_out)


def _time(
    chain: Chain,
    batch: Batch,
    recipe: Recipe,
    arithmetic: Arithmetic,
    memory: str,
    device: torch.device,
    best: float,
) -> tuple[list[float], int | None]:
    trial = place(copy.deepcopy(chain).train(), arithmetic, device)
    engine, optimizer = engine_of(trial, memory), make_optimizer(trial, recipe, drift=False)
    batch = Batch(_laid_out(batch.images, arithmetic, device), batch.labels.to(device), batch.total)
    reset_peak(device)
    seconds: list[float] = []
    for step in range(1 + TIMED_STEPS):
        started = time.perf_counter()
        gates = [1.0] * len(trial)
        train_step(engine, optimizer, batch, gates, lr=0.0, smoothing=0.0, arithmetic=arithmetic)
        synchronise(device)
        seconds.append(time.perf_counter() - started)
        if step == 0 and seconds[0] > SLOWER * best:
            return seconds, peak_bytes(device)
    return seconds[1:], peak_bytes(device)
