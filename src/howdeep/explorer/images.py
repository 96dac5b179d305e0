"""The images of the page: the sample that it measures on, drawn once by seed, and those that are dropped on it."""

import asyncio
import io
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from howdeep.analysis.evaluation import fingerprint
from howdeep.data import Batch, Dataset
from howdeep.data.decoding import BadImage, decode
from howdeep.data.sampling import sample, shuffled
from howdeep.runs.target import Target, required_normalization
from howdeep.runtime.parts import parts_of
from howdeep.util.errors import UserError

CHUNK = 64
"""Images that pass the network at a time, of photos on a host fewer (see :mod:`howdeep.runtime.parts`): one such pass
is a turn of computing, and what they become stays in cache."""
MAX_BYTES = 20_000_000
"""Of one image file."""
KEPT = 64
"""Images at a time; the oldest go first."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images of a split with their labels."""

    pixels: Tensor
    """uint8, shape (n, channels, height, width), on the host, as they are shown."""
    fingerprint: str
    """Which images these are, in which order."""
    batches: Sequence[Batch]
    """The same, normalised, on the device, a chunk at a time."""

    @property
    def labels(self) -> Tensor:
        """Class indices, shape (n,), on the host."""
        return torch.cat([batch.labels for batch in self.batches]).cpu()


def draw_sample(
    target: Target, dataset: Dataset, *, split: str, images: int, seed: int, device: torch.device
) -> Sample:
    """Return images of a split, a stratified sample by seed, or all where there are fewer; mixed by seed.

    So are the first of them a fair sample as well.

    Raises:
        UserError: The data has no such split, or it is not known how pixels are normalised.
    """
    drawn = shuffled(sample(dataset.split(split), images, seed), seed)
    pixels = drawn.pixels(torch.arange(len(drawn)))
    batches = normalised(target, pixels, drawn.labels, device)
    return Sample(pixels=pixels, fingerprint=fingerprint(drawn), batches=batches)


def normalised(target: Target, pixels: Tensor, labels: Tensor, device: torch.device) -> list[Batch]:
    """Return images as a network reads them, a chunk at a time."""
    constants, batches = required_normalization(target).to(device), []
    for some, truth in zip(pixels.split(CHUNK), labels.split(CHUNK), strict=True):
        images = constants(some.to(device)).contiguous(memory_format=torch.channels_last)
        parts = parts_of(target.chain, images)
        truths = truth.to(device).split(len(parts[0]))
        batches += [Batch(part, own, len(own)) for part, own in zip(parts, truths, strict=True)]
    return batches


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One image."""

    pixels: Tensor
    """uint8, shape (channels, height, width), on the host."""
    image: Tensor
    """Normalised, shape (1, channels, height, width), on the device."""
    width: int
    """Of the file."""
    height: int
    """Of the file."""


class Uploads:
    """Images by token.

    Args:
        target: The network that sees them.
        height: As it sees them, in pixels.
        width: The same.
        device: Where it is.
    """

    def __init__(self, target: Target, height: int, width: int, device: torch.device) -> None:
        self.target, self.device = target, device
        self.view = target.view(height, width)
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._one = asyncio.Lock()  # a decoded file may take hundreds of megabytes

    async def read(self, content: AsyncIterator[bytes]) -> tuple[str, Upload]:
        """Receive and decode one file, as :meth:`add`."""
        async with self._one:
            whole = b"".join([part async for part in content])
            return await asyncio.to_thread(self.add, whole)

    def add(self, content: bytes) -> tuple[str, Upload]:
        """Decode an image file and return the token under which it is kept.

        Raises:
            UserError: It is not an image, is damaged, or declares too many pixels; nothing was decoded then.
        """
        try:
            picture = decode(io.BytesIO(content), self.view.channels, self.view.bits)
            pixels = torch.from_numpy(self.view.render(picture).copy())
        except BadImage as error:
            raise UserError(f"the image cannot be used: {error}") from None
        (batch,) = normalised(self.target, pixels[None], torch.zeros(1, dtype=torch.int64), self.device)
        upload = Upload(pixels=pixels, image=batch.images, width=picture.width, height=picture.height)
        token = secrets.token_urlsafe(12)
        self._kept[token] = upload
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return token, upload

    def get(self, token: str) -> Upload:
        """Return an image.

        Raises:
            UserError: It is not there, or no longer.
        """
        if token not in self._kept:
            raise UserError("the image that was dropped is gone; drop it again")
        return self._kept[token]


def png(pixels: Tensor) -> bytes:
    """Return an image, uint8 of shape (channels, height, width), as a PNG file."""
    array = pixels.permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(stream, "PNG")
    return stream.getvalue()
