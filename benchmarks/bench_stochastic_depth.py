"""A training step of cifar_resnet110, batch 128: closed units cost nothing, masked ones everything."""

import copy
import statistics

import torch
from timm.layers.drop import DropPath
from torch import nn

from common import alternate, ratio, report, rounds_option, row, spread
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.networks import build
from howdeep.runtime.precision import Arithmetic, place
from howdeep.runtime.process import keep_freed_memory
from howdeep.survival import Survival, expected_open
from howdeep.training.optimizers import make_optimizer
from howdeep.training.recipes import recipe_of
from howdeep.training.step import train_step
from howdeep.util.seeds import generator

BATCH, ARITHMETIC, DEVICE = 128, Arithmetic("bf16", "channels_last"), torch.device("cpu")
RULES = {"batch mode": Survival("linear", 0.5), "sample mode": Survival("linear", 0.5, "sample")}


class Side:
    """One way of training; every call is one step, with its own draw where there is a rule."""

    def __init__(self, chain: Chain, batch: Batch, rule: Survival | None, gates: list[float] | None = None) -> None:
        self.chain, self.batch, self.rule, self.step = place(chain, ARITHMETIC, DEVICE), batch, rule, 0
        self.gates = gates
        self.optimizer = make_optimizer(self.chain, recipe_of("stochastic_depth2016"))

    def __call__(self) -> None:
        gates = self.rule.draw(len(self.chain), seed=0, step=self.step, batch=BATCH) if self.rule else self.gates
        train_step(self.chain, self.optimizer, self.batch, gates, lr=1e-3, smoothing=0.0, arithmetic=ARITHMETIC)
        self.step += 1


def masked(chain: Chain) -> Chain:
    """Return the chain with timm's DropPath at the end of every branch: computed, then multiplied by 0 or 1/p."""
    for unit, p in zip(chain.units, Survival("linear", 0.5).probabilities(len(chain)), strict=True):
        unit.branch = nn.Sequential(unit.branch, DropPath(1 - p))
    return chain


def limit_by_time(chain: Chain, batch: Batch) -> float:
    """Return what batch mode could reach: every unit's own time, by stage, weighted with its survival.

    Units have equal MACs and not equal times: the first stage, whose units survive most often, moves more memory.
    """
    units, p = len(chain), Survival("linear", 0.5).probabilities(len(chain))
    third = units // 3
    settings = {"none": [0.0] * units}
    settings |= {str(stage): [float(unit // third == stage) for unit in range(units)] for stage in range(3)}
    sides = {name: Side(copy.deepcopy(chain), batch, None, gates) for name, gates in settings.items()}
    found = {name: statistics.median(values) for name, values in alternate(sides, rounds=8, warmup=2).items()}
    fixed = found["none"]
    unit_times = [(found[str(unit // third)] - fixed) / third for unit in range(units)]
    expected = sum(survival * seconds for survival, seconds in zip(p, unit_times, strict=True))
    return (fixed + expected) / (fixed + sum(unit_times))


def main() -> None:
    keep_freed_memory()  # as the commands do
    rounds, stream = rounds_option(41), generator(0, "benchmark")
    images = torch.randn(BATCH, 3, 32, 32, generator=stream).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, torch.randint(10, (BATCH,), generator=stream), BATCH)
    chain = build("cifar_resnet110").train()
    sides = {"constant": Side(copy.deepcopy(chain), batch, None)}
    sides |= {name: Side(copy.deepcopy(chain), batch, rule) for name, rule in RULES.items()}
    sides["DropPath"] = Side(masked(copy.deepcopy(chain)), batch, None)
    seconds = alternate(sides, rounds=rounds, warmup=2)
    ratios = {name: ratio(seconds, name, "constant") for name in sides}
    share = expected_open(RULES["batch mode"], len(chain)) / len(chain)
    limit = limit_by_time(chain, batch)
    rows = [
        row(
            "batch mode / constant depth",
            ratios["batch mode"],
            "≤ 0.78",
            ratios["batch mode"] <= 0.78,
            note=f"median of {rounds} draws; by units {share:.3f}, by their times {limit:.3f} at best",
        ),
        row("sample mode / constant depth", ratios["sample mode"], "≤ 0.85", ratios["sample mode"] <= 0.85),
        row("DropPath / constant depth", ratios["DropPath"], "shown beside", True, note="timm's: computes, then masks"),
    ]
    report("stochastic_depth", rows, seconds={name: spread(values) for name, values in seconds.items()})


if __name__ == "__main__":
    main()
