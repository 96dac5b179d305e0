"""Splits that are read many times: what they decode once is held in memory, as far as it fits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from howdeep.data.records import Split
from howdeep.data.splits import EncodedSplit

HELD_BYTES = 320_000_000
"""Pixels that one split holds at most: 2,125 colour images of 224×224."""


def held(split: Split, limit: int = HELD_BYTES) -> Split:
    """Return a split whose images are decoded once; those that do not fit any more, whenever they are asked for.

    Args:
        split: The images; a split that holds them already stays as it is.
        limit: Bytes of pixels that are held.
    """
    return HeldSplit(split, torch.arange(len(split)), limit) if isinstance(split, EncodedSplit) else split


@dataclass(frozen=True)
class HeldSplit:
    """Images of a split that decodes on demand, some of them in memory."""

    split: EncodedSplit
    """Where the others are decoded."""
    rows: Tensor
    """The positions in `split` that belong to this one, int64 of shape (n,)."""
    limit: int
    """Bytes of pixels that are held."""
    pixels_of: dict[int, Tensor] = field(default_factory=dict)
    """Pixels by position in `split`, shared by the splits that were taken from this one."""

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 of shape (n,)."""
        return self.split.labels[self.rows]

    @property
    def names(self) -> Sequence[str]:
        """Where each image came from."""
        return [str(self.split.names[row]) for row in self.rows.tolist()]

    @property
    def digests(self) -> Tensor | None:
        """What each image is, int64 of shape (n,); None where its bytes were not read yet."""
        return None if self.split.digests is None else self.split.digests[self.rows]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return images by position; see `records.Split`."""
        rows = self.rows[indices].tolist()
        missing = list(dict.fromkeys(row for row in rows if row not in self.pixels_of))
        fresh = dict(zip(missing, self.split.pixels(torch.tensor(missing, dtype=torch.int64)), strict=True))
        for row, image in fresh.items():
            if (len(self.pixels_of) + 1) * image.nbytes <= self.limit:
                # A copy: what does not fit is not kept alive by what does.
                self.pixels_of[row] = image.clone()
        found = [self.pixels_of[row] if row in self.pixels_of else fresh[row] for row in rows]
        return torch.stack(found) if found else self.split.pixels(torch.empty(0, dtype=torch.int64))

    def digests_at(self, positions: Tensor) -> Tensor:
        """Return the digests of images by position; bytes that were not read yet are read."""
        return self.split.digests_at(self.rows[positions])

    def take(self, positions: Tensor) -> "HeldSplit":
        """Return the split of these positions; what is held is shared."""
        return replace(self, rows=self.rows[positions])
