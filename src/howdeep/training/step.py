"""One training step: logits, loss, gradients, update."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from howdeep.chain import Chain, Gates, Unit
from howdeep.data import Batch
from howdeep.runtime.checkpointing import Checkpointed
from howdeep.runtime.modes import frozen_statistics, norms_of
from howdeep.runtime.parts import gated_parts
from howdeep.runtime.precision import Arithmetic
from howdeep.runtime.ranks import Ranks
from howdeep.survival import Survival
from howdeep.training.recipes import Recipe
from howdeep.transform.folding import folding_norms


def engine_of(chain: Chain, checkpointing: bool, ranks: Ranks | None = None, *, compiled: bool = False) -> nn.Module:
    """Return what runs a training step of a chain.

    Args:
        chain: The network, in the mode in which it is trained.
        checkpointing: Compute activations a second time instead of keeping them.
        ranks: The processes that take part; None is this one alone.
        compiled: Compile its branches.
    """
    if compiled:
        compile_branches(chain)
    quick = chain if compiled else folding_norms(chain)
    engine = Checkpointed(quick) if checkpointing else quick
    if ranks is None or ranks.alone:
        return engine
    # No device_ids: with them the wrapper would move the gates, which live on the host, to the device. Dropped
    # units have no gradient, which it must look for; that costs a walk through the graph.
    return DistributedDataParallel(engine, find_unused_parameters=chain.rule is not None and chain.rule.random)


def gates_of(chain: Chain, recipe: Recipe, batch: Batch, ranks: Ranks, *, seed: int, step: int) -> Gates | None:
    """Return the gates of a step, the same on every process; for draws per sample, those of this process's images.

    Args:
        chain: The network, whose rule draws. Its frozen units have the gates of evaluation.
        recipe: How many those are.
        batch: This process's share of the mini-batch.
        ranks: Which process this is.
        seed: Of the run.
        step: Index of the mini-batch.
    """
    rule = chain.rule
    assert isinstance(rule, Survival), "a network that is trained has one"
    assert recipe.freeze != "auto", "it is settled"
    if not rule.random:
        return None
    first = batch.total * ranks.rank // ranks.world
    samples = slice(first, first + len(batch.labels))
    drawn = rule.draw(len(chain), seed=seed, step=step, samples=samples, batch=batch.total)
    return [*rule.expected(len(chain))[: recipe.freeze], *drawn[recipe.freeze :]]


def ready(chain: Chain, recipe: Recipe) -> None:
    """Put a chain into the mode in which a recipe trains it; what is frozen has no gradients until it is thawed.

    Args:
        chain: The network.
        recipe: What norms normalise by, and how many units are frozen; both are settled.
    """
    chain.train()
    if recipe.norm_statistics == "frozen":
        for norm in norms_of(chain):
            norm.eval()
    assert recipe.freeze != "auto", "it is settled"
    for part in frozen_parts(chain, recipe.freeze):
        for module in part.modules():
            module.training = False
        part.requires_grad_(False)


def frozen_parts(chain: Chain, count: int) -> list[nn.Module]:
    """Return the stem of a chain and its body up to the last of so many units; nothing where these are none."""
    if not count:
        return []
    last = [place for place, module in enumerate(chain.body) if isinstance(module, Unit)][count - 1]
    return [chain.stem, *list(chain.body)[: last + 1]]


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
) -> tuple[float, int]:
    """Do one step and return the mean loss and the number of wrong answers.

    On a host photos pass a few at a time, and their gradients add up: that is faster, and little memory. A process
    without images takes part with gradients of zero, which the others wait for.

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
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
    count, value, errors = max(1, len(batch.labels)), 0.0, 0
    for part, images, own in gated_parts(engine, batch.images, gates):
        labels = batch.labels[part]
        with arithmetic.autocast(images.device), frozen_statistics([] if len(labels) else norms_of(engine)):
            logits = engine(images, own)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="sum") / count
        # Of an image that is mixed of two classes, the larger share is the right answer.
        right = labels.argmax(1) if labels.dim() == 2 else labels
        wrong = (logits.detach().argmax(1) != right).sum()
        # Waits for the forward pass on an accelerator, once; the backward pass, twice as long, overlaps with the next
        # batch. float32 counts exactly up to 16 million.
        of_loss, of_errors = torch.stack([loss.detach(), wrong.to(loss.dtype)]).tolist()
        value, errors = value + of_loss, errors + int(of_errors)
        (loss * share).backward()
    if clip is not None:
        nn.utils.clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=frozen)
    return value, errors
