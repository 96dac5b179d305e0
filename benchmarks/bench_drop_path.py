"""ConvNeXt-T with the package's stochastic depth against timm's drop-path of the same rate: a step's time, the error.

timm computes a branch and then multiplies it by 0 or 1 / p, image by image; a chain leaves a closed unit out, for the
whole mini-batch. Both begin with the same weights, see the same mini-batches and take the same AdamW steps: one cycle
from scratch on the digits at 32 pixels, for every seed.
"""

import argparse
from collections.abc import Callable

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import howdeep
from common import alternate, ratio, report, row, spread
from howdeep.chain import Chain
from howdeep.runtime.process import keep_freed_memory
from howdeep.survival import Survival
from howdeep.util.intervals import of_change

NETWORK, RATE = "convnext_tiny", 0.2
"""The network, and the probability with which its last branch is left out; it grows linearly with depth."""
RULES = {"batch mode": Survival("linear", 1 - RATE), "sample mode": Survival("linear", 1 - RATE, "sample")}
BATCH, SIDE = 32, 32
LR, DECAY = 1e-3, 0.05

Network = Callable[[Tensor, int], Tensor]
"""Images, step → logits."""


def made(name: str, seed: int, classes: int, side: int = SIDE) -> tuple[nn.Module, Network]:
    """Return a network in training mode and its forward pass, which draws: timm's own, or a chain by a rule."""
    torch.manual_seed(seed)
    network = timm.create_model(
        NETWORK, num_classes=classes, drop_path_rate=RATE if name == "timm's drop-path" else 0.0
    )
    if name not in RULES:
        return network.train(), lambda images, step: network(images)
    chain: Chain = howdeep.unravel(network, torch.zeros(1, 3, side, side)).train()
    chain.rule = rule = RULES[name]  # which in evaluation weighs every branch by its survival
    return chain, lambda images, step: chain(images, rule.draw(len(chain), seed=seed, step=step, batch=len(images)))


SIDES = ("timm's drop-path", *RULES, "none")


def steps_of(name: str, side: int) -> Callable[[], None]:
    """Return what does one training step on random images."""
    network, forward = made(name, 0, 10, side)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=DECAY, fused=True)
    images, labels, count = torch.randn(BATCH, 3, side, side), torch.arange(BATCH) % 10, iter(range(10**6))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward(images, next(count)), labels).backward()
        optimizer.step()

    return step


def wrong(name: str, seed: int, epochs: int) -> np.ndarray:
    """Return which test images of the digits a network gets wrong that was trained from scratch."""
    train, _, test = howdeep.loaders("digits", size=SIDE, batch_size=BATCH, seed=seed)
    network, forward = made(name, seed, 10)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=DECAY, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * len(train))
    step = 0
    for _ in range(epochs):
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(forward(images.expand(-1, 3, -1, -1), step), labels, label_smoothing=0.1).backward()
            optimizer.step()
            cycle.step()
            step += 1
    network.eval()
    with torch.inference_mode():
        return np.concatenate([(network(x.expand(-1, 3, -1, -1)).argmax(1) != y).numpy() for x, y in test])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    keep_freed_memory()
    seconds = alternate({name: steps_of(name, asked.side) for name in SIDES}, rounds=asked.rounds, warmup=2)
    where = f"batch {BATCH} of {asked.side}×{asked.side}, fp32"
    rows = [
        row(
            f"{NETWORK}, linear:{1 - RATE:g}, {name} / timm's drop-path, step",
            found := ratio(seconds, name, "timm's drop-path"),
            "≤ 1",
            found <= 1,
            note=where,
        )
        for name in RULES
    ]
    both = {name: np.stack([wrong(name, seed, asked.epochs) for seed in range(asked.seeds)]) for name in SIDES[:2]}
    theirs, ours = both.values()
    change = of_change(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), ours.size)
    each = "; ".join(f"{name} {', '.join(f'{100 * one.mean():.1f}' for one in found)}" for name, found in both.items())
    note = f"95 %: {change.low:+.1f} to {change.high:+.1f}, {asked.seeds} × {ours.shape[1]} images; {each}"
    points = 100 * (ours.mean() - theirs.mean())
    rows.append(row("digits, test error against timm's", points, "shown beside", True, unit="points", note=note))
    report("drop_path", rows, seconds={name: spread(values) for name, values in seconds.items()})


if __name__ == "__main__":
    main()
