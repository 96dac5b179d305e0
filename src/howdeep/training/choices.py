"""What a run is trained with: precision and memory format, chosen by timing a few steps here."""

from collections.abc import Callable
from dataclasses import asdict

import torch

from howdeep.chain import Chain
from howdeep.data import Dataset
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
    """Return the arithmetic to train with and the trials behind it; process 0 decides for all.

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
    share = max(2, min(recipe.batch_size, len(dataset.split("train"))) // ranks.world)
    shape = (share, dataset.channels, dataset.height, dataset.width)
    tried = candidates(config.precision, config.memory_format)
    trials = measure(chain, shape, recipe, tried, memory=config.memory, device=device)
    best = best_of(trials)
    for trial in trials:
        mark = "← taken" if trial is best else "" if trial.correct else "not correct"
        say(
            f"  {trial.precision} {trial.memory_format:13} {1000 * trial.seconds_per_step:8.1f} ms a step,"
            f" differs from fp32 by {100 * trial.difference:.2g} %  {mark}"
        )
    chosen = {"precision": best.precision, "memory_format": best.memory_format}
    expected = {"seconds": best.seconds_per_step * total}
    say(f"expected: {seconds_text(expected['seconds'])} of training, peak memory {bytes_text(best.peak_bytes)}")
    record = {"chosen": chosen, "expected": expected, "trials": [asdict(trial) for trial in trials]}
    return ranks.from_first(record)  # type: ignore[return-value]
