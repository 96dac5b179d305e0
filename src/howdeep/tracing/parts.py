"""A stretch of the graph as a module that reads one tensor and returns one."""

from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate

from howdeep.tracing.flow import Flow
from howdeep.tracing.simplify import is_view


def part(flow: Flow, source: Node, result: Node) -> nn.Module:
    """Return the module that computes a result from a source; it shares the network's weights.

    What depends on weights alone (a position bias) is computed in every part that reads it.
    """
    if source is result:
        return nn.Identity()
    graph, nodes = Graph(), flow.between(source, result)
    x = graph.placeholder("x")
    # The number of images, their type and device are those of what the part reads.
    copies = {source: x, flow.images: x}
    for node in nodes:
        copies[node] = _copy(flow, node, graph, copies)
    graph.output(copies[result])
    weights = dict(flow.weights[node] for node in nodes if node in flow.weights)
    return GraphModule(weights, graph, class_name="Part")


def _copy(flow: Flow, node: Node, graph: Graph, copies: dict[Node, Node]) -> Node:
    """Return a node's copy in the graph of a part; its sources are copied already."""
    if node in flow.weights:
        return graph.get_attr(flow.weights[node][0])
    images, x = flow.images.meta["val"], copies[flow.images]

    def translated(value: Any) -> Any:
        # A type or device that the trace took from the images is that of the input at the time of the call.
        if isinstance(value, Node):
            return copies[value]
        if isinstance(value, torch.dtype) and value == images.dtype:
            return graph.call_function(getattr, (x, "dtype"))
        if isinstance(value, torch.device) and value == images.device:
            return graph.call_function(getattr, (x, "device"))
        return value

    args, kwargs = map_aggregate(node.args, translated), map_aggregate(node.kwargs, translated)
    target = flow.overwrites[node] if _may_overwrite(flow, node, copies) else node.target
    return graph.create_node(node.op, target, args, kwargs)  # type: ignore[arg-type]


def _may_overwrite(flow: Flow, node: Node, copies: dict[Node, Node]) -> bool:
    """Whether a value may be written over its first argument: one that is made in this part, and read by nobody else.

    The network did so; where it still may, a part needs a buffer less.
    """
    if node not in flow.overwrites:
        return False
    written = node.args[0]
    assert isinstance(written, Node)
    return copies[written].op == "call_function" and len(written.users) == 1 and not is_view(written)
