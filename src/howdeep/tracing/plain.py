"""The units of a network without residual merges: its layers, one after the other."""

from torch.fx import Node

from howdeep.chain import Replace
from howdeep.tracing.flow import Flow
from howdeep.tracing.merges import Found
from howdeep.tracing.simplify import aten

WEIGHTED = {
    *(aten.conv2d.default, aten.conv2d.padding, aten.convolution.default, aten.conv_transpose2d.input),
    aten.linear.default,
}
"""Operators that begin a layer."""


def layers(flow: Flow) -> list[Found]:
    """Return the layers of a plain network that work on maps, in order, but for the first and the last: stem and head.

    A layer is a convolution (or several side by side, as in Inception) and what follows it without changing the
    shape: norm and activation. Layers whose output on a closed unit cannot be foretold stay links (see
    :func:`_replacing`).
    """
    units, line, start = [], flow.main_line, 1
    while start < len(line):
        end = start + 1
        if _weighted(flow, line[start - 1], line[start]):
            while end < len(line) and _follows(flow, line[end - 1], line[end]):
                end += 1
            units.append((line[start - 1], line[end - 1]))
        start = end
    found = [_replacing(source, result) for source, result in units[1:-1]]
    return [unit for unit in found if unit is not None]


def _weighted(flow: Flow, source: Node, result: Node) -> bool:
    return any(node.target in WEIGHTED and node in flow.dominators for node in flow.between(source, result))


def _follows(flow: Flow, source: Node, result: Node) -> bool:
    """Whether a step belongs to the layer before it: it keeps the shape and weighs nothing anew."""
    return _shape(source) == _shape(result) and not _weighted(flow, source, result)


def _shape(node: Node) -> tuple[int, ...]:
    """Return the shape of one sample."""
    return tuple(node.meta["val"].shape[1:])


def _replacing(source: Node, result: Node) -> Found | None:
    """Return the unit of a layer that reads and returns maps; its stride must be a whole number that rounds up."""
    before, after = _shape(source), _shape(result)
    if len(before) != 3 or len(after) != 3:
        return None
    stride = round(before[1] / after[1])
    if stride < 1 or any(-(-old // stride) != new for old, new in zip(before[1:], after[1:], strict=True)):
        return None
    return Found(source, source, result, result, Replace(after[0], stride=stride, removable=before == after))
