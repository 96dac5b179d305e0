"""Which device, and how much memory."""

import sys

import pytest
import torch

from howdeep import device as devices
from howdeep.errors import UserError

CPU = torch.device("cpu")


def test_auto_is_the_accelerator_or_the_cpu() -> None:
    expected = torch.accelerator.current_accelerator(check_available=True) or CPU
    assert devices.pick("auto") == expected


def test_the_cpu_is_always_there() -> None:
    assert devices.pick("cpu") == CPU
    devices.synchronise(CPU)


@pytest.mark.parametrize("name", ["gpu0", "cuda:99", "", "cpu:x"])
def test_a_device_that_is_not_here_is_named(name: str) -> None:
    with pytest.raises(UserError) as error:
        devices.pick(name)
    assert str(error.value).startswith(f"device {name!r} is not available here")
    assert "\n" not in str(error.value)


def test_a_device_is_described_with_its_threads() -> None:
    assert devices.describe(CPU).endswith(f", {torch.get_num_threads()} threads")


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of a process is read from /proc")
def test_the_peak_counts_memory_that_is_gone_and_begins_anew() -> None:
    if devices.peak_bytes(CPU) is None:
        pytest.skip("/proc/self/clear_refs cannot be written here")
    devices.reset_peak(CPU)
    before = devices.peak_bytes(CPU)
    held = torch.ones(50_000_000)
    del held
    peak = devices.peak_bytes(CPU)
    assert before is not None
    assert peak is not None
    assert 190e6 < peak - before < 260e6
    devices.reset_peak(CPU)
    after, used = devices.peak_bytes(CPU), devices.used_bytes(CPU)
    assert after is not None
    assert used is not None
    assert after < peak - 100e6
    assert abs(used - after) < 50e6
