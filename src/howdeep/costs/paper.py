"""Scaling on paper as a user asks for it: clusters and rates in words, the formula with its numbers."""

import re
from dataclasses import asdict, dataclass, replace

from howdeep import budgets
from howdeep.costs.scaling import BACKWARD, Cluster, Job, Link, Scaled, node_counts, scaled, seconds_per_image
from howdeep.errors import UserError

FLOPS = {"M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True)
class Paper:
    """A network on growing clusters."""

    network: str
    """Name."""
    job: Job
    """The network and how it is trained."""
    cluster: Cluster
    """The largest."""
    image_seconds: float
    """Training time per image on one device."""
    flops_per_second: float | None
    """What the device sustains; None where the time was measured."""
    macs: int
    """Of a forward pass."""
    rows: tuple[Scaled, ...]
    """1, 2, 4, … nodes."""

    @property
    def formula(self) -> str:
        """How the last row comes about, with its numbers."""
        last, batch, inside, between = self.rows[-1], self.job.batch_size, self.cluster.inside, self.cluster.between
        (best, worst), (high, low) = last.step_seconds, last.efficiency
        compute = f"{batch} images · {1000 * self.image_seconds:.3g} ms"
        if self.flops_per_second:
            work = f"3 · 2 · {self.macs / 1e9:.3g} GMACs"
            compute = f"{batch} images · {work} / {self.flops_per_second / 1e12:g} TFLOP/s"
        return "\n".join((
            f"compute     T_c = {compute} = {1000 * last.compute_seconds:.1f} ms",
            f"gradient    G = 4 bytes · {self.job.parameters:,} = {4 * self.job.parameters / 1e6:.1f} MB",
            f"ring        R(n) = 2 (n − 1)/n · G / bandwidth + 2 (n − 1) · {1e6 * between.latency_seconds:.0f} µs",
            f"all-reduce  T_r = R({self.cluster.per_node}) at {inside.bytes_per_second / 1e9:g} GB/s"
            f" + R({self.cluster.nodes}) at {between.bytes_per_second / 1e9:g} GB/s"
            f" = {1000 * last.reduce_seconds:.1f} ms",
            f"step        T_c + max(0, T_r − ⅔ T_c) … T_c + T_r = {1000 * best:.1f} … {1000 * worst:.1f} ms",
            f"efficiency  T_c / step = {100 * high:.1f} … {100 * low:.1f} % (T_r hidden by the backward pass … not)",
        ))  # fmt: skip

    def to_json(self) -> dict:
        """Return it as plain data."""
        return {**asdict(self), "formula": self.formula, "backward_in_forward_passes": BACKWARD}


def on_paper(
    network: str, job: Job, cluster: Cluster, macs: int, *, flops_per_second: float | None = None,
    image_seconds: float | None = None,
) -> Paper:  # fmt: skip
    """Return what a job costs on 1, 2, 4, … nodes up to those of a cluster.

    Args:
        network: Name.
        job: The network and how it is trained.
        cluster: The largest.
        macs: Multiply-adds of a forward pass.
        flops_per_second: What one device sustains; or
        image_seconds: Training time per image on one device, as measured.

    Raises:
        UserError: A number is not above 0.
    """
    if (flops_per_second is None) == (image_seconds is None):
        raise ValueError("a device is described by its rate, or by its time per image")
    image_seconds = seconds_per_image(macs, flops_per_second) if flops_per_second else image_seconds or 0.0
    rows = tuple(scaled(job, replace(cluster, nodes=nodes), image_seconds) for nodes in node_counts(cluster.nodes))
    return Paper(network, job, cluster, image_seconds, flops_per_second, macs, rows)


def cluster_of(scale: str, inside: str, between: str) -> Cluster:
    """Return the cluster of ``64x8`` (64 nodes of 8 devices; ``64`` is one device each) and its links.

    Raises:
        UserError: One of them cannot be read.
    """
    match = re.fullmatch(r"([0-9]{1,7})(?:x([0-9]{1,4}))?", scale)
    if match is None:
        raise UserError(f"--scale {scale!r} is not allowed: it must be nodes, or nodes x devices, such as 64x8")
    links = [Link(bytes_per_second(name, text)) for name, text in (("inside", inside), ("between", between))]
    return Cluster(int(match[1]), int(match[2] or 1), *links)


def bytes_per_second(name: str, text: str) -> float:
    """Return a bandwidth, such as ``25GB/s``.

    Raises:
        UserError: It cannot be read, or is not above 0.
    """
    if not text.endswith("/s"):
        raise UserError(f"--{name} {text!r} is not allowed: it must be bytes per second, such as 25GB/s")
    return budgets.memory_bytes(name, text.removesuffix("/s"))


def flops_per_second(name: str, text: str) -> float:
    """Return a rate, such as ``60TFLOP/s``; errors as in :func:`bytes_per_second`."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([MGTP])FLOPS?/s\s*", text)
    if match is None or not float(match[1]) > 0:
        raise UserError(f"--{name} {text!r} is not allowed: it must be above 0, such as 60TFLOP/s")
    return float(match[1]) * FLOPS[match[2]]
