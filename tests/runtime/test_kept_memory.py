"""Freed memory stays with the process, so that its pages are not cleared again for every step."""

import ctypes
import os
import platform
import resource
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from tests.processes import FORKS

from howdeep.runtime.process import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory

MIB = 2**18
"""Numbers in a MiB."""


def _step() -> None:
    _maps = [torch.ones(8 * MIB) for _ in range(16)]


def _faults() -> int:
    """Return how many pages ten steps find missing."""
    for _ in range(3):
        _step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        _step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _default_and_kept() -> tuple[int, int]:
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        del os.environ[name]
    for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
        ctypes.CDLL(None).mallopt(option, 128 * 1024)  # glibc's first values, which it changes as it goes
    default = _faults()
    assert keep_freed_memory()
    return default, _faults()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_a_step_finds_its_pages_where_the_last_one_left_them() -> None:
    with ProcessPoolExecutor(1, mp_context=FORKS) as process:
        default, kept = process.submit(_default_and_kept).result()
    assert kept * 10 < default


def test_settings_of_the_environment_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
