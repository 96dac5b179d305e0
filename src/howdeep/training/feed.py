"""Where the mini-batches of a run come from: the splits of a data set, or loaders of a caller."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch

from howdeep.data import (
    Augmentation,
    Batch,
    Dataset,
    Normalization,
    Split,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from howdeep.data.batches import EVALUATED
from howdeep.data.loaders import LoaderBatches
from howdeep.data.sampling import sample
from howdeep.runtime.ranks import Ranks
from howdeep.training.precision import batch_shape
from howdeep.training.recipes import Recipe
from howdeep.util.errors import UserError


class Feed(Protocol):
    """What a run is trained on and validated by, as mini-batches on its device."""

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches of an epoch."""
        ...

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of one process's share of a whole mini-batch: images, channels, height, width."""
        ...

    @property
    def whole(self) -> int:
        """Images of a whole mini-batch, over all processes."""
        ...

    @property
    def validated(self) -> int:
        """Images of a validation; of loaders about so many."""
        ...

    def training(self, start: int, stop: int) -> Iterator[Batch]:
        """Return the batches of the steps from ``start`` up to, not including, ``stop``."""
        ...

    def plain(self, count: int) -> Iterable[Batch]:
        """Return so many training images at most, as they are evaluated, this process's share."""
        ...

    def validation(self) -> Iterable[Batch] | None:
        """Return what choices are made by, this process's share; None where there is nothing."""
        ...

    def laid_out(self, *, channels_last: bool) -> Self:
        """Return the same mini-batches in a memory format."""
        ...


@dataclass(frozen=True, kw_only=True)
class SplitFeed:
    """The mini-batches of a data set: their order and augmentation are a function of the seed and the step."""

    dataset: Dataset
    normalization: Normalization
    augmentation: Augmentation
    recipe: Recipe
    """For the size of a mini-batch, over all processes."""
    seed: int
    device: torch.device
    workers: int
    """Processes that decode large images."""
    ranks: Ranks
    channels_last: bool = False

    @property
    def images(self) -> int:
        """Training images of an epoch."""
        return len(self.dataset.split("train"))

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.images, self.recipe.batch_size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return batch_shape(self.recipe, self.dataset, self.ranks.world)

    @property
    def whole(self) -> int:
        return min(self.recipe.batch_size, self.images)

    @property
    def validated(self) -> int:
        return 0 if self.dataset.validation is None else len(self.dataset.validation)

    def training(self, start: int, stop: int) -> Iterator[Batch]:
        return training_batches(
            self.dataset.split("train"),
            normalization=self.normalization,
            augmentation=self.augmentation,
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            start_step=start,
            stop_step=stop,
            device=self.device,
            classes=len(self.dataset.classes),
            channels_last=self.channels_last,
            rank=self.ranks.rank,
            world=self.ranks.world,
            workers=self.workers,
        )

    def plain(self, count: int) -> Iterable[Batch]:
        return self.evaluation(sample(self.dataset.split("train"), count, self.seed), self.ranks)

    def validation(self) -> Iterable[Batch] | None:
        split = self.dataset.validation
        return None if split is None else self.evaluation(split, self.ranks)

    def evaluation(self, split: Split, ranks: Ranks, batch_size: int = EVALUATED) -> Iterable[Batch]:
        """Return the images of a split in its order, not augmented."""
        return evaluation_batches(
            split,
            normalization=self.normalization,
            batch_size=batch_size,
            device=self.device,
            channels_last=self.channels_last,
            workers=self.workers,
            rank=ranks.rank,
            world=ranks.world,
        )

    def laid_out(self, *, channels_last: bool) -> Self:
        return replace(self, channels_last=channels_last)


@dataclass(frozen=True)
class LoaderFeed:
    """The mini-batches of loaders, in the order in which they come; of single images, in an order by seed."""

    train: LoaderBatches
    choosing: LoaderBatches | None
    """What choices are made by."""
    shape: tuple[int, int, int, int]
    """That of the first mini-batch, of which every whole one has as many images."""
    seed: int
    channels_last: bool = False

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train)

    @property
    def whole(self) -> int:
        return self.shape[0]

    @property
    def validated(self) -> int:
        return 0 if self.choosing is None else len(self.choosing) * self.whole

    def training(self, start: int, stop: int) -> Iterator[Batch]:
        step = start
        while step < stop:
            before = step
            for batch in self.train.shuffled(self.seed, step // self.steps_per_epoch):
                if step == stop:
                    return
                yield self._laid_out(batch)
                step += 1
            if step == before:
                raise UserError(f"{self.train.name} yields no mini-batch any more")

    def validation(self) -> Iterable[Batch] | None:
        return None if self.choosing is None else map(self._laid_out, self.choosing)

    def plain(self, count: int) -> Iterable[Batch]:
        return map(self._laid_out, self.train.plain(count, self.seed))

    def laid_out(self, *, channels_last: bool) -> Self:
        return replace(self, channels_last=channels_last)

    def _laid_out(self, batch: Batch) -> Batch:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return replace(batch, images=batch.images.contiguous(memory_format=layout))
