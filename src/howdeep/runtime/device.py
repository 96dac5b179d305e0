"""The device that a command runs on: which one, how to wait for it, how much memory it took."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from howdeep.runtime.ranks import this_process
from howdeep.util.errors import UserError, reason
from howdeep.util.text import counted

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def pick(name: str) -> torch.device:
    """Return the device of a name: ``auto`` (the accelerator if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Of several processes on a machine each has the CUDA device of its own number there.

    Raises:
        UserError: There is no such device here, or several processes are to share one.
    """
    process = this_process()
    try:
        if name == "auto":
            device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        else:
            device = torch.device(name)
        if device.type == "cuda" and not process.alone:
            if device.index is not None:
                how = f"for {process.world} processes: each has its own; name cuda"
                raise UserError(f"device {name!r} is not allowed {how}")
            device = torch.device("cuda", process.local_rank)
        if device.type == "meta":
            raise RuntimeError("it holds shapes without numbers")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name!r} is not available here ({reason(error)}); allowed: auto, cpu") from None
    return device


def describe(device: torch.device) -> str:
    """Return the name of the device as a person would say it, with threads for the host."""
    if device.type == "cuda":
        return name_of(device)
    return f"{name_of(device)}, {counted(torch.get_num_threads(), 'thread')}"


def name_of(device: torch.device) -> str:
    """Return the name of the device alone."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


@contextmanager
def repeatable() -> Iterator[None]:
    """Let cuDNN take algorithms that give the same bits every time: a resumed run ends with those of a whole one."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


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


def laid_out(images: Tensor, *, channels_last: bool) -> Tensor:
    """Return images, shape (batch, channels, height, width), with the channels innermost or not."""
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


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
