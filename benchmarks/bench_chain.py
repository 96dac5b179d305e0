"""What the chain costs: the same network written by hand, forward and a training step, in turn."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from common import alternate, ratio, report, rounds_option, row, spread
from howdeep.networks import build
from peers import ResNet

BATCH, DEPTH_N = 128, 9


def step_of(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def forward_of(network: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            network(images)

    return forward


def main() -> None:
    rounds = rounds_option(15)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))
    networks = {"chain": build(f"cifar_resnet{6 * DEPTH_N + 2}"), "by hand": ResNet(DEPTH_N)}
    for network in networks.values():
        network.to(memory_format=torch.channels_last)
    steps = alternate({name: step_of(net.train(), images, labels) for name, net in networks.items()}, rounds=rounds)
    forwards = alternate({name: forward_of(net.eval(), images) for name, net in networks.items()}, rounds=2 * rounds)
    rows = [
        row(f"chain / by hand, {what}", found, "≤ 1.05", found <= 1.05, note="cifar_resnet56, batch 128, bf16")
        for what, found in (
            ("training step", ratio(steps, "chain", "by hand")),
            ("forward", ratio(forwards, "chain", "by hand")),
        )
    ]
    spreads = {"step": {name: spread(values) for name, values in steps.items()}}
    spreads["forward"] = {name: spread(values) for name, values in forwards.items()}
    report("chain", rows, seconds=spreads)


if __name__ == "__main__":
    main()
