"""Activations averaged over space: one vector per image, at any depth of any network."""

import torch
from torch import Tensor, nn

from howdeep.util.errors import UserError


def pooled(x: Tensor) -> Tensor:
    """Return the activations of a batch without their places, shape (batch, features).

    Maps, (batch, channels, height, width), are averaged over height and width, and so are maps with channels last:
    (batch, side, side, channels), which are told apart by their equal sides. Tokens, (batch, tokens, channels), become
    the first one, which may be the class token, and behind it the mean of the others. Vectors stay as they are.

    Raises:
        UserError: The activations have another number of dimensions.
    """
    if x.dim() == 4:
        _, first, second, third = x.shape
        return x.mean((1, 2) if first == second != third else (2, 3))
    if x.dim() == 3:
        token, others = x[:, :1], x[:, 1:]
        return (torch.cat([token, others.mean(1, keepdim=True)], 2) if x.shape[1] > 1 else token).flatten(1)
    if x.dim() == 2:
        return x
    raise UserError(f"activations of shape {tuple(x.shape)} are neither maps, tokens nor vectors")


class Pooled(nn.Module):
    """:func:`pooled` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the averages, shape (batch, features)."""
        return pooled(x)
