"""Statistics of norms, estimated anew: those of a network that was cut are of feature maps that no longer come."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from howdeep.chain import Chain
from howdeep.data.loaders import Loader, batches_of
from howdeep.runtime.modes import evaluating, norms_of

ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
"""What norms give to ``F.batch_norm``."""


@torch.no_grad()
def reestimate(chain: Chain, images: Iterable[Tensor]) -> int:
    """Give the norms of a network, in place, the statistics of these images; weights stay as they are.

    Every norm divides by the statistics of the batch meanwhile, as in training. Its running mean and (unbiased)
    variance become those of everything that it was given, whatever the sizes of the batches. Norms without running
    statistics stay as they are.

    Args:
        chain: The network, in evaluation mode, own or traced.
        images: Batches, each of shape (batch, channels, height, width).

    Returns:
        How many norms there are.
    """
    moments = _Moments()
    for batch in images:
        with moments:
            chain(batch)
    for moment in moments.found.values():
        moment.mean.copy_(moment.own_mean)
        moment.variance.copy_(moment.squares / max(1, moment.count - 1))
    return len(moments.found)


def recalibrate(chain: Chain, loader: Loader) -> int:
    """Give the norms of a chain, in place, the statistics of a loader's images, as :func:`reestimate` does.

    Args:
        chain: The network, own or traced; its mode is put back afterwards.
        loader: Labelled images (see :mod:`howdeep.data.loaders`).

    Returns:
        How many norms there are.

    Raises:
        UserError: The loader yields something else.
    """
    with evaluating(chain):
        return reestimate(chain, (batch.images for batch in batches_of(chain, loader)))


@dataclass
class _Moment:
    """Mean and squared deviations, per channel, of all that one norm was given."""

    mean: Tensor
    """The norm's running mean, which stays as it is meanwhile."""
    variance: Tensor
    """Its running variance."""
    own_mean: Tensor
    squares: Tensor
    """Sum of the squared deviations from ``own_mean``."""
    count: int = 0
    """Values per channel."""

    def add(self, x: Tensor) -> None:
        """Count the values of one batch, shape (batch, channels, …): Chan, Golub and LeVeque 1979, Eq. 2.1."""
        count, others = x.numel() // x.shape[1], [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x.to(self.mean.dtype), others, correction=0)
        apart, share = mean - self.own_mean, count / (self.count + count)
        self.squares += count * variance + apart.square() * self.count * share
        self.own_mean += apart * share
        self.count += count


class _Moments(TorchFunctionMode):
    """Lets every norm with running statistics divide by those of its batch, and adds these up."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, _Moment] = {}

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        given = dict(zip(ARGUMENTS, args, strict=False)) | (kwargs or {}) if function is F.batch_norm else {}
        mean, variance, x = (given.get(name) for name in ("running_mean", "running_var", "input"))
        if mean is None or variance is None or given["training"] or x is None:
            return function(*args, **(kwargs or {}))
        zeros = torch.zeros_like(mean), torch.zeros_like(mean)
        self.found.setdefault(id(mean), _Moment(mean, variance, *zeros)).add(x)
        return torch.batch_norm(
            x, given["weight"], given["bias"], None, None, True, 0.0, given["eps"], torch.backends.cudnn.enabled
        )


def batch_norms(chain: Chain) -> int:
    """Return how many norms have no statistics of their own: they divide by those of each batch, always."""
    return sum(norm.running_var is None for norm in norms_of(chain))
