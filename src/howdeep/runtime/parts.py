"""Images in parts in which they pass through a network fastest on a host: activations stay in its caches.

What photos become is large: buffers above 32 MB, which an allocator gives back and has to clear anew every time.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from howdeep.chain import Chain, Gates
from howdeep.runtime.modes import norms_of

PIXELS = 2**18
"""Of the images of a part: five of 224 a side. Photos that pass by the hundred take half as long again or more."""


def parts_of(network: nn.Module, images: Tensor, pixels: int = PIXELS) -> tuple[Tensor, ...]:
    """Return images in parts; as a whole where a norm takes the statistics of those that pass together.

    So do those of one of several processes, which wait for each other after every backward pass.

    Args:
        network: What they pass through, in the mode in which it computes.
        images: Shape (batch, channels, height, width).
        pixels: Of a part, at most; where one image has more it is a part of its own.
    """
    parts = images.split(max(1, pixels // images.shape[2:].numel()))
    if images.device.type != "cpu" or len(parts) < 2 or isinstance(network, DistributedDataParallel):
        return (images,)
    together = any(norm.training or norm.running_mean is None for norm in norms_of(network))
    return (images,) if together else parts


def gated_parts(
    network: nn.Module, images: Tensor, gates: Gates | None
) -> Iterator[tuple[slice, Tensor, Gates | None]]:
    """Yield which images are a part, the part, and the gates of its images."""
    parts, first = parts_of(network, images), 0
    for part in parts:
        own = slice(first, first := first + len(part))
        if gates is None or len(parts) == 1:
            yield own, part, gates
        else:
            yield (
                own,
                part,
                [one[own] if isinstance(one, Tensor) and one.shape == images.shape[:1] else one for one in gates],
            )


def passed(chain: Chain, images: Tensor, gates: Gates | None = None) -> Tensor:
    """Return the logits of images, which pass in parts."""
    return torch.cat([chain(part, own) for _, part, own in gated_parts(chain, images, gates)])
