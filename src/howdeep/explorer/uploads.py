"""Images that were dropped onto the page: decoded with care, kept in memory as the network sees them."""

import asyncio
import io
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from howdeep.data.decode import WHOLE_BITS, BadImage, View, decode, render
from howdeep.errors import UserError
from howdeep.explorer.sample import normalised
from howdeep.targets import Target

MAX_BYTES = 20_000_000
"""Of one image file."""
KEPT = 64
"""Images at a time; the oldest go first."""


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
        self.view = View(target.channels, height, width, target.resize, target.bits or WHOLE_BITS)
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
            pixels = torch.from_numpy(render(picture, self.view).copy())
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
