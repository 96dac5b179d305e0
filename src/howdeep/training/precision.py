"""The measured choice of :mod:`howdeep.runtime.precision` for training: its step is a training step."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from howdeep.chain import Chain
from howdeep.data import Batch, Dataset
from howdeep.runtime.parts import parts_of
from howdeep.runtime.precision import FP32, Arithmetic, Trial, arithmetics, best_of, measure, place
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import FEW, thread_counts
from howdeep.training.config import TrainConfig
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import Recipe
from howdeep.training.step import engine_of, ready, train_step
from howdeep.util.seeds import generator
from howdeep.util.text import Report, bytes_text, seconds_text


@dataclass(frozen=True)
class TrainingSteps:
    """Training steps of copies of a chain on random images, all units open; the chain is left as it was.

    Photos of which a few pass at a time are timed by the first of these parts.
    """

    chain: Chain
    shape: tuple[int, int, int, int]
    """Of a batch: images, channels, height, width."""
    recipe: Recipe
    """For the optimizer, and for what is trained; it is settled."""
    device: torch.device
    checkpointing: bool = False
    """Compute activations a second time instead of keeping them."""
    images: Tensor = field(init=False)
    """Of the batch, or of its first part."""

    def __post_init__(self) -> None:
        trial = copy.deepcopy(self.chain)
        ready(trial, self.recipe)
        whole = torch.randn(self.shape, generator=generator(0, "trial")).to(self.device)
        object.__setattr__(self, "images", parts_of(trial, whole)[0])

    @property
    def share(self) -> float:
        """How much of a mini-batch is timed."""
        return len(self.images) / self.shape[0]

    def logits(self, arithmetic: Arithmetic) -> Tensor:
        """Return those of the mode in which it is trained, without dropout's draws.

        With the statistics of a mini-batch bf16 is 10 to 16 % off in tf_efficientnet_lite0, with frozen ones 2 to 8 %.
        """
        trial = self._copy(arithmetic)
        ready(trial, self.recipe)
        for layer in trial.modules():
            if isinstance(layer, nn.Dropout):
                layer.eval()
        with torch.no_grad(), arithmetic.autocast(self.device):
            return trial(self._few(arithmetic), [1.0] * len(trial)).float()

    def step(self, arithmetic: Arithmetic) -> Callable[[], object]:
        """Return what does one training step, or the share of it."""
        images = arithmetic.laid_out(self.images)
        # Which class an image has, the time does not depend on; every network has the first.
        labels = torch.zeros(len(images), dtype=torch.int64, device=self.device)
        return partial(self.on(arithmetic), Batch(images, labels, len(images)))

    def on(self, arithmetic: Arithmetic) -> Callable[[Batch], object]:
        """Return what does one training step on a mini-batch, which is laid out for it."""
        trial = self._copy(arithmetic)
        ready(trial, self.recipe)
        engine, optimizer = engine_of(trial, self.checkpointing), make_optimizer(trial, self.recipe, frozen=True)
        gates, how = [1.0] * len(trial), {"lr": 0.0, "smoothing": 0.0, "arithmetic": arithmetic}
        return lambda batch: train_step(engine, optimizer, batch, gates, **how)

    def short_step(self) -> Callable[[], object]:
        """Return what does one forward pass of a few images."""
        trial, few = self._copy(FP32), self._few(FP32)

        def forward() -> None:
            with torch.no_grad():
                trial(few, [1.0] * len(trial))

        return forward

    def _copy(self, arithmetic: Arithmetic) -> Chain:
        return place(copy.deepcopy(self.chain).train(), arithmetic, self.device)

    def _few(self, arithmetic: Arithmetic) -> Tensor:
        return arithmetic.laid_out(self.images[:FEW])


def trials_of(
    config: TrainConfig,
    steps: TrainingSteps,
    candidates: Sequence[Arithmetic] | None = None,
    report: Report = lambda line: None,
) -> list[Trial]:
    """Return the trials of what a configuration allows, in the numbers of threads that it allows.

    Args:
        config: Precision, memory format and threads, each a choice or ``auto``.
        steps: What is timed.
        candidates: Instead of the precisions and formats of the configuration.
        report: As in :func:`howdeep.runtime.precision.measure`.
    """
    if candidates is None:
        candidates = arithmetics(config.precision, config.memory_format, steps.device)
    return measure(steps, candidates, threads=thread_counts(config.threads, steps.device), report=report)


def choose(config: TrainConfig, steps: TrainingSteps, total: int, ranks: Ranks, report: Report) -> dict:
    """Return the arithmetic and threads to train with and the trials behind them; process 0 decides for all.

    Args:
        config: What of it is forced.
        steps: Of the run.
        total: How many the run has.
        ranks: Which process this is.
        report: Receives one line per trial, and what to expect.
    """
    trials = trials_of(config, steps, report=report)
    best = best_of(trials)
    for trial in trials:
        threads = "thread " if trial.threads == 1 else "threads"
        verdict = "selected: " if trial is best else "" if trial.correct else "rejected: "
        report(
            f"  {trial.precision} {trial.memory_format:13} {trial.threads:2} {threads}"
            f" {1000 * trial.seconds_per_step:8.1f} ms a step  {verdict}logits differ by {100 * trial.difference:.2g} %"
        )
    expected = {"seconds": best.seconds_per_step * total}
    report(f"expected: {seconds_text(expected['seconds'])} of training, peak memory {bytes_text(best.peak_bytes)}")
    record = {"chosen": best.choice, "expected": expected, "trials": [asdict(trial) for trial in trials]}
    return ranks.from_first(record)  # type: ignore[return-value]


def batch_shape(recipe: Recipe, dataset: Dataset, world: int = 1) -> tuple[int, int, int, int]:
    """Return the shape of one process's share of a whole mini-batch: images, channels, height, width."""
    share = max(2, min(recipe.batch_size, len(dataset.split("train"))) // world)
    return share, *dataset.shape
