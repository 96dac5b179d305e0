"""Which device, and how much memory."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from tests.processes import FORKS

from howdeep.runtime import device as devices
from howdeep.runtime import precision
from howdeep.util.errors import UserError

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


@pytest.mark.parametrize(("threads", "said"), [(1, ", 1 thread"), (2, ", 2 threads")])
def test_a_device_is_described_with_its_threads(threads: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert devices.describe(CPU).endswith(said)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of a process is read from /proc")
def test_the_peak_counts_memory_that_is_gone_and_begins_anew() -> None:
    """In a process of its own: one that keeps freed memory, as commands do, would take it from there."""
    with ProcessPoolExecutor(1, mp_context=FORKS) as process:
        before, peak, after, used = process.submit(_peaks).result()
    if before is None or peak is None or after is None or used is None:
        pytest.skip("/proc/self/clear_refs cannot be written here")
    assert 190e6 < peak - before < 260e6
    assert after < peak - 100e6
    assert abs(used - after) < 50e6


def _peaks() -> tuple[int | None, ...]:
    devices.reset_peak(CPU)
    before = devices.peak_bytes(CPU)
    held = torch.ones(50_000_000)
    del held
    peak = devices.peak_bytes(CPU)
    devices.reset_peak(CPU)
    return before, peak, devices.peak_bytes(CPU), devices.used_bytes(CPU)


@pytest.fixture
def _precisions_of_products() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


def _newer_interface(precision: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = precision


@pytest.mark.usefixtures("_precisions_of_products")
@pytest.mark.parametrize(
    "allow", [lambda: None, lambda: torch.set_float32_matmul_precision("high"), lambda: _newer_interface("tf32")]
)
def test_inside_true_fp32_nothing_is_rounded_to_tf32_and_behind_it_all_is_as_before(allow: Callable) -> None:
    """Torch has two interfaces for this, of which the older one refuses to read what the newer one has set."""
    allow()
    ways = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    before = [way.fp32_precision for way in ways]
    assert before[0] == "tf32", "torch's own default, from which analyses must be kept"
    with precision.true_fp32():
        assert ways[0].fp32_precision == "ieee"
        assert ways[1].fp32_precision in ("ieee", "none")
        assert not torch.backends.cuda.matmul.allow_tf32
    assert [way.fp32_precision == "tf32" for way in ways] == [name == "tf32" for name in before]


def test_numbers_that_a_device_does_not_have_are_refused_in_one_line() -> None:
    for name in ("fp32", "bf16", "fp64"):
        precision.require_precision(name, CPU)
    with pytest.raises(UserError, match=r"^precision fp64 is not allowed on mps: it has no such numbers; use fp32$"):
        precision.require_precision("fp64", torch.device("mps"))


def test_wide_is_float64_and_sent_is_the_same_on_the_host() -> None:
    x = torch.tensor([1.5, 2.5])
    assert devices.wide(x).dtype == torch.float64
    assert devices.sent(x, "cpu") is x
