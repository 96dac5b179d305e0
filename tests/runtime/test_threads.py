"""Freed memory stays with the process, so that its pages are not cleared again for every step."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, torch
from howdeep.runtime.threads import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory
def step():
    maps = [torch.ones(2**21) for _ in range(16)]  # 8 MiB each
def faults():
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
    ctypes.CDLL(None).mallopt(option, 128 * 1024)  # glibc's first values, which it changes as it goes
default = faults()
assert keep_freed_memory()
print(default, faults())
"""
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_a_step_finds_its_pages_where_the_last_one_left_them() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=CLEAN)
    default, kept = map(int, done.stdout.split())
    assert kept * 10 < default


def test_settings_of_the_environment_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from howdeep.runtime.threads import keep_freed_memory

    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert not keep_freed_memory()
