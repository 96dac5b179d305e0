"""Where data flows in a simplified graph: the main line, and what lies between two of its nodes."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.fx import Graph, Node

from howdeep.tracing.dominators import immediate_dominators
from howdeep.tracing.simplify import LIKE, Overwrites, aten, is_batch, simplify
from howdeep.tracing.trace import Traced


@dataclass(frozen=True)
class Flow:
    """A graph whose values are written once."""

    graph: Graph
    images: Node
    """The input. Inside the network it is read for the number of images, their type and device alone."""
    result: Node
    """The output."""
    weights: dict[Node, tuple[str, Tensor]]
    """The nodes that stand for a parameter, buffer or constant: its name, and the tensor itself."""
    overwrites: Overwrites
    """The values that may be written over their first argument."""

    @cached_property
    def dominators(self) -> dict[Node, Node]:
        """The immediate dominator of every node that depends on the data of the images."""
        order = [self.images, *(node for node in self.graph.nodes if node is not self.images)]
        number = {node: index for index, node in enumerate(order)}
        sources = [[number[source] for source in _data_sources(node, self.images)] for node in order]
        found = immediate_dominators(sources)
        return {node: order[index] for node, index in zip(order, found, strict=True) if index is not None}

    @cached_property
    def main_line(self) -> list[Node]:
        """The values that all data pass through on their way from the images to the result: where to cut.

        Each is one tensor whose first axis counts the images; the images are the first.
        """
        line = [self.result]
        while line[-1] in self.dominators:
            line.append(self.dominators[line[-1]])
        return [node for node in reversed(line) if self._cuttable(node)]

    def sources(self, node: Node) -> list[Node]:
        """Return the nodes whose data a node reads: neither weights nor sizes."""
        read = _data_sources(node, self.images)
        return [source for source in read if source in self.dominators or source is self.images]

    def between(self, source: Node, result: Node) -> list[Node]:
        """Return what must be computed to have the result once the source is there, weights and sizes included."""
        found, todo = set(), [result]
        while todo:
            node = todo.pop()
            if node not in found and node is not source and node is not self.images:
                found.add(node)
                todo.extend(node.all_input_nodes)
        return sorted(found)

    def _cuttable(self, node: Node) -> bool:
        value = node.meta.get("val")
        return isinstance(value, Tensor) and value.dim() > 0 and is_batch(value.shape[0], self.images)


def flow_of(traced: Traced) -> Flow:
    """Return the simplified graph of a network.

    Raises:
        SharedWrite: The network writes into a part of a tensor.
    """
    overwrites = simplify(traced)
    result = traced.output.args[0]
    assert isinstance(result, Node)
    return Flow(traced.graph, traced.images, result, traced.weights, overwrites)


def _data_sources(node: Node, images: Node) -> list[Node]:
    """Return what a node reads, without the images where it reads their size, type or device alone."""
    like = node.target is aten.sym_size.int or node.target in LIKE
    return [source for source in node.all_input_nodes if not (like and source is images)]
