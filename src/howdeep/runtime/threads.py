"""Threads of the host that may be chosen, and the memory that its allocator keeps.

Which number of threads is fastest, :mod:`howdeep.runtime.timing` measures.
"""

import ctypes
import os
import platform
from typing import Annotated, Literal

import tyro.conf

from howdeep.util.errors import UserError

Threads = Annotated[Literal["auto"] | int, tyro.conf.arg(metavar="auto|N")]
"""So many threads, or ``auto``: what is fastest here."""


def check_threads(asked: Threads) -> None:
    """Refuse numbers of threads that this machine does not have.

    Raises:
        UserError: It is not ``auto``, and not 1 to the number of the machine's processors.
    """
    most = os.cpu_count() or 1
    if asked != "auto" and not (isinstance(asked, int) and 1 <= asked <= most):
        raise UserError(f"threads {asked} is not allowed: it must be auto, or 1 to {most} on this machine")


TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Numbers of glibc's ``mallopt`` for: bytes free at the end of the heap that are given back, bytes asked for at a time,
size from which a buffer has pages of its own."""
MIB = 2**20
SETTINGS = {MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 2047 * MIB, TOP_PAD: 64 * MIB}
"""The largest that glibc takes for the first two."""


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next buffers; its peak stays what it was.

    Returns:
        Whether that was possible: with glibc, and where the environment does not say otherwise.
    """
    own = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if own or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(ctypes.c_int(option), ctypes.c_int(value)) for option, value in SETTINGS.items())
