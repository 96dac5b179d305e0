"""From uint8 pixels to what a network reads: constants of the train split, computed exactly.

Sums are taken over integers, so the constants do not depend on the order or the size of the chunks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from howdeep.data.dataset import Split, decodes
from howdeep.util.errors import UserError

CHUNK_BYTES = 2**25
SAMPLED_IMAGES = 2_000


@dataclass(frozen=True)
class Normalization:
    """(x / 255 − mean) / std."""

    mean: Tensor
    """float32, broadcastable to (channels, height, width), in units of full scale."""
    std: Tensor
    """float32, broadcastable to (channels, height, width), in units of full scale."""

    def __call__(self, pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normalise uint8 pixels of shape (batch, channels, height, width), on the device of `mean`."""
        return pixels.to(torch.float32).div_(255).sub_(self.mean).div_(self.std).to(dtype)

    def to(self, device: torch.device | str) -> "Normalization":
        """Return the same normalisation with its constants on another device."""
        return Normalization(self.mean.to(device), self.std.to(device))


def normalization_of(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int | None = None
) -> Normalization | None:
    """Return the normalization of the two options, or None where neither is given.

    Args:
        mean: Subtracted from pixels in [0, 1], one per channel, or one for all.
        std: What they are divided by, as many.
        channels: Of the images; None where nobody knows.

    Raises:
        UserError: Only one is given, their lengths differ or are not that of the channels, or a standard deviation is
            not above 0.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None or len(mean) != len(std):
        raise UserError(f"--mean {mean} and --std {std} do not fit: give both, one number per channel")
    if channels is not None and len(mean) not in (1, channels):
        raise UserError(f"--mean {mean} is not allowed: the images have {channels} channels")
    if min(std) <= 0:
        raise UserError(f"--std {std} is not allowed: it must be above 0")
    return Normalization(torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1))


def per_channel(split: Split) -> Normalization:
    """Return mean and standard deviation of each channel, over images and positions (DenseNet)."""
    mean, std = _moments(_histogram(split))
    return Normalization(_full_scale(mean)[:, None, None], _full_scale(std)[:, None, None])


def per_pixel_mean(split: Split) -> Normalization:
    """Return the mean image and a standard deviation of 1: only the mean is subtracted (He et al. 2015)."""
    mean = _full_scale(_mean_image(split))
    return Normalization(mean, torch.ones_like(mean[:, :1, :1]))


def per_pixel_mean_scalar_std(split: Split) -> Normalization:
    """Return the mean image and one standard deviation of all values, as the stochastic-depth code does."""
    _, std = _moments(_histogram(split).sum(0, keepdim=True))
    return Normalization(_full_scale(_mean_image(split)), _full_scale(std)[:, None, None])


NORMALIZATIONS: dict[str, Callable[[Split], Normalization]] = {
    "per_channel": per_channel,
    "per_pixel_mean": per_pixel_mean,
    "per_pixel_mean_scalar_std": per_pixel_mean_scalar_std,
}
"""How the constants are computed from the train split, by name."""


def _chunks(split: Split) -> Iterator[Tensor]:
    """Yield the pixels of the images that constants are computed from.

    These are all of them, except where every image would have to be decoded for it: then 2,000, evenly
    spaced, as a run of photos waits for them (three seconds on one core). A mean over 2,000 photos, whose own means
    spread by 0.15, is known to about 0.003 of full scale.
    """
    count = min(len(split), SAMPLED_IMAGES) if decodes(split) else len(split)
    positions = torch.arange(count) * len(split) // count
    size = max(1, CHUNK_BYTES // split.pixels(positions[:1]).numel())
    for chunk in positions.split(size):
        yield split.pixels(chunk)


def _histogram(split: Split) -> Tensor:
    """Return how often each channel takes each value: int64 of shape (channels, 256).

    Twenty times faster than summing in int64 (50 ms against 1.1 s for 45,000 CIFAR images on one core).
    """
    return torch.stack(
        [
            torch.stack([torch.bincount(channel.reshape(-1), minlength=256) for channel in chunk.unbind(1)])
            for chunk in _chunks(split)
        ]
    ).sum(0)


def _moments(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per row of a histogram, float64, in steps of one pixel value.

    A row that never varies has that of a full scale, by which it stays as it is.
    """
    values = torch.arange(256, dtype=torch.float64)
    share = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = (share * values).sum(1)
    std = (share * (values - mean[:, None]).square()).sum(1).sqrt()
    return mean, torch.where(std == 0, 255.0, std)


def _mean_image(split: Split) -> Tensor:
    """Return the mean image, float64 of shape (channels, height, width), in steps of one pixel value."""
    total, count = torch.zeros((), dtype=torch.int64), 0
    for chunk in _chunks(split):
        total = total + chunk.sum(0, dtype=torch.int32)
        count += len(chunk)
    return total / torch.tensor(count, dtype=torch.float64)


def _full_scale(values: Tensor) -> Tensor:
    return (values / 255).to(torch.float32)
