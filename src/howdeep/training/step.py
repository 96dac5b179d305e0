"""One training step: logits, loss, gradients, update."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from howdeep.chain import Chain, Gates
from howdeep.data import Batch
from howdeep.runtime.checkpointing import Checkpointed
from howdeep.runtime.modes import frozen_statistics, norms_of
from howdeep.runtime.precision import Arithmetic
from howdeep.training.recipes import Recipe


def engine_of(chain: Chain, checkpointing: bool) -> nn.Module:
    """Return what runs a training step of a chain: the chain, or one that computes activations twice."""
    return Checkpointed(chain) if checkpointing else chain


def compile_branches(chain: Chain) -> None:
    """Compile every branch, in place (torch.compile): each once per shape, however many units share it.

    Torch stops compiling one function after a few variants. The branches of a network are variants of one function,
    in training and in evaluation, for whole mini-batches and for the last one: four per unit at most.
    """
    limits = torch._dynamo.config  # private (torch 2.15)
    variants = 4 * len(chain)
    limits.recompile_limit = max(limits.recompile_limit, variants)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, variants)
    for unit in chain.units:
        unit.branch.compile()


def make_optimizer(chain: Chain, recipe: Recipe, *, frozen: bool = False) -> SGD:
    """Return SGD for a chain.

    Args:
        chain: The network.
        recipe: Momentum and weight decay.
        frozen: Start without gradients, so that dropped units stay as they are; else every gradient starts at zero, and
            momentum and weight decay move them from the first step on (see :func:`train_step`).
    """
    matrices = [parameter for parameter in chain.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in chain.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": recipe.weight_decay if recipe.decay_all else 0.0},
    ]
    if not frozen:
        for parameter in chain.parameters():
            parameter.grad = torch.zeros_like(parameter)
    optimizer = SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True)
    for parameter in chain.parameters():
        # The fused update cannot mix parameters with and without a momentum, and units open at different steps.
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def train_step(
    engine: nn.Module,
    optimizer: SGD,
    batch: Batch,
    gates: Gates | None,
    *,
    lr: float,
    smoothing: float,
    arithmetic: Arithmetic,
    share: float = 1.0,
    frozen: bool = False,
) -> tuple[float, int]:
    """Do one step and return the mean loss and the number of wrong answers.

    A process without images takes part with gradients of zero, which the others wait for.

    Args:
        engine: A chain, or what wraps it.
        optimizer: Of its parameters.
        batch: Images and labels of this process.
        gates: One per unit, or None for all open.
        lr: Learning rate.
        smoothing: Label smoothing.
        arithmetic: Precision and layout.
        share: Weight of this process's mean loss in the mean over processes (1 where all hold equally many).
        frozen: Dropped units get no gradients and stay as they are; else they get zeros, so that momentum and weight
            decay move them, as in the code of Huang et al. 2016.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    count = len(batch.labels)
    with arithmetic.autocast(batch.images.device), frozen_statistics([] if count else norms_of(engine)):
        logits = engine(batch.images, gates)
    sums = F.cross_entropy(logits.float(), batch.labels, label_smoothing=smoothing, reduction="sum")
    loss = sums / max(1, count)
    wrong = (logits.detach().argmax(1) != batch.labels).sum()
    # Waits for the forward pass on an accelerator, once; the backward pass, twice as long, overlaps with the next
    # batch. float32 counts exactly up to 16 million.
    value, errors = torch.stack([loss.detach(), wrong.to(loss.dtype)]).tolist()
    (loss * share).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=frozen)
    return value, int(errors)
