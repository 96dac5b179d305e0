"""The images that the page measures on: drawn once, by seed, and kept in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from howdeep.data import Batch, Dataset, Split
from howdeep.data.sampling import sample
from howdeep.inference import required_normalization
from howdeep.targets import Target

CHUNK = 64
"""Images that pass the network at a time: a turn of computing is one such pass, and maps of so many stay in cache."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images of a split with their labels."""

    pixels: Tensor
    """uint8, shape (n, channels, height, width), on the host, as they are shown."""
    batches: Sequence[Batch]
    """The same, normalised, on the device, a chunk at a time."""

    @property
    def labels(self) -> Tensor:
        """Class indices, shape (n,), on the host."""
        return torch.cat([batch.labels for batch in self.batches]).cpu()


def draw_sample(
    target: Target, dataset: Dataset, *, split: str, images: int, seed: int, device: torch.device
) -> Sample:  # fmt: skip
    """Return so many images of a split, a stratified sample by seed, or all where there are fewer.

    Raises:
        UserError: The data has no such split, or it is not known how pixels are normalised.
    """
    return sample_of(target, sample(dataset.split(split), images, seed), device)


def sample_of(target: Target, split: Split, device: torch.device) -> Sample:
    """Return all images of a split as a sample."""
    pixels = split.pixels(torch.arange(len(split)))
    return Sample(pixels=pixels, batches=normalised(target, pixels, split.labels, device))


def normalised(target: Target, pixels: Tensor, labels: Tensor, device: torch.device) -> list[Batch]:
    """Return images as a network reads them, a chunk at a time."""
    constants = required_normalization(target).to(device)
    chunks = zip(pixels.split(CHUNK), labels.split(CHUNK), strict=True)
    return [
        Batch(constants(some.to(device)).contiguous(memory_format=torch.channels_last), truth.to(device), len(truth))
        for some, truth in chunks
    ]  # fmt: skip
