"""The processes of a ``torchrun``: which one this is, and which of them speaks. Torch is not needed to know the first.

A process is one of several only where the whole environment of ``torchrun`` is there: ``WORLD_SIZE`` alone is what
Slurm or Kubernetes set for purposes of their own.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

ADDRESS, NUMBERS = ("MASTER_ADDR", "MASTER_PORT"), ("RANK", "WORLD_SIZE", "LOCAL_RANK")
COMPLAINTS, SECONDS = "howdeep/complaints", 20
"""How many processes had something to complain of, in the store that all of them reach; how long it is looked for."""


@dataclass(frozen=True)
class Process:
    """One process of several that were started together, or the only one."""

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
        """Whether this is the one that prints and writes."""
        return self.rank == 0


def this_process() -> Process:
    """Return which process this is."""
    numbers = [os.environ.get(name, "") for name in NUMBERS]
    if not all(number.isdecimal() for number in numbers) or not all(os.environ.get(name) for name in ADDRESS):
        return Process()
    rank, world, local_rank = map(int, numbers)
    return Process(rank, world, local_rank) if world > 1 else Process()


def complains_first() -> bool:
    """Return whether no other process had something to complain of before: what ends one ends all, and is said once.

    All count their complaints in the store through which they found each other.
    """
    process = this_process()
    if process.alone:
        return True
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=SECONDS)))
        return store.add(COMPLAINTS, 1) == 1
    except (RuntimeError, ValueError):
        # The store went with the first process, which does not go without a word.
        return process.first
