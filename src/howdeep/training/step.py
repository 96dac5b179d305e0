"""One training step: logits, loss, gradients, update."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from howdeep.chain import Chain, Gates
from howdeep.data import Batch
from howdeep.runtime.checkpointing import Checkpointed
from howdeep.runtime.modes import frozen_statistics, modes_kept, norms_of
from howdeep.runtime.precision import Arithmetic


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


@contextmanager
def held(engine: nn.Module, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let norms keep and use their running statistics, and no gradient be computed for some weights.

    Where several processes wait for each other's gradients these are computed, and :func:`train_step` drops them.
    """
    computed = isinstance(engine, DistributedDataParallel)
    with modes_kept(engine):
        for norm in norms_of(engine):
            norm.eval()
        try:
            for weight in weights:
                weight.requires_grad_(computed)
            yield
        finally:
            for weight in weights:
                weight.requires_grad_(True)


def train_step(
    engine: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    gates: Gates | None,
    *,
    lr: float,
    smoothing: float,
    arithmetic: Arithmetic,
    share: float = 1.0,
    frozen: bool = False,
    clip: float | None = None,
    waiting: Sequence[nn.Parameter] = (),
) -> tuple[float, int]:
    """Do one step and return the mean loss and the number of wrong answers.

    A process without images takes part with gradients of zero, which the others wait for.

    Args:
        engine: A chain, or what wraps it.
        optimizer: Of its parameters.
        batch: Images and labels of this process.
        gates: One per unit, or None for all open.
        lr: Learning rate; that of a group of parameters is its ``"scale"`` times as high.
        smoothing: Label smoothing.
        arithmetic: Precision and layout.
        share: Weight of this process's mean loss in the mean over processes (1 where all hold equally many).
        frozen: Dropped units get no gradients and stay as they are; else they get zeros, so that momentum and weight
            decay move them, as in the code of Huang et al. 2016.
        clip: Gradients, averaged over the processes, whose common L2 norm is above it are scaled down to it.
        waiting: Weights that stay as they are, their state too (see :func:`held`).
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
    count = len(batch.labels)
    with arithmetic.autocast(batch.images.device), frozen_statistics([] if count else norms_of(engine)):
        logits = engine(batch.images, gates)
    sums = F.cross_entropy(logits.float(), batch.labels, label_smoothing=smoothing, reduction="sum")
    loss = sums / max(1, count)
    # Of an image that is mixed of two classes, the larger share is the right answer.
    right = batch.labels.argmax(1) if batch.labels.dim() == 2 else batch.labels
    wrong = (logits.detach().argmax(1) != right).sum()
    # Waits for the forward pass on an accelerator, once; the backward pass, twice as long, overlaps with the next
    # batch. float32 counts exactly up to 16 million.
    value, errors = torch.stack([loss.detach(), wrong.to(loss.dtype)]).tolist()
    (loss * share).backward()
    for weight in waiting:
        weight.grad = None
    if clip is not None:
        nn.utils.clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=frozen)
    for weight in waiting if not frozen else ():
        weight.grad = torch.zeros_like(weight)
    return value, int(errors)
