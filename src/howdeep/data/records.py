"""What the rest of the package sees of a data set: splits, data sets, and the encoded images behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from torch import Tensor

from howdeep.util.errors import UserError, unknown

SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""The names a user may give a split, and the field of `Dataset` each one means."""


class Split(Protocol):
    """One of train, validation and test: labelled images that can be fetched by position."""

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 of shape (n,), on the host."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Where each image came from: a relative path, or `train.parquet#17`."""
        ...

    @property
    def digests(self) -> Tensor | None:
        """What each image is (see `identity`), int64 of shape (n,); None where its bytes were not read yet."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def pixels(self, indices: Tensor) -> Tensor:
        """Return images as the evaluation sees them: resized by the policy, not augmented.

        Args:
            indices: Positions in this split, int64 of shape (k,).

        Returns:
            uint8 of shape (k, channels, height, width), on the host.
        """
        ...

    def take(self, positions: Tensor) -> "Split":
        """Return the split of these positions; pixels are shared, not copied."""
        ...

    def digests_at(self, positions: Tensor) -> Tensor:
        """Return the digests of images by position; bytes that were not read yet are read."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Labelled images in up to three splits, all of one shape."""

    name: str
    """What the data is called in tables and records."""
    classes: tuple[str, ...]
    """Class names; a label is a position in this tuple."""
    channels: int
    """1 for grayscale, 3 for colour."""
    height: int
    """Rows of pixels the network sees."""
    width: int
    """Columns of pixels the network sees."""
    train: Split | None
    """What parameters are fitted to; `None` where the data holds nothing to train on."""
    validation: Split | None
    """What choices are made by."""
    test: Split | None
    """What is read once, at the end."""
    bits: int = 16
    """How many bits the values of 16-bit grayscale images are taken to use."""
    notes: tuple[str, ...] = ()
    """Decisions worth printing, such as `validation: stratified 10 % of train, seed 0`."""
    skipped: tuple["Problem", ...] = ()
    """The broken images that were left out on request."""
    unused: Split | None = None
    """Images that are in no split: training images beyond a limit, copies of images that are held out."""
    changes: tuple[str, ...] = ()
    """Those of the notes that say how the images differ from the recorded ones of a run."""

    def split(self, name: str) -> Split:
        """Return the split a user means by `train`, `val`, `validation` or `test`.

        Raises:
            UserError: There is no such name, or this data set has no such split.
        """
        if name not in SPLIT_NAMES:
            raise unknown("split", name, SPLIT_NAMES)
        found: Split | None = getattr(self, SPLIT_NAMES[name])
        if found is None:
            present = [field for field in ("train", "validation", "test") if getattr(self, field) is not None]
            raise UserError(f"{self.name} has no {SPLIT_NAMES[name]} split; it has {', '.join(present)}")
        return found


class Images(Protocol):
    """Images that are still encoded (JPEG, PNG, …), opened one at a time."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def stream(self, index: int) -> BinaryIO:
        """Return the encoded bytes of one image as a file, to be closed by the caller."""
        ...

    def length(self, index: int) -> int:
        """Return the number of those bytes."""
        ...


@dataclass(frozen=True)
class Listing:
    """The encoded images of one split, as a source found them."""

    images: Images
    """The encoded images."""
    labels: Tensor
    """Class indices, int64 of shape (n,)."""
    names: Sequence[str]
    """Where each image came from."""


@dataclass(frozen=True)
class Source:
    """What lies at the place a user named, before anything is decoded."""

    name: str
    """What the data is called."""
    classes: tuple[str, ...]
    """Class names in the order of the labels."""
    parts: Mapping[str, Listing]
    """Listings by split: some of `train`, `validation`, `test`, never none."""
    notes: tuple[str, ...] = ()
    """What was ignored or decided while listing."""


@dataclass(frozen=True)
class Problem:
    """An image that cannot be used, and why."""

    name: str
    """Where the image is."""
    split: str
    """The split it belongs to."""
    kind: str
    """One of `empty`, `not an image`, `broken`, `oversized`, `unreadable`, `unsupported`."""
    reason: str
    """What was found, in a few words."""
