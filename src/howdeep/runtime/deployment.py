"""Where a network will run, as a value: a latency means nothing without it."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

from howdeep.util.errors import UserError, unknown
from howdeep.util.options import require_at_least
from howdeep.util.text import counted

NEEDS = {
    "torch": ("", ()),
    "onnxruntime": ("export", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": ("openvino", ("onnx", "onnxscript", "openvino")),
}
"""Runtime → the extra of this package that installs it, and the packages that it needs beside torch."""
THREADS = 1
"""Threads of a timed forward pass on the host.

torch's threads wait for each other after every operator. Where another program holds one of two cores, that made a
pass of a small network take 216 ms instead of 0.2, in every run alike, so that the spread would not have shown it.
"""


@dataclass(frozen=True)
class Deployment:
    """Where forward passes run; a runtime may be one that is not installed here, where a record was read.

    Raises:
        UserError: There is no such runtime, or a number is below 1.
    """

    runtime: str = "torch"
    """``torch``, on the device of the images; ``onnxruntime`` or ``openvino``, as ONNX on the host."""
    threads: int = THREADS
    """Threads on the host."""
    batch: int = 1
    """Images at a time."""

    def __post_init__(self) -> None:
        if self.runtime not in NEEDS:
            raise unknown("runtime", self.runtime, NEEDS)
        require_at_least(1, self, "threads", "batch")

    def __str__(self) -> str:
        together = "" if self.batch == 1 else f", {self.batch} images at a time"
        return f"{self.runtime}, {counted(self.threads, 'thread')}{together}"


def require_runtime(runtime: str) -> None:
    """Refuse a runtime that is not installed.

    Raises:
        UserError: It is not; what installs it is named.
    """
    if lacking := lacking_for(runtime):
        raise UserError(f"runtime {runtime} needs {lacking}")


def lacking_for(runtime: str) -> str | None:
    """Return which package a runtime lacks here and how it is installed; None where it lacks none."""
    extra, packages = NEEDS[runtime]
    missing = [name for name in packages if find_spec(name) is None]
    return f"{missing[0]}: pip install 'howdeep[{extra}]'" if missing else None


def versions_of(runtime: str) -> dict[str, str]:
    """Return the versions of what writes and runs a network in a runtime that is installed, beside torch."""
    return {name: version(name) for name in NEEDS[runtime][1]}


HERE = Deployment()
"""One image, one thread, PyTorch."""
