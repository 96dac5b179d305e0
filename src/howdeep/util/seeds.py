"""Independent random streams from one seed: stream = f(seed, what it is for, step), never from a shared state."""

import hashlib

import torch


def derive(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part, equal on every machine and in every process."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *parts: int | str) -> torch.Generator:
    """Return a host generator for one purpose at one moment, such as ``generator(seed, "gates", step)``."""
    return torch.Generator().manual_seed(derive(seed, *parts))
