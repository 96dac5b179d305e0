"""The pixels of images, decoded and augmented one by one: here, or by processes that do nothing else."""

import signal
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from howdeep.data.augmentation import Augmentation, Draws, augmented
from howdeep.data.dataset import Split
from howdeep.runtime.device import sent
from howdeep.runtime.process import SIGNALS, patience
from howdeep.util.errors import UserError

START = "fork" if sys.platform == "linux" else "spawn"
"""How workers start: forked ones share decoded images, and begin at once whatever the version's own default is."""


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
            image = split.whole(position, enough(split, augmentation))
        slot.copy_(augmented(image, (height, width), augmentation, seed=seed, mirrored=mirrored))
    return pixels


def enough(split: Split, augmentation: Augmentation) -> float:
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


def _ignore_signals(worker: int) -> None:
    """Leave to the first process what a terminal, Slurm or a container sends to all processes of a command."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def answers(split: Split, requests: Iterator[Request], workers: int, device: torch.device | str) -> Iterator[Tensor]:
    """Answer requests in order, with pixels on the device."""
    if workers:
        found = _from_workers(split, requests, workers, pinned=torch.device(device).type == "cuda")
    else:
        found = (fetch(split, request) for request in requests)
    # Closed while its queues work: workers that the garbage collector finds in a cycle with an error are not told to
    # end, and since they ignore signals the end of the program would wait for them for ever.
    with closing(found):
        for pixels in found:
            if isinstance(pixels, UserError):
                raise UserError(str(pixels))  # itself, it would hold the frame that holds it
            yield sent(pixels, device)


def _from_workers(split: Split, requests: Iterator[Request], workers: int, *, pinned: bool) -> Generator:
    """Answer requests in order, by processes.

    Raises:
        WorkerError: A process died: the system ended it.
    """
    # They are started while no signal can arrive, so that none reaches one before it ignores them. Another thread may
    # receive it still: it waits, since half of an iterator cannot end its workers. That there are more of them than
    # processors is the user's own choice, which torch would warn of.
    with patience(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader = DataLoader(
            _Answers(split),
            batch_size=None,
            sampler=requests,
            num_workers=workers,
            pin_memory=pinned,
            worker_init_fn=_ignore_signals,
            multiprocessing_context=START,
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            found = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield from found
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).partition(". ")[0].rstrip(".")
        raise WorkerError(
            f"a process that decodes images died ({reason}): memory may be short; give fewer than --workers {workers}"
        ) from error
