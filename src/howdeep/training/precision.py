"""Choose precision, memory format and threads by timing a few steps on this device, this network and this batch."""

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from howdeep.chain import Chain
from howdeep.data import Batch, Dataset
from howdeep.runtime.device import has_bf16, peak_bytes, require_precision, reset_peak, synchronise
from howdeep.runtime.distributed import Ranks
from howdeep.runtime.timing import FEW, race_of_threads, thread_counts, threads_of
from howdeep.training.config import TrainConfig
from howdeep.training.recipes import Recipe
from howdeep.training.step import Arithmetic, engine_of, make_optimizer, place, train_step
from howdeep.util.errors import out_of_memory
from howdeep.util.seeds import generator
from howdeep.util.text import bytes_text, seconds_text

ENOUGH_SECONDS = 10.0
"""No further candidate is tried once the trials took this long and found a correct one."""
TIMED_STEPS = 3
SLOWER = 1.5
"""A candidate whose first timed step is this much slower than the best one's is not timed further."""
HOPELESS = 3.0
"""Threads whose forward pass takes this much longer than with the best number are tried no further."""
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
    """Median of the timed steps; each candidate has done one before, unmeasured."""
    steps: int
    """Steps that were timed."""
    peak_bytes: int | None
    """Peak memory meanwhile; None where this system cannot say."""
    difference: float
    """‖scores − scores in fp32‖ / ‖scores in fp32‖."""
    threads: int
    """Threads of the host."""

    @property
    def correct(self) -> bool:
        """Whether the scores are those of fp32 but for rounding."""
        return self.difference <= TOLERANCE

    @property
    def arithmetic(self) -> Arithmetic:
        """Precision and memory format that were tried."""
        return Arithmetic(self.precision, self.memory_format)

    @property
    def choice(self) -> dict:
        """What a run records of it, if it is taken."""
        return {"precision": self.precision, "memory_format": self.memory_format, "threads": self.threads}


def candidates(precision: str, memory_format: str, device: torch.device) -> list[Arithmetic]:
    """Return what to try, likeliest first; a forced choice leaves only itself.

    Raises:
        UserError: The device has no such numbers.
    """
    require_precision(precision, device)
    precisions = ["bf16", "fp32"][not has_bf16(device) :] if precision == "auto" else [precision]
    formats = ["channels_last", "contiguous"] if memory_format == "auto" else [memory_format]
    return [Arithmetic(chosen, laid_out) for laid_out in formats for chosen in precisions]


def measure(
    chain: Chain, shape: tuple[int, int, int, int], recipe: Recipe, tried: list[Arithmetic], *,
    device: torch.device, threads: Sequence[int], checkpointing: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Trial]:  # fmt: skip
    """Time training steps of every candidate on random images.

    All precisions and formats are tried with the threads in which a forward pass is fastest; the other numbers of
    threads then only with the best of them, by turns with it. The chain itself and torch's random state are left as
    they were.

    Args:
        chain: The network, all units open.
        shape: Of a batch: images, channels, height, width.
        recipe: For the optimizer.
        tried: The candidates.
        device: Where.
        threads: Numbers of threads to choose from (see :func:`howdeep.runtime.timing.thread_counts`).
        checkpointing: Compute activations a second time instead of keeping them.
        say: Receives one line for a candidate that there is too little memory for.

    Raises:
        MemoryError: There is too little for every candidate.
    """
    accelerators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=accelerators):
        stream = generator(0, "trial")
        images = torch.randn(shape, generator=stream)
        count, *others = _promising(chain, images, threads, device)
        with threads_of(count):
            expected = _scores(chain, images, Arithmetic("fp32", "contiguous"), device)
            batch = Batch(images, torch.randint(expected.shape[1], (len(images),), generator=stream), len(images))
            trials = _trials(chain, batch, expected, recipe, tried, checkpointing, device, say)
        return (
            _with_threads(trials, chain, batch, recipe, [count, *others], checkpointing, device) if others else trials
        )


def _promising(chain: Chain, images: Tensor, threads: Sequence[int], device: torch.device) -> list[int]:
    """Return the numbers of threads that are worth trying, fastest first, by forward passes of a few images."""
    if len(threads) == 1:
        return list(threads)
    trial, few = copy.deepcopy(chain).train().to(device), images[:FEW].to(device)
    with torch.no_grad():
        found = race_of_threads(lambda: trial(few, [1.0] * len(chain)), threads, device)
    seconds = {count: statistics.median(times) for count, times in found.items()}
    best = min(seconds.values())
    return sorted((count for count in threads if seconds[count] <= HOPELESS * best), key=seconds.__getitem__)


def _trials(
    chain: Chain, batch: Batch, expected: Tensor, recipe: Recipe, tried: list[Arithmetic], checkpointing: bool,
    device: torch.device, say: Callable[[str], None],
) -> list[Trial]:  # fmt: skip
    trials: list[Trial] = []
    short = ""
    started = time.perf_counter()
    for arithmetic in tried:
        if any(trial.correct for trial in trials) and time.perf_counter() - started > ENOUGH_SECONDS:
            break
        best = min((trial.seconds_per_step for trial in trials), default=float("inf"))
        try:
            trials.append(_trial(chain, batch, expected, recipe, arithmetic, checkpointing, device, best))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            short = str(error)  # the error itself would hold on to the memory
            say(f"  {arithmetic.precision} {arithmetic.memory_format:13} left out: not enough memory")
    if not trials:
        raise MemoryError(short)
    return trials


def _trial(
    chain: Chain, batch: Batch, expected: Tensor, recipe: Recipe, arithmetic: Arithmetic, checkpointing: bool,
    device: torch.device, best: float,
) -> Trial:  # fmt: skip
    scores = _scores(chain, batch.images, arithmetic, device)
    difference = float((scores - expected).norm() / expected.norm().clamp_min(1e-12))
    reset_peak(device)
    seconds = _time(_stepper(chain, batch, recipe, arithmetic, checkpointing, device), best)
    return Trial(
        arithmetic.precision, arithmetic.memory_format, statistics.median(seconds), len(seconds), peak_bytes(device),
        difference, torch.get_num_threads(),
    )  # fmt: skip


def _with_threads(
    trials: list[Trial], chain: Chain, batch: Batch, recipe: Recipe, threads: list[int], checkpointing: bool,
    device: torch.device,
) -> list[Trial]:  # fmt: skip
    """Return the trials, the best one timed again beside the same with other numbers of threads."""
    best = best_of(trials)
    step = _stepper(chain, batch, recipe, best.arithmetic, checkpointing, device)
    found = race_of_threads(step, threads, device)
    anew = [
        replace(best, threads=count, seconds_per_step=statistics.median(seconds), steps=len(seconds))
        for count, seconds in found.items()
    ]
    return [trial for trial in trials if trial is not best] + anew


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


def _stepper(
    chain: Chain, batch: Batch, recipe: Recipe, arithmetic: Arithmetic, checkpointing: bool, device: torch.device
) -> Callable[[], None]:
    """Return what does one training step, all units open, of a copy of the chain."""
    trial = place(copy.deepcopy(chain).train(), arithmetic, device)
    engine, optimizer = engine_of(trial, checkpointing), make_optimizer(trial, recipe, frozen=True)
    batch = Batch(_laid_out(batch.images, arithmetic, device), batch.labels.to(device), batch.total)

    def step() -> None:
        gates = [1.0] * len(trial)
        train_step(engine, optimizer, batch, gates, lr=0.0, smoothing=0.0, arithmetic=arithmetic)
        synchronise(device)

    return step


def _time(step: Callable[[], None], best: float) -> list[float]:
    """Return the seconds of a candidate's steps after one unmeasured, which loads what it needs."""
    step()
    seconds: list[float] = []
    for _ in range(TIMED_STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
        if seconds[0] > SLOWER * best:
            break
    return seconds


Say = Callable[[str], None]


def choose(
    config: TrainConfig, recipe: Recipe, chain: Chain, dataset: Dataset, total: int, ranks: Ranks,
    device: torch.device, say: Say,
) -> dict:  # fmt: skip
    """Return the arithmetic and threads to train with and the trials behind them; process 0 decides for all.

    Args:
        config: What of it is forced.
        recipe: For mini-batch and optimizer.
        chain: The network.
        dataset: For the shape of its images.
        total: Steps of the run.
        ranks: Which process this is.
        device: Where.
        say: Receives one line per trial, and what to expect.
    """
    shape = batch_shape(recipe, dataset, ranks)
    tried = candidates(config.precision, config.memory_format, device)
    counts = thread_counts(config.threads, device)
    trials = measure(
        chain, shape, recipe, tried, checkpointing=config.checkpointing, device=device, threads=counts, say=say
    )
    best = best_of(trials)
    for trial in trials:
        threads = "thread " if trial.threads == 1 else "threads"
        mark = "← taken" if trial is best else "" if trial.correct else "not correct"
        say(
            f"  {trial.precision} {trial.memory_format:13} {trial.threads:2} {threads}"
            f" {1000 * trial.seconds_per_step:8.1f} ms a step, {100 * trial.difference:.2g} % off fp32  {mark}"
        )
    expected = {"seconds": best.seconds_per_step * total}
    say(f"expected: {seconds_text(expected['seconds'])} of training, peak memory {bytes_text(best.peak_bytes)}")
    record = {"chosen": best.choice, "expected": expected, "trials": [asdict(trial) for trial in trials]}
    return ranks.from_first(record)  # type: ignore[return-value]


def batch_shape(recipe: Recipe, dataset: Dataset, ranks: Ranks) -> tuple[int, int, int, int]:
    """Return the shape of one process's share of a whole mini-batch: images, channels, height, width."""
    share = max(2, min(recipe.batch_size, len(dataset.split("train"))) // ranks.world)
    return share, dataset.channels, dataset.height, dataset.width
