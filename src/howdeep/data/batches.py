"""Splits on their way to the device: mini-batches of training and of evaluation, decoded here or by workers."""

import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import tee

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from howdeep.data.augmentation import Augmentation, Draws, augmented, draw_epoch, shift_and_flip
from howdeep.data.dataset import Split, decodes
from howdeep.data.normalization import Normalization
from howdeep.runtime.device import laid_out, sent
from howdeep.runtime.interrupt import SIGNALS
from howdeep.util.errors import UserError


@dataclass(frozen=True)
class Batch:
    """One rank's share of a mini-batch."""

    images: Tensor
    """Normalised, float32 of shape (share, channels, height, width)."""
    labels: Tensor
    """Class indices, int64 of shape (share,); of mixed images the share of every class, float of (share, classes)."""
    total: int
    """Number of images in the mini-batch over all ranks."""


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Return how many mini-batches an epoch has; the last, smaller one is kept."""
    return -(-num_images // batch_size)


def training_batches(
    split: Split,
    *,
    normalization: Normalization,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    start_step: int,
    stop_step: int,
    device: torch.device | str,
    channels_last: bool = False,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield the shuffled, augmented batches of the steps from `start_step` up to, not including, `stop_step`.

    Epochs follow each other; step s belongs to epoch s // `steps_per_epoch`. Within an epoch every image
    comes exactly once, over all ranks. A share is empty where the last batch of an epoch has fewer images
    than there are ranks.

    Args:
        split: The images.
        normalization: Applied before the crop, so that padding is zero for the network.
        augmentation: What is drawn at random.
        batch_size: Size of the mini-batch over all ranks.
        seed: Decides order and augmentation, together with the epoch.
        start_step: The first step.
        stop_step: The step after the last one.
        device: Where normalisation, crops and flips are computed, and where batches lie.
        channels_last: Whether images are laid out with the channels last.
        rank: Which contiguous share of each batch is wanted.
        world: Number of ranks.
        workers: Processes that decode and augment images; ignored where neither is done image by image.

    Raises:
        UserError: An image turned out to be broken when it was decoded.
    """
    if augmentation.crop is not None and (not workers or START == "fork"):
        split.keep(_enough(split, augmentation), world)
    constants = normalization.to(device)
    steps = range(start_step, stop_step)
    shares, ahead = tee(_shares(len(split), augmentation, batch_size, seed, steps, rank, world))
    requests = (Request(draws.order, augmentation, draws) for draws, _ in ahead)
    workers = workers if augmentation.per_image or decodes(split) else 0
    for (draws, total), pixels in zip(shares, _answers(split, requests, workers, device), strict=True):
        images = shift_and_flip(constants(pixels), augmentation, draws)
        labels = sent(split.labels[draws.order], device)
        yield Batch(laid_out(images, channels_last=channels_last), labels, total)


def evaluation_batches(
    split: Split,
    *,
    normalization: Normalization,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
    channels_last: bool = False,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterable[Batch]:
    """Return the images of a split in file order, not augmented; every pass decodes them anew.

    Args:
        split: The images.
        normalization: Applied on the device.
        batch_size: Images per batch over all ranks; the last batch may be smaller.
        device: Where batches lie.
        channels_last: Whether images are laid out with the channels last.
        workers: Processes that decode images; without use, and ignored, for images in memory.
        rank: Which contiguous share of each batch is wanted; it may be empty in the last batch.
        world: Number of ranks.

    Raises:
        UserError: An image turned out to be broken when it was decoded.
    """
    batches = torch.arange(len(split)).split(batch_size)
    shares = [positions[_share(len(positions), rank, world)] for positions in batches]
    workers, constants = workers if decodes(split) else 0, normalization.to(device)

    def once() -> Iterator[Batch]:
        decoded = _answers(split, (Request(positions) for positions in shares), workers, device)
        for batch, positions, pixels in zip(batches, shares, decoded, strict=True):
            labels = sent(split.labels[positions], device)
            yield Batch(laid_out(constants(pixels), channels_last=channels_last), labels, len(batch))

    return _Again(once)


@dataclass(frozen=True)
class _Again:
    """What begins anew with every pass."""

    once: Callable[[], Iterator[Batch]]

    def __iter__(self) -> Iterator[Batch]:
        return self.once()


def _share(total: int, rank: int, world: int) -> slice:
    """Return the contiguous part of a batch that belongs to one rank; sizes differ by one at most."""
    return slice(rank * total // world, (rank + 1) * total // world)


def _shares(
    count: int, augmentation: Augmentation, batch_size: int, seed: int, steps: range, rank: int, world: int
) -> Iterator[tuple[Draws, int]]:
    """Yield for every step the draws of one rank's share, and the size of the whole batch."""
    per_epoch = steps_per_epoch(count, batch_size)
    drawn, epoch = -1, None
    for step in steps:
        if epoch is None or drawn != step // per_epoch:
            drawn = step // per_epoch
            epoch = draw_epoch(count, augmentation, seed=seed, epoch=drawn)
        first = step % per_epoch * batch_size
        total = min(batch_size, count - first)
        yield epoch.at(slice(first, first + total)).at(_share(total, rank, world)), total


class WorkerError(OSError):
    """A process that decodes images died."""


@dataclass(frozen=True)
class Request:
    """Some images of a split, as the evaluation sees them or after all that is done per image at random."""

    positions: Tensor
    """int64 of shape (k,)."""
    augmentation: Augmentation | None = None
    """What is done to them; None for nothing."""
    draws: Draws | None = None
    """How it is done."""


def fetch(split: Split, request: Request) -> Tensor:
    """Return the pixels of a request, uint8 of shape (k, channels, height, width), on the host.

    Raises:
        UserError: An image is broken.
    """
    augmentation, draws = request.augmentation, request.draws
    if augmentation is None or draws is None or not augmentation.per_image:
        return split.pixels(request.positions)
    _, height, width = split.shape
    pixels = torch.empty((len(request.positions), *split.shape), dtype=torch.uint8)
    drawn = zip(pixels, request.positions.tolist(), draws.seeds.tolist(), draws.mirrored.tolist(), strict=True)
    for slot, position, seed, mirrored in drawn:
        if augmentation.crop is None:
            image = split.pixels(torch.tensor([position]))[0]
        else:
            image = split.whole(position, _enough(split, augmentation))
        slot.copy_(augmented(image, (height, width), augmentation, seed=seed, mirrored=mirrored))
    return pixels


def _enough(split: Split, augmentation: Augmentation) -> float:
    """Return the pixels that are enough of an image: its smallest crop has as many as the network sees."""
    assert augmentation.crop is not None, "it is cropped"
    _, height, width = split.shape
    return height * width / augmentation.crop[0]


@dataclass(frozen=True)
class _Answers(TorchDataset):
    """Answers requests in a worker; returns errors, which a worker would wrap in a traceback."""

    split: Split

    def __getitem__(self, request: Request) -> Tensor | UserError:
        try:
            return fetch(self.split, request)
        except UserError as error:
            return error


START = "fork" if sys.platform == "linux" else "spawn"
"""How workers start: forked ones share decoded images, and begin at once whatever the version's own default is."""


def _ignore_signals(worker: int) -> None:
    """Leave to the first process what a terminal, Slurm or a container sends to all processes of a command."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _answers(split: Split, requests: Iterator[Request], workers: int, device: torch.device | str) -> Iterator[Tensor]:
    """Answer requests in order, with pixels on the device."""
    if workers:
        answers = _from_workers(split, requests, workers, pinned=torch.device(device).type == "cuda")
    else:
        answers = (fetch(split, request) for request in requests)
    # Closed while its queues work: workers that the garbage collector finds in a cycle with an error are not told to
    # end, and since they ignore signals the end of the program would wait for them for ever.
    with closing(answers):
        for pixels in answers:
            if isinstance(pixels, UserError):
                raise UserError(str(pixels))  # itself, it would hold the frame that holds it
            yield sent(pixels, device)


def _from_workers(split: Split, requests: Iterator[Request], workers: int, *, pinned: bool) -> Generator:
    """Answer requests in order, by processes.

    Raises:
        WorkerError: A process died: the system ended it.
    """
    loader = DataLoader(
        _Answers(split),
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_ignore_signals,
        multiprocessing_context=START,
    )
    # They are started while no signal can arrive, so that none reaches one before it ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        answers = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield from answers
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).partition(". ")[0].rstrip(".")
        raise WorkerError(
            f"a process that decodes images died ({reason}): memory may be short; give fewer than --workers {workers}"
        ) from error
