"""What a run is trained with: precision, memory format and threads, chosen by timing a few steps here."""

from collections.abc import Callable
from dataclasses import asdict

import torch

from howdeep.chain import Chain
from howdeep.data import Dataset
from howdeep.stopwatch import thread_counts
from howdeep.training.config import TrainConfig
from howdeep.training.distributed import Ranks
from howdeep.training.journal import bytes_text, seconds_text
from howdeep.training.precision import best_of, candidates, measure
from howdeep.training.recipes import Recipe

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
    trials = measure(chain, shape, recipe, tried, memory=config.memory, device=device, threads=counts, say=say)
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
