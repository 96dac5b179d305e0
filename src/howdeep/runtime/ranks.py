"""The processes of a ``torchrun``: which one this is, which of them speaks, and what they tell each other.

Which one this is, the command line asks before it needs torch, so that torch is imported where processes exchange.
A process is one of several only where the whole environment of ``torchrun`` is there: ``WORLD_SIZE`` alone is what
Slurm or Kubernetes set for purposes of their own.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from howdeep.util.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

ADDRESS, NUMBERS = ("MASTER_ADDR", "MASTER_PORT"), ("RANK", "WORLD_SIZE", "LOCAL_RANK")
COMPLAINTS, SECONDS = "howdeep/complaints", 20
"""Number of processes that failed, in the store that all of them reach; how long this store is looked for."""


class Meeting:
    """The store through which the processes find each other, one per process of the system.

    It is kept to the end: where no ``torchrun`` has one, process 0 serves it, and another one in its place would count
    failures from 0 again.
    """

    def __init__(self) -> None:
        self._store: Store | None = None
        self._joined = 0

    def store(self, within: timedelta) -> "Store":
        """Return the store, which is looked for so long.

        Raises:
            RuntimeError: Nobody serves it.
        """
        if self._store is None:
            from torch.distributed.rendezvous import rendezvous

            self._store, _, _ = next(rendezvous("env://", timeout=within))
        return self._store

    def joined(self, within: timedelta) -> "Store":
        """Return a part of the store that no earlier group of processes has written to."""
        from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

        self._joined += 1
        return PrefixStore(f"howdeep/{self._joined}", self.store(within))


MEETING = Meeting()


@dataclass(frozen=True)
class Ranks:
    """Which process of several this is, that were started together; by default the only one."""

    rank: int = 0
    """Its number, from 0."""
    world: int = 1
    """How many there are."""
    local_rank: int = 0
    """Its number on this machine, from 0: that of its device."""

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.world == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def rows(self, values: list[float]) -> list[list[float]]:
        """Return some numbers of every process, in double precision, to every process: one exchange."""
        if self.alone:
            return [values]
        import torch
        from torch import distributed as dist

        # nccl exchanges nothing of the host.
        device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
        own = torch.tensor(values, dtype=torch.float64, device=device)
        rows = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(rows, own)
        return [row.tolist() for row in rows]

    def sums(self, values: list[float]) -> list[float]:
        """Return the sums of some numbers over all processes, in double precision."""
        return [sum(column) for column in zip(*self.rows(values), strict=True)]

    def gathered(self, value: object) -> list:
        """Return what every process holds, in the order of the processes, to every process."""
        if self.alone:
            return [value]
        from torch import distributed as dist

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

    def copy_buffers(self, module: "nn.Module") -> None:
        """Give every process the running statistics of process 0."""
        if self.alone:
            return
        from torch import distributed as dist

        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)

    def from_first(self, value: object) -> object:
        """Return what process 0 holds, to every process."""
        if self.alone:
            return value
        from torch import distributed as dist

        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]


def this_process() -> Ranks:
    """Return which process this is."""
    numbers = [os.environ.get(name, "") for name in NUMBERS]
    if not all(number.isdecimal() for number in numbers) or not all(os.environ.get(name) for name in ADDRESS):
        return Ranks()
    rank, world, local_rank = map(int, numbers)
    return Ranks(rank, world, local_rank) if world > 1 else Ranks()


@contextmanager
def joined(device: "torch.device") -> Iterator[Ranks]:
    """Join the other processes of a ``torchrun``, or be alone where there is none.

    A process group that is there already, of a caller's own program, is used and left as it is.

    Raises:
        ConnectionError: Another process ended early.
    """
    import torch
    from torch import distributed as dist

    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    if this_process().alone:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        # Numbers of the host go by gloo: they do not wait for what is queued on the device.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        process, store = this_process(), MEETING.joined(dist.default_pg_timeout)
        dist.init_process_group(backend, store=store, rank=process.rank, world_size=process.world)
        yield process
    except RuntimeError as error:
        # nccl and the store have errors of their own; gloo says where in its source a connection was lost.
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise ConnectionError("another process of this run ended early, and with it this one") from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def complains_first() -> bool:
    """Return whether this process is the first that fails: what ends one ends all, and is reported once.

    All count their failures in the store through which they found each other.
    """
    process = this_process()
    if process.alone:
        return True
    try:
        return MEETING.store(timedelta(seconds=SECONDS)).add(COMPLAINTS, 1) == 1
    except (RuntimeError, ValueError):
        # The store went with the first process, which reports why it ended.
        return process.first
