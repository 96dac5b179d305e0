"""The device that a command runs on: which one, how to wait for it, how much memory it took."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from howdeep.runtime.ranks import this_process
from howdeep.util.errors import UserError

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def pick(name: str) -> torch.device:
    """Return the device of a name: ``auto`` (the accelerator if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Of several processes on a machine each has the CUDA device of its own number there.

    Raises:
        UserError: There is no such device here, or several processes are to share one.
    """
    try:
        device = _named(name)
        if device.type == "meta":
            raise RuntimeError("it holds shapes without numbers")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} is not available here ({reason}); allowed: auto, cpu") from None
    return device


def _named(name: str) -> torch.device:
    if name == "auto":
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    else:
        device = torch.device(name)
    process = this_process()
    if device.type != "cuda" or process.alone:
        return device
    if device.index is not None:
        raise UserError(f"device {name!r} is not allowed for {process.world} processes: each has its own; name cuda")
    return torch.device("cuda", process.local_rank)


def describe(device: torch.device) -> str:
    """Return the name of the device as a person would say it, with threads for the host."""
    return name_of(device) if device.type == "cuda" else f"{name_of(device)}, {torch.get_num_threads()} threads"


def name_of(device: torch.device) -> str:
    """Return the name of the device alone."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


def has_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 itself, so that it can be worth trying."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def require_precision(precision: str, device: torch.device) -> None:
    """Refuse numbers that a device does not have.

    Raises:
        UserError: It has none of 16 bits (bf16), or of 64 (fp64).
    """
    missing = not has_bf16(device) if precision == "bf16" else precision == "fp64" and device.type == "mps"
    if missing:
        raise UserError(f"precision {precision} is not allowed on {device}: it has no such numbers; use fp32")


@contextmanager
def true_fp32() -> Iterator[None]:
    """Let float32 be float32 meanwhile: no TF32, which keeps ten bits and is cuDNN's default for convolutions."""
    convolutions, products = torch.backends.cudnn.conv, _product_precision()  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        convolutions.fp32_precision = before
        torch.set_float32_matmul_precision(products)


@contextmanager
def repeatable() -> Iterator[None]:
    """Let cuDNN take algorithms that give the same bits every time: a resumed run ends with those of a whole one."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _product_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # TF32 was allowed by the newer of torch's two interfaces, which the older one refuses to read
        return "high"


def summable(x: Tensor) -> Tensor:
    """Return x where it can be summed in float64: on the host if its device has none, as an Apple GPU."""
    return x.cpu() if x.device.type == "mps" else x


def wide(x: Tensor) -> Tensor:
    """Return x in float64, where that exists (see :func:`summable`)."""
    return summable(x).double()


def sent(x: Tensor, device: torch.device | str) -> Tensor:
    """Return x on a device; a copy to CUDA does not wait for the work that is queued there."""
    if torch.device(device).type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def synchronise(device: torch.device) -> None:
    """Wait until everything that was launched has finished, so that a clock can be read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Begin a new measurement of peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(CLEAR, os.W_OK):
        CLEAR.write_text("5")


def peak_bytes(device: torch.device) -> int | None:
    """Return the peak since :func:`reset_peak`: of the allocator on CUDA, of the process on Linux, else None."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") if os.access(CLEAR, os.W_OK) else None


def used_bytes(device: torch.device) -> int | None:
    """Return the memory in use now, counted as :func:`peak_bytes` counts it."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS") if os.access(CLEAR, os.W_OK) else None


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
