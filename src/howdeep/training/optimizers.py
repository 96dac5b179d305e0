"""Optimizers: who moves which weight how fast, and their state by name, so that a checkpoint can hold it."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, muon  # private (torch 2.15)

from howdeep.chain import Chain, Unit
from howdeep.runs.checkpoints import Checkpoint
from howdeep.training.recipes import Recipe

GROUPS = {"momentum_buffer": "momentum", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq", "step": "step"}
"""What the library calls a part of an optimizer's state → the group of tensors of a checkpoint that holds it."""


class Muon(AdamW):
    """Muon (Jordan 2024) for the matrices of hidden layers, which are in groups that say so; AdamW for everything else.

    A convolution is a matrix of one row per output channel. The update of a matrix of shape (a, b) is scaled by
    0.2·√max(a, b), the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one rate and one weight decay are
    right for both.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Do one step; a weight without a gradient stays as it is, and so does its state."""
        own = [(one, weight, weight.grad) for one in self.param_groups if one["hidden"] for weight in one["params"]]
        for group, weight, gradient in own:
            if gradient is None:
                continue
            if not self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            channels_last = weight.dim() == 4 and not weight.is_contiguous()
            tensors = (weight, gradient, self.state[weight]["momentum_buffer"])
            # Views, but of a gradient in another layout; in which order its columns are does not matter to a matrix.
            views = [(one.movedim(1, -1) if channels_last else one).reshape(len(one), -1) for one in tensors]
            muon(
                *([view] for view in views),
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                momentum=0.95,
                nesterov=True,
                ns_coefficients=(DEFAULT_A, DEFAULT_B, DEFAULT_C),
                ns_steps=5,
                eps=1e-7,
                adjust_lr_fn="match_rms_adamw",
                has_complex=False,
            )
            weight.grad = None  # so that AdamW passes it over
        super().step()
        for _, weight, gradient in own:
            weight.grad = gradient


def make_optimizer(chain: Chain, recipe: Recipe, *, frozen: bool = False) -> Optimizer:
    """Return the optimizer of what is trained of a chain; every group has the factor of its rate in ``"scale"``.

    Args:
        chain: The network; what needs no gradient stays as it is.
        recipe: Which one, its constants, weight decay and the decay of the rates towards the stem.
        frozen: Start without gradients, so that dropped units stay as they are; else every gradient starts at zero, and
            momentum and weight decay move them from the first step on (see :func:`howdeep.training.step.train_step`).
    """
    groups = _groups(chain, recipe)
    weights = [weight for group in groups for weight in group["params"]]
    if not frozen:
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
    if recipe.optimizer != "sgd":
        kind = Muon if recipe.optimizer == "muon" else AdamW
        return kind(groups, lr=0.0, betas=recipe.betas, fused=True)
    optimizer = SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True)
    for weight in weights:
        # The fused update cannot mix weights with and without a momentum, and units open at different steps.
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def _groups(chain: Chain, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the parameters in groups of one rate, one weight decay and one rule."""
    groups: dict[tuple[float, float, bool], list[Tensor]] = defaultdict(list)
    seen: set[Tensor] = set()
    for module, distance in distances(chain):
        scale = recipe.layer_decay**distance
        for weight in module.parameters():
            if weight in seen or not weight.requires_grad:  # shared by two units: it belongs to the first
                continue
            seen.add(weight)
            decay = recipe.weight_decay if recipe.decay_all or weight.dim() > 1 else 0.0
            hidden = recipe.optimizer == "muon" and 0 < distance <= len(chain) and _is_matrix(weight)
            groups[scale, decay, hidden].append(weight)
    return [
        {"params": weights, "scale": scale, "weight_decay": decay, "hidden": hidden}
        for (scale, decay, hidden), weights in groups.items()
    ]


def distances(chain: Chain) -> list[tuple[nn.Module, int]]:
    """Return the parts of a chain with their distance from the head, which is timm's for ConvNeXt.

    The head has 0, the last unit 1, the first as many as there are units, and the stem one more. A link has the
    distance of the unit that it leads to; behind the last unit, that of the head.
    """
    parts: list[tuple[nn.Module, int]] = [(chain.stem, len(chain) + 1)]
    left = len(chain)
    for module in chain.body:
        parts.append((module, left))
        left -= isinstance(module, Unit)
    return [*parts, (chain.head, 0)]


def _is_matrix(weight: Tensor) -> bool:
    """Whether a weight mixes channels: neither a vector nor the filters of a depthwise convolution."""
    return weight.dim() == 2 or (weight.dim() > 2 and weight.shape[1] > 1)


def state_of(optimizer: Optimizer, chain: Chain) -> dict[str, dict[str, Tensor]]:
    """Return the state of an optimizer as groups of tensors of a checkpoint: group → name of the weight → tensor."""
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, weight in chain.named_parameters():
        for key, tensor in optimizer.state.get(weight, {}).items():
            groups[GROUPS[key]][name] = tensor
    return groups


def restore(optimizer: Optimizer, chain: Chain, saved: Checkpoint) -> None:
    """Give an optimizer the state that a checkpoint holds, in the layout of the weights."""
    weights = dict(chain.named_parameters())
    for key, group in GROUPS.items():
        for name, tensor in saved.tensors(group).items():
            weight = weights[name]
            like = tensor.to(weight.device) if key == "step" else torch.empty_like(weight).copy_(tensor)
            optimizer.state[weight][key] = like
