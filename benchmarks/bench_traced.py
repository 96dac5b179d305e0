"""What training a network of others costs as a chain, against the network itself: steps, forward passes, memory."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torchvision import models

from common import alternate, ratio, report, rounds_option, row, spread
from howdeep.convert import unravel
from howdeep.runtime.modes import norms_of
from howdeep.training.step import engine_of

BATCH, PIXELS = 16, 64
NETWORKS = ("resnet18", "efficientnet_b0", "densenet121")


def step_of(network: nn.Module, images: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)
    labels = torch.arange(len(images))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def forward_of(network: nn.Module, images: Tensor) -> Callable[[], None]:
    def forward() -> None:
        with torch.inference_mode():
            network(images)

    return forward


def kept_bytes(network: nn.Module, images: Tensor) -> int:
    """Return how much memory a forward pass in training mode keeps for the backward pass, weights not counted."""
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = network(images)
    result.sum().backward()
    return sum(kept.values())


def pair(name: str) -> dict[str, nn.Module]:
    """Return a network with its branches open, and its chain, which has weights of its own."""
    torch.manual_seed(0)
    network = models.get_model(name, num_classes=BATCH)
    for module in network.modules():
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # type: ignore[assignment]
    chain = unravel(copy.deepcopy(network), torch.zeros(1, 3, PIXELS, PIXELS))
    return {"chain": chain, "network": network}


def with_norms_kept(networks: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return both in training mode but for their norms, as ``howdeep train`` runs a step with frozen statistics."""
    for network in networks.values():
        for norm in norms_of(network.train()):
            norm.eval()
    return {**networks, "chain": engine_of(networks["chain"], checkpointing=False)}  # type: ignore[arg-type]


def main() -> None:
    rounds, rows, seconds = rounds_option(15), [], {}
    images = torch.randn(BATCH, 3, PIXELS, PIXELS)
    for name in NETWORKS:
        networks = pair(name)
        frozen = with_norms_kept(networks)
        quick = alternate({which: step_of(net, images) for which, net in frozen.items()}, rounds=rounds)
        less = {which: kept_bytes(net, images) for which, net in frozen.items()}
        steps = alternate({which: step_of(net.train(), images) for which, net in networks.items()}, rounds=rounds)
        memory = {which: kept_bytes(net.train(), images) for which, net in networks.items()}
        forwards = alternate({which: forward_of(net.eval(), images) for which, net in networks.items()}, rounds=rounds)
        for what, found, bar in (
            ("training step", ratio(steps, "chain", "network"), 1.05),
            ("forward", ratio(forwards, "chain", "network"), 1.03),
            ("kept for the backward pass", memory["chain"] / memory["network"], 1.05),
            ("training step, frozen norms", ratio(quick, "chain", "network"), 1.05),
            ("kept, frozen norms", less["chain"] / less["network"], 1.05),
        ):
            note = f"batch {BATCH} of {PIXELS}×{PIXELS}, fp32"
            rows.append(row(f"{name} as a chain / itself, {what}", found, f"≤ {bar}", found <= bar, note=note))
        seconds[name] = {
            what: {which: spread(values) for which, values in times.items()}
            for what, times in (("step", steps), ("forward", forwards), ("frozen", quick))
        }
    report("traced", rows, seconds=seconds)


if __name__ == "__main__":
    main()
