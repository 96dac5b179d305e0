"""A training step of cifar_resnet110, batch 128: closed units cost nothing, masked ones everything."""

import copy

import torch
from timm.layers.drop import DropPath
from torch import nn

from common import alternate, report, rounds_option, row, spread, total_ratio
from howdeep.chain import Chain
from howdeep.data import Batch
from howdeep.networks import build
from howdeep.seeds import generator
from howdeep.survival import Survival, expected_open
from howdeep.training.recipes import recipe_of
from howdeep.training.step import Arithmetic, make_optimizer, place, train_step

BATCH, ARITHMETIC, DEVICE = 128, Arithmetic("bf16", "channels_last"), torch.device("cpu")
RULES = {"batch mode": Survival("linear", 0.5), "sample mode": Survival("linear", 0.5, "sample")}


class Side:
    """One way of training; every call is one step with its own draw."""

    def __init__(self, chain: Chain, batch: Batch, rule: Survival | None) -> None:
        self.chain, self.batch, self.rule, self.step = place(chain, ARITHMETIC, DEVICE), batch, rule, 0
        self.optimizer = make_optimizer(self.chain, recipe_of("stochastic_depth2016"), drift=True)

    def __call__(self) -> None:
        units = len(self.chain)
        gates = self.rule.draw(units, seed=0, step=self.step, batch=BATCH) if self.rule else [1.0] * units
        train_step(
            self.chain, self.optimizer, self.batch, gates, lr=1e-3, smoothing=0.0, arithmetic=ARITHMETIC, drift=True
        )
        self.step += 1


def masked(chain: Chain) -> Chain:
    """Return the chain with timm's DropPath at the end of every branch: computed, then multiplied by 0 or 1/p."""
    for unit, p in zip(chain.units, Survival("linear", 0.5).probabilities(len(chain)), strict=True):
        unit.branch = nn.Sequential(unit.branch, DropPath(1 - p))
    return chain


def main() -> None:
    rounds, stream = rounds_option(20), generator(0, "benchmark")
    images = torch.randn(BATCH, 3, 32, 32, generator=stream).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, torch.randint(10, (BATCH,), generator=stream), BATCH)
    chain = build("cifar_resnet110").train()
    sides = {"constant": Side(copy.deepcopy(chain), batch, None)}
    sides |= {name: Side(copy.deepcopy(chain), batch, rule) for name, rule in RULES.items()}
    sides["DropPath"] = Side(masked(copy.deepcopy(chain)), batch, None)
    seconds = alternate(sides, rounds=rounds, warmup=2)
    ratios = {name: total_ratio(seconds, name, "constant") for name in sides}
    limit = expected_open(RULES["batch mode"], len(chain)) / len(chain)
    rows = [
        row("batch mode / constant depth", ratios["batch mode"], "≤ 0.80", ratios["batch mode"] <= 0.80,
            note=f"mean over {rounds} draws; open on average {limit:.3f} of the units"),
        row("sample mode / constant depth", ratios["sample mode"], "≤ 0.85", ratios["sample mode"] <= 0.85),
        row("DropPath / constant depth", ratios["DropPath"], "shown beside", True, note="timm's: computes, then masks"),
    ]  # fmt: skip
    report("stochastic_depth", rows, seconds={name: spread(values) for name, values in seconds.items()})


if __name__ == "__main__":
    main()
