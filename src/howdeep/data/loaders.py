"""Loaders: what a caller gives where mini-batches are wanted.

A loader is anything that can be iterated more than once and yields ``(images, labels)``, or a mapping that has them by
the usual names: mini-batches, as a DataLoader does, or single images, as a data set does, which are put together here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from functools import cached_property
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from howdeep.chain import Chain
from howdeep.data.batches import Batch
from howdeep.data.split_loaders import SplitLoader
from howdeep.runtime.device import sent
from howdeep.runtime.modes import evaluating
from howdeep.util.errors import UserError, reason
from howdeep.util.seeds import generator

IMAGES, LABELS = ("image", "images", "img", "pixel_values"), ("label", "labels")
"""What mappings call images and labels."""
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
BATCH = 100
"""Single images that are put together, where nothing else says how many."""


Loader = Iterable[Any] | Sequence[Any] | TorchDataset
"""What mini-batches are read from; see above."""


def batches_of(chain: Chain, given: object, *, name: str = "the loader", same_classes: bool = True) -> Sequence[Batch]:
    """Return what a caller gave as mini-batches for a chain, on its device; batches of this package as they are.

    Args:
        chain: The network.
        given: The loader.
        name: What errors call it.
        same_classes: Labels must be classes of the network; else any that count from 0.

    Raises:
        UserError: It can be iterated once only, or not at all.
    """
    if isinstance(given, Batches) or (isinstance(given, list | tuple) and all(isinstance(one, Batch) for one in given)):
        return given
    return LoaderBatches(chain, given, name=name, same_classes=same_classes)


class Batches(Sequence[Batch]):
    """Mini-batches of this package, which need no check; a batch that is asked for may be made then."""

    def at(self, index: int) -> Batch:
        """Return one of them, counted from 0."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.at(index)


class LoaderBatches(Batches):
    """The mini-batches of a loader; every pass iterates it anew, and so does going back to an earlier batch.

    What it yields is checked: types and shapes, that labels are classes of the network, that the network reads such
    images.

    Args:
        chain: The network, on whose device the batches are put.
        given: The loader.
        name: What errors call it.
        batch_size: Images of a mini-batch, where it yields single ones.
        soft: Labels may be shares of every class, float of shape (batch, classes), as mixed images have.
        same_classes: Labels must be classes of the network; else any that count from 0.

    Raises:
        UserError: It can be iterated once only, or not at all.
    """

    def __init__(
        self,
        chain: Chain,
        given: object,
        *,
        name: str = "the loader",
        batch_size: int = BATCH,
        soft: bool = False,
        same_classes: bool = True,
    ) -> None:
        if isinstance(given, Iterator):
            what = type(given).__name__
            raise UserError(f"{name} is a {what}, which yields once only: give a list, a DataLoader or a data set")
        if isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(one, Tensor) for one in given):
            given = TensorDataset(*given)
        if not isinstance(given, Iterable) and not _indexed(given):
            raise UserError(f"{name} is a {type(given).__name__}: it must yield (images, labels)")
        self.chain, self.given, self.name, self.batch_size, self.soft = chain, given, name, batch_size, soft
        self.same_classes = same_classes
        tensors = [one for one in (*chain.parameters(), *chain.buffers()) if one.is_floating_point()]
        self.device, self.dtype = (tensors[0].device, tensors[0].dtype) if tensors else (torch.device("cpu"), None)
        self.outputs = 0
        """Logits of the network, from the first image on; or those that another classifier will give."""
        self._read = False
        self._at: tuple[int, Batch] | None = None
        self._rest: Iterator[Batch] = iter(())

    def __iter__(self) -> Iterator[Batch]:
        return self._batches(self._items())

    def shuffled(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Return one pass for training: single images in an order by seed, mini-batches in the order of the loader.

        Args:
            seed: Of the run; a loader of this package has one of its own.
            epoch: Number of the pass.
        """
        if isinstance(self.given, SplitLoader):
            return self._batches(self.given.of_epoch(epoch))
        if self.single and _indexed(self.given):
            order = torch.randperm(len(self.given), generator=generator(seed, "order", epoch))  # type: ignore[arg-type]
            return self._batches(self.given[position] for position in order.tolist())  # type: ignore[index]
        return iter(self)

    def plain(self, count: int, seed: int) -> Iterator[Batch]:
        """Yield mini-batches of so many images, or the few more of a whole one.

        A loader of this package gives a stratified sample, not augmented; of others it is the first pass, as they are.
        """
        if isinstance(self.given, SplitLoader):
            yield from self._batches(iter(self.given.plain(count, seed)))
            return
        seen = 0
        for batch in self.shuffled(seed, 0):
            yield batch
            seen += len(batch.labels)
            if seen >= count:
                return

    def classes(self) -> int:
        """Return how many classes the labels tell apart: one more than the highest, or as many as they are shares of.

        The network need not have as many. It takes one pass, but for a loader of this package.

        Raises:
            UserError: Labels are no classes, or fewer than two.
        """
        if isinstance(self.given, SplitLoader):
            return len(self.given.classes)
        highest, count = -1, 0
        for item in self._items():
            labels = item.labels if isinstance(item, Batch) else self._pair(item)[1]
            if labels.is_floating_point() and labels.dim():
                return labels.shape[-1]
            if labels.dtype not in INTEGERS:
                kind = str(labels.dtype).removeprefix("torch.")
                raise UserError(f"{self.name} yields labels of {kind}: they must be class indices")
            highest, count = max([highest, *labels.flatten().tolist()]), count + labels.numel()
        if not 1 <= highest < count:
            why = "nothing is to be told apart" if highest < 1 else "classes count from 0, and each has an image"
            raise UserError(f"{self.name} yields labels of 0 to {highest} with {count:,} images: {why}")
        return highest + 1

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        """How many there are; a loader that does not know is iterated once."""
        try:
            count = len(self.given) if isinstance(self.given, Sized) else None
        except TypeError:  # a DataLoader of a data set that does not know
            count = None
        if count is None:
            count = sum(1 for _ in self._items())
        return -(-count // self.batch_size) if count and self.single else count

    def at(self, index: int) -> Batch:
        """Return one of them, counted from 0; those before it are iterated too."""
        if self._at is None or index < self._at[0]:
            self._at, self._rest = None, iter(self)
        while self._at is None or self._at[0] < index:
            number, batch = -1 if self._at is None else self._at[0], next(self._rest, None)
            if batch is None:
                raise UserError(f"{self.name} yields {number + 1} mini-batches, and says that it has {len(self)}")
            self._at = number + 1, batch
        return self._at[1]

    @cached_property
    def single(self) -> bool:
        """Whether it yields single images."""
        first = next(self._items(), None)
        return first is not None and not isinstance(first, Batch) and self._pair(first)[0].dim() == 3

    def _items(self) -> Iterator[Any]:
        # A data set of torch has positions and no iterator; Python's own would ask until one is refused.
        if isinstance(self.given, Iterable):
            return iter(self.given)
        return (self.given[position] for position in range(len(self.given)))  # type: ignore[index]

    def _batches(self, items: Iterator[Any]) -> Iterator[Batch]:
        """Yield checked mini-batches of what the loader yields."""
        waiting: list[tuple[Tensor, Tensor]] = []
        for item in items:
            if isinstance(item, Batch):
                yield item
                continue
            images, labels = self._pair(item)
            if images.dim() != 3:
                yield self._checked(images, labels)
                continue
            waiting.append((images, labels))
            if len(waiting) == self.batch_size:
                yield self._joined(waiting)
                waiting.clear()
        if waiting:
            yield self._joined(waiting)

    def _pair(self, item: Any) -> tuple[Tensor, Tensor]:
        """Return images and labels of what the loader yields."""
        parts, what = item, type(item).__name__
        if isinstance(item, Mapping):
            named = [[item[name] for name in names if name in item][:1] for names in (IMAGES, LABELS)]
            parts, what = (
                [part for parts in named for part in parts],
                f"a mapping with {', '.join(map(str, item)) or 'nothing'}",
            )
        elif isinstance(item, Sequence) and not isinstance(item, str | bytes):
            what = f"{what} of {len(item)}"
        if not isinstance(parts, Sequence) or len(parts) != 2 or isinstance(parts, str | bytes):
            raise UserError(f"{self.name} yields {what}: it must yield (images, labels)")
        try:
            images, labels = torch.as_tensor(parts[0]), torch.as_tensor(parts[1])
        except (TypeError, ValueError, RuntimeError):
            kinds = " and ".join(type(part).__name__ for part in parts)
            raise UserError(f"{self.name} yields {kinds}: images and labels must be tensors") from None
        return images, labels

    def _joined(self, singles: Sequence[tuple[Tensor, Tensor]]) -> Batch:
        images, labels = zip(*singles, strict=True)
        shapes = list(dict.fromkeys(tuple(image.shape) for image in images))
        if len(shapes) > 1:
            raise UserError(f"{self.name} yields images of {shapes[0]} and {shapes[1]}: bring them to one shape")
        return self._checked(torch.stack(images), torch.stack(labels))

    def _checked(self, images: Tensor, labels: Tensor) -> Batch:
        """Return a mini-batch on the network's device.

        Raises:
            UserError: The network cannot be measured on it; one line says why.
        """
        if images.dim() != 4:
            shape = tuple(images.shape)
            raise UserError(f"{self.name} yields images of {shape}: it must be (batch, channels, height, width)")
        if not images.is_floating_point():
            kind = str(images.dtype).removeprefix("torch.")
            raise UserError(f"{self.name} yields images of {kind}: they must be floats, normalised for the network")
        images = sent(images if self.dtype is None else images.to(self.dtype), self.device)
        if not self._read:
            found, self._read = _outputs(self.chain, images[:1]), True
            self.outputs = self.outputs or found
        shares, indices = self.soft and labels.is_floating_point(), labels.dtype in INTEGERS
        if tuple(labels.shape) != ((len(images), self.outputs) if shares else (len(images),)) or not shares | indices:
            what = f"{str(labels.dtype).removeprefix('torch.')} of {tuple(labels.shape)}"
            raise UserError(f"{self.name} yields labels of {what}: they must be class indices of ({len(images)},)")
        if indices and len(labels):
            least, most = int(labels.min()), int(labels.max())
            if least < 0 or (self.same_classes and most >= self.outputs):
                wrong = least if least < 0 else most
                known = f"the network has classes 0 to {self.outputs - 1}" if self.same_classes else "they count from 0"
                raise UserError(f"{self.name} yields label {wrong}: {known}")
        return Batch(images, sent(labels if shares else labels.long(), self.device), len(images))


def _indexed(given: object) -> bool:
    """Return whether a loader has a length, and what it yields by position."""
    return hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, str | Mapping)


def _outputs(chain: Chain, image: Tensor) -> int:
    """Return how many logits a network gives for one image.

    Raises:
        UserError: It does not read such images, or does not return logits.
    """
    shape = tuple(image.shape[1:])
    try:
        with evaluating(chain), torch.no_grad():
            logits = chain(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f"the network does not read images of {shape}: {reason(error)}") from None
    if logits.dim() != 2:
        raise UserError(f"the network returns {tuple(logits.shape)} for one image: logits are (batch, classes)")
    return logits.shape[1]
