"""A training step against the machine's rate of products, and what compiling its branches would bring.

Mini-batches of 128 images of 32 pixels, recipe ``fast``, bf16 and channels_last; steps as they are, compiled ones
(``--compile``: torch.compile of every branch) and the product of two square matrices by turns.
"""

import statistics
import time
from functools import partial

import torch

from common import Row, alternate, product_rate, ratio, report, rounds_option, row
from howdeep.data import Batch
from howdeep.networks import build, spec_of
from howdeep.networks.counting import describe
from howdeep.runtime.precision import Arithmetic, place
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import recipe_of
from howdeep.training.step import engine_of, ready, train_step

BARS = {"cifar_resnet20": 55.0, "cifar_resnet8_w4": 65.0}
"""Network → least share of the rate of products, in percent."""
BATCH = 128
BF16 = Arithmetic("bf16", "channels_last")


def step_of(network: str, *, compiled: bool) -> partial:
    """Return what does a training step."""
    recipe = recipe_of("fast")
    chain = place(build(spec_of(network).zero_initialised(), seed=0), BF16, torch.device("cpu"))
    ready(chain, recipe)
    images = BF16.laid_out(torch.randn(BATCH, 3, 32, 32))
    batch = Batch(images, torch.arange(BATCH) % 10, BATCH)
    how = {"lr": 0.0, "smoothing": recipe.label_smoothing, "arithmetic": BF16}
    return partial(
        train_step, engine_of(chain, False, compiled=compiled), make_optimizer(chain, recipe), batch, None, **how
    )


def rows(network: str, rounds: int) -> list[Row]:
    """Return what was measured on one network."""
    plain, compiled = step_of(network, compiled=False), step_of(network, compiled=True)
    started = time.perf_counter()
    compiled()
    first, rates = time.perf_counter() - started, []
    sides = {"plain": plain, "compiled": compiled, "product": lambda: rates.append(product_rate())}
    seconds = alternate(sides, rounds=rounds)
    flops = 3 * 2 * describe(spec_of(network)).macs * BATCH
    shares = [100 * flops / took / rate for took, rate in zip(seconds["plain"], rates[-rounds:], strict=True)]
    share, bar, faster = statistics.median(shares), BARS[network], ratio(seconds, "compiled", "plain")
    took = statistics.median(seconds["plain"])
    rate = f"{BATCH / took:,.0f} images/s; product {statistics.median(rates) / 1e9:.0f} GFLOP/s"
    saved = f"the first step takes {first:.0f} s"
    if faster < 1:
        saved += f", as much as {first / ((1 - faster) * took):,.0f} steps save"
    return [
        row(f"{network}: share of the rate of products", share, f"≥ {bar:g} %", share >= bar, unit="%", note=rate),
        row(f"{network}: compiled / plain step", faster, "shown beside", True, note=saved),
    ]


def main() -> None:
    rounds = rounds_option(15)
    report("step", [line for network in BARS for line in rows(network, rounds)])


if __name__ == "__main__":
    main()
