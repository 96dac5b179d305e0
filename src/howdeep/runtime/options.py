"""Where latencies are measured, as it is typed."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro.conf

from howdeep.runtime.deployment import THREADS, Deployment, require_runtime
from howdeep.util.options import InferenceThreads, require_at_least

Runtime = Annotated[
    Literal["torch", "onnxruntime", "openvino"],
    tyro.conf.arg(help="What runs the network where latencies are measured; the last two as ONNX, on the CPU."),
]
LatencyBatch = Annotated[
    int, tyro.conf.arg(help="Images at a time where latencies are measured; the time of one is its share.")
]


@dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """Where latencies are measured: what runs the network, in how many threads, how many images at a time."""

    runtime: Runtime = "torch"
    latency_batch: LatencyBatch = 1
    threads: InferenceThreads = "auto"

    def __post_init__(self) -> None:
        require_at_least(1, self, "latency_batch")
        require_runtime(self.where.runtime)

    @property
    def where(self) -> Deployment:
        """Where passes are timed: in one thread, unless a number was asked for."""
        threads = THREADS if self.threads == "auto" else self.threads
        return Deployment(self.runtime, threads, self.latency_batch)
