"""The host's allocator, told to keep what is freed.

A training step allocates and frees the same large maps again and again. The C library's default gives them back to the
system after every step, and the system clears every page anew before the next one: an eighth of a step of
cifar_resnet110 on two cores.
"""

import ctypes
import os
import platform

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
