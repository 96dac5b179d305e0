"""Scaling on paper: what training on many devices costs, from one device's rate and the links between them.

Data-parallel training; every device holds the whole network and ``b`` images of a step.

    compute      T_c = b · 3 · 2 · MACs / rate        a backward pass costs twice a forward pass; FLOPs are 2 · MACs
                 T_c = b · seconds per image          where that was measured
    gradient     G = 4 · parameters                   bytes, float32
    all-reduce   ring(n, link) = 2 (n − 1)/n · G / bandwidth + 2 (n − 1) · latency
                 T_r = ring(devices of a node, inside) + ring(nodes, between)
    step         T = T_c + max(0, T_r − ⅔ T_c)        at best: the backward pass, ⅔ of a step, hides what it can
                 T = T_c + T_r                        at worst: nothing is hidden
    efficiency   E = T_c / T                          one device's time for all images / (devices · their time)

A ring sends every gradient 2 (n − 1)/n times (Patarasuk and Yuan 2009). Not counted: reading images, evaluation, and
that large mini-batches need other recipes (Goyal et al. 2017, arXiv 1706.02677).
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from howdeep.util.errors import UserError
from howdeep.util.options import read_bytes
from howdeep.util.records import Shown

BACKWARD = 2
"""A backward pass in forward passes: gradients of the maps and of the weights."""
GRADIENT_BYTES = 4
"""Of one parameter, in float32."""
FLOPS = {"M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True)
class Link:
    """What connects devices, or nodes."""

    bytes_per_second: float
    """In each direction, of one device or node."""
    latency_seconds: float = 10e-6
    """Of one message."""

    def __post_init__(self) -> None:
        _require_positive(bytes_per_second=self.bytes_per_second)
        if self.latency_seconds < 0:
            raise UserError(f"latency {self.latency_seconds} is not allowed: it must be at least 0")


@dataclass(frozen=True)
class Cluster:
    """Nodes of equally many devices."""

    nodes: int
    """How many nodes."""
    per_node: int
    """Devices of each."""
    inside: Link
    """Between the devices of a node."""
    between: Link
    """Between nodes."""

    def __post_init__(self) -> None:
        _require_positive(nodes=self.nodes, per_node=self.per_node)

    @property
    def devices(self) -> int:
        """All devices."""
        return self.nodes * self.per_node


@dataclass(frozen=True)
class TrainingJob:
    """A training run, whatever it runs on."""

    parameters: int
    """Of the network."""
    batch_size: int
    """Images of a step on each device."""
    images: int
    """Of the training set."""
    epochs: float
    """Passes over it."""

    def __post_init__(self) -> None:
        _require_positive(
            parameters=self.parameters, batch_size=self.batch_size, images=self.images, epochs=self.epochs
        )


@dataclass(frozen=True)
class ClusterCost:
    """A job on a cluster."""

    nodes: int
    """Nodes."""
    devices: int
    """All devices."""
    batch_size: int
    """Images of a step over all devices."""
    compute_seconds: float
    """T_c, of one step."""
    traffic_bytes: float
    """Gradients that a node sends to other nodes in one step; those that a device sends, on one node."""
    reduce_seconds: float
    """T_r, of one step."""
    step_seconds: tuple[float, float]
    """T, at best and at worst."""
    efficiency: tuple[float, float]
    """E, at best and at worst, from 0 to 1."""
    seconds: tuple[float, float]
    """The whole training run, at best and at worst."""


def seconds_per_image(macs: int, flops_per_second: float) -> float:
    """Return what training takes per image, (1 + 2) · 2 · MACs / rate.

    Args:
        macs: Multiply-adds of a forward pass.
        flops_per_second: Rate that the device sustains, above 0: its peak times the share that is reached.
    """
    _require_positive(macs=macs, rate=flops_per_second)
    return (1 + BACKWARD) * 2 * macs / flops_per_second


def ring_seconds(devices: int, gradient_bytes: float, link: Link) -> float:
    """Return how long a ring of devices takes to add up their gradients."""
    return ring_bytes(devices, gradient_bytes) / link.bytes_per_second + 2 * (devices - 1) * link.latency_seconds


def ring_bytes(devices: int, gradient_bytes: float) -> float:
    """Return the bytes that each of a ring of devices sends."""
    return 2 * (devices - 1) / devices * gradient_bytes


def scaled(job: TrainingJob, cluster: Cluster, image_seconds: float) -> ClusterCost:
    """Return what a job costs on a cluster, by the formula at the head of this module.

    Args:
        job: The network and how it is trained.
        cluster: The devices.
        image_seconds: Training time per image on one device, measured or from :func:`seconds_per_image`.

    Raises:
        UserError: The time is not above 0.
    """
    _require_positive(image_seconds=image_seconds)
    gradient = GRADIENT_BYTES * job.parameters
    compute = job.batch_size * image_seconds
    inside, between = (cluster.per_node, cluster.inside), (cluster.nodes, cluster.between)
    reduce = sum(ring_seconds(count, gradient, link) for count, link in (inside, between))
    hidden = compute * BACKWARD / (1 + BACKWARD)
    best, worst = compute + max(0.0, reduce - hidden), compute + reduce
    batch = job.batch_size * cluster.devices
    return ClusterCost(
        nodes=cluster.nodes,
        devices=cluster.devices,
        batch_size=batch,
        compute_seconds=compute,
        traffic_bytes=ring_bytes(cluster.nodes if cluster.nodes > 1 else cluster.per_node, gradient),
        reduce_seconds=reduce,
        step_seconds=(best, worst),
        efficiency=(compute / best, compute / worst),
        seconds=(job.epochs * job.images / batch * best, job.epochs * job.images / batch * worst),
    )


def node_counts(most: int) -> Sequence[int]:
    """Return 1, 2, 4, … and the most."""
    doubled = [2**power for power in range(most.bit_length()) if 2**power < most]
    return [*doubled, most]


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise UserError(f"{name.replace('_', '-')} {value} is not allowed: it must be above 0 and finite")


@dataclass(frozen=True)
class Paper(Shown):
    """A network on growing clusters."""

    network: str
    """Name."""
    job: TrainingJob
    """The network and how it is trained."""
    cluster: Cluster
    """The largest."""
    image_seconds: float
    """Training time per image on one device."""
    flops_per_second: float | None
    """What the device sustains; None where the time was measured."""
    macs: int
    """Of a forward pass."""
    rows: tuple[ClusterCost, ...]
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
        lines = (
            f"compute     T_c = {compute} = {1000 * last.compute_seconds:.1f} ms",
            f"gradient    G = 4 bytes · {self.job.parameters:,} = {4 * self.job.parameters / 1e6:.1f} MB",
            f"ring        R(n) = 2 (n − 1)/n · G / bandwidth + 2 (n − 1) · {1e6 * between.latency_seconds:.0f} µs",
            f"all-reduce  T_r = R({self.cluster.per_node}) at {inside.bytes_per_second / 1e9:g} GB/s"
            f" + R({self.cluster.nodes}) at {between.bytes_per_second / 1e9:g} GB/s"
            f" = {1000 * last.reduce_seconds:.1f} ms",
            f"step        T_c + max(0, T_r − ⅔ T_c) … T_c + T_r = {1000 * best:.1f} … {1000 * worst:.1f} ms",
            f"efficiency  T_c / step = {100 * high:.1f} … {100 * low:.1f} % (T_r hidden by the backward pass … not)",
        )
        return "\n".join(lines)

    def to_json(self) -> dict:
        """Return it as plain data."""
        return {**asdict(self), "formula": self.formula, "backward_in_forward_passes": BACKWARD}


def on_paper(
    network: str,
    job: TrainingJob,
    cluster: Cluster,
    macs: int,
    *,
    flops_per_second: float | None = None,
    image_seconds: float | None = None,
) -> Paper:
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
    return read_bytes(name, text.removesuffix("/s"))


def flops_per_second(name: str, text: str) -> float:
    """Return a rate, such as ``60TFLOP/s``; errors as in :func:`bytes_per_second`."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([MGTP])FLOPS?/s\s*", text)
    if match is None or not float(match[1]) > 0:
        raise UserError(f"--{name} {text!r} is not allowed: it must be above 0, such as 60TFLOP/s")
    return float(match[1]) * FLOPS[match[2]]
