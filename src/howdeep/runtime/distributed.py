"""More than one device: the same command under ``torchrun``, with ``torch.distributed``."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import distributed as dist
from torch import nn

from howdeep.runtime.ranks import this_process
from howdeep.util.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """Which part of a run this process is."""

    rank: int
    """Number of this process, from 0; process 0 writes and prints."""
    world: int
    """Number of processes."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def rows(self, values: list[float]) -> list[list[float]]:
        """Return some numbers of every process, in double precision, to every process: one exchange."""
        if self.world == 1:
            return [values]
        own = torch.tensor(values, dtype=torch.float64, device=_device())
        found = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(found, own)
        return [row.tolist() for row in found]

    def sums(self, values: list[float]) -> list[float]:
        """Return the sums of some numbers over all processes, in double precision."""
        return [sum(column) for column in zip(*self.rows(values), strict=True)]

    def gathered(self, value: object) -> list:
        """Return what every process holds, in the order of the processes, to every process."""
        if self.world == 1:
            return [value]
        holders: list = [None] * self.world
        dist.all_gather_object(holders, value)
        return holders

    @contextmanager
    def held_by_first(self, lock: Callable[[], AbstractContextManager]) -> Iterator[None]:
        """Hold a lock for all processes: the first one takes it, and where it cannot every one is refused.

        Raises:
            UserError: Another process, of another run, has it.
        """
        with ExitStack() as held:
            refused = None
            if self.first:
                try:
                    held.enter_context(lock())
                except UserError as error:
                    refused = error
            refused = self.from_first(refused)
            if isinstance(refused, UserError):
                raise refused
            yield

    def copy_buffers(self, module: nn.Module) -> None:
        """Give every process the running statistics of process 0."""
        if self.world > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def from_first(self, value: object) -> object:
        """Return what process 0 holds, to every process."""
        if self.world == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes of a ``torchrun``, or be alone where there is none.

    A process group that is there already, of a caller's own program, is used and left as it is.

    Raises:
        ConnectionError: Another process ended early.
    """
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    if this_process().alone:
        yield Ranks(0, 1)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        # Numbers of the host go by gloo: they do not wait for what is queued on the device.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        yield Ranks(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if _lost_another(error):
            raise ConnectionError("another process of this run ended early, and with it this one") from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _lost_another(error: RuntimeError) -> bool:
    # nccl and the store have errors of their own; gloo says where in its source a connection was lost.
    return isinstance(error, dist.DistError) or "gloo" in str(error)
