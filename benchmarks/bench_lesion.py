"""All single deletions of the public 56-layer network: the naive loop of full passes against the shared sweep."""

import copy
import time
from collections.abc import Callable

import torch

from common import alternate, howdeep, ratio, report, rounds_option, row, spread
from howdeep.analysis.lesion import lesion
from howdeep.analysis.study import SplitBatches, prepared
from howdeep.chain import Chain
from howdeep.runtime.precision import Arithmetic, place
from subjects import CIFAR10, MEAN, STD, first_images, public, weights

IMAGES, CPU = 500, torch.device("cpu")


def naive(chain: Chain, batches: SplitBatches, precision: str) -> Callable[[], None]:
    units = len(chain)

    def loop() -> None:
        with torch.inference_mode(), Arithmetic(precision, "channels_last").autocast(CPU):
            for batch in batches:
                for closed in range(-1, units):
                    chain(batch.images, [None if unit == closed else 1.0 for unit in range(units)])

    return loop


def swept(chain: Chain, batches: SplitBatches, precision: str) -> Callable[[], object]:
    return lambda: lesion(chain, batches, autocast=Arithmetic(precision, "channels_last").autocast(CPU))


def random_deletions() -> float:
    """Return the seconds of the command: 10 draws of every k up to 20, 2,000 images."""
    started = time.perf_counter()
    howdeep(
        "lesion",
        "cifar_resnet56",
        "--weights",
        weights("cifar_resnet56"),
        "--mean",
        *MEAN,
        "--std",
        *STD,
        "--data",
        CIFAR10,
        "--kind",
        "random",
        "--max-k",
        20,
        "--draws",
        10,
        "--limit",
        2000,
        "--precision",
        "auto",
    )
    return time.perf_counter() - started


def main() -> None:
    rounds, target = rounds_option(5), public("cifar_resnet56")
    batches = first_images(target, batch_size=100, limit=IMAGES)
    whole = place(copy.deepcopy(target.chain).eval(), Arithmetic("fp32", "channels_last"), CPU)
    ready = prepared(target.chain, batches[0].images, precision="auto", device=CPU)
    folded, fastest = ready.chain, ready.precision
    sides: dict[str, Callable[[], object]] = {
        "naive fp32": naive(whole, batches, "fp32"),
        "swept fp32": swept(folded, batches, "fp32"),
        "naive bf16": naive(whole, batches, "bf16"),
        "swept auto": swept(folded, batches, fastest),
    }
    seconds = alternate(sides, rounds=rounds)
    same, best = ratio(seconds, "naive fp32", "swept fp32"), ratio(seconds, "naive fp32", "swept auto")
    half = ratio(seconds, "naive bf16", "swept auto")
    minutes = random_deletions() / 60
    rows = [
        row("naive / swept, both fp32", same, "≥ 2.0", same >= 2.0, note=f"27 deletions, {IMAGES} images"),
        row("naive fp32 / swept with --precision auto", best, "≥ 5", best >= 5, note=f"auto took {fastest}"),
        row("naive bf16 / swept auto", half, "shown beside", True),
        row("random deletions, k ≤ 20, 10 draws, 2,000 images", minutes, "≤ 5", minutes <= 5, unit="min"),
    ]
    report("lesion", rows, seconds={name: spread(values) for name, values in seconds.items()})


if __name__ == "__main__":
    main()
