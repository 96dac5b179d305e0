"""Cut a network at its merges: a chain of parts that share the network's weights."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.fx import Node

from howdeep.chain import Chain, Unit
from howdeep.errors import UserError
from howdeep.tracing.flow import Flow, flow_of
from howdeep.tracing.merges import Found, merges
from howdeep.tracing.names import names
from howdeep.tracing.parts import part
from howdeep.tracing.plain import layers
from howdeep.tracing.simplify import SharedWrite
from howdeep.tracing.trace import evaluating, trace, unwrapped

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Allowed difference between a network and its chain, as a share of the largest score; 0.05 for shorter types.

Almost all are equal to the bit; sums of more than two terms are added up in another order."""


def unravel(model: nn.Module, example: Tensor) -> Chain:
    """Return a network as a chain: stem → units and the links between them → head, in evaluation mode.

    A unit is a sum of a shortcut and a branch, or a concatenation that appends a branch's maps to what it read. A
    network without any is cut into its layers, which have no shortcut. The parts share the network's parameters and
    buffers, so that what changes there changes here; the network itself stays as it is.

    Args:
        model: The network; it reads one tensor and returns the scores: a tensor, or something that has them as
            ``logits``. What runs it in parallel or compiled is taken off.
        example: Images on the network's device, shape (batch, channels, height, width). The chain takes batches of
            any size, and images of this height and width.

    Raises:
        UserError: It is no module, cannot be traced, returns something else than scores, or has nothing to cut at.
    """
    model = unwrapped(model)
    flow = _flow(model, example)
    units = merges(flow) or layers(flow)
    if not units:
        sought = "sums and concatenations of a shortcut and a branch, or convolution layers, that all data pass through"
        cure = "pass the part of the network that has them"
        raise UserError(f"no units found in {type(model).__name__}: looked for {sought}; {cure}")
    chain = _chain(flow, units)
    _require_same(model, chain, example[:1])
    return chain


def _flow(model: nn.Module, example: Tensor) -> Flow:
    try:
        return flow_of(trace(model, example))
    except SharedWrite:
        return flow_of(trace(model, example, functional=True))


def _chain(flow: Flow, units: Sequence[Found]) -> Chain:
    stem = part(flow, flow.images, units[0].source)
    head = part(flow, units[-1].merged, flow.result)
    return Chain(stem, _body(flow, units), head).eval()


def _body(flow: Flow, units: Sequence[Found]) -> Iterator[nn.Module]:
    """Yield the units, and what lies between one and the next as a link."""
    last: Node = units[0].source
    for unit, name in zip(units, names(flow, units), strict=True):
        if last is not unit.source:
            yield part(flow, last, unit.source)
        branch, shortcut = (part(flow, unit.source, result) for result in (unit.branch, unit.shortcut))
        yield Unit(branch, shortcut, unit.merge, name)
        last = unit.merged


def _require_same(model: nn.Module, chain: Chain, images: Tensor) -> None:
    """Refuse a chain whose scores are not the network's: one that draws random numbers, or decides by values."""
    with evaluating(model), torch.no_grad():
        expected, actual = model(images), chain(images)
    difference, scale = (actual - expected).abs().max().item(), expected.abs().max().item()
    if not difference <= TOLERANCE.get(expected.dtype, 0.05) * scale:
        what = f"the chain's scores differ from the network's by {difference:.1e} of {scale:.1e}"
        raise UserError(f"{type(model).__name__} cannot be unravelled, it does not repeat itself: {what}")
