"""The units of a network: what all data must pass, and where that merges a shortcut and a branch, or ends a layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.fx import Graph, Node

from howdeep.chain import Add, Concatenate, Merge, Replace
from howdeep.convert.modes import Layers
from howdeep.convert.simplify import LIKE, Overwrites, is_batch, overload, schema_of
from howdeep.convert.trace import aten


def immediate_dominators(sources: Sequence[Sequence[int]]) -> list[int | None]:
    """Return the immediate dominator of every node of a graph in the order of its computation.

    One pass is enough, as nodes are read only after they are computed: the dominator of a node is where the ways up
    from all its sources meet (Cooper, Harvey, Kennedy 2001).

    Args:
        sources: For every node the nodes that it reads, all of them earlier; node 0 is the root, which reads none.

    Returns:
        For every node its immediate dominator; None for the root and for what does not depend on the root.
    """
    dominators: list[int | None] = [None] * len(sources)
    for node, read in enumerate(sources):
        reached = [source for source in read if source == 0 or dominators[source] is not None]
        if node == 0 or not reached:
            continue
        meeting = reached[0]
        for source in reached[1:]:
            # A dominator always comes earlier, so that the later of the two goes up.
            while meeting != source:
                above = dominators[max(meeting, source)]
                assert above is not None, "only the root has no dominator, and it is nobody's maximum"
                meeting, source = min(meeting, source), above
        dominators[node] = meeting
    return dominators


@dataclass(frozen=True)
class Dataflow:
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
    layers: Layers
    """The values that a module computes: what depends on the mode."""

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

        def cuttable(value: object) -> bool:
            return isinstance(value, Tensor) and value.dim() > 0 and is_batch(value.shape[0], self.images)

        return [node for node in reversed(line) if cuttable(node.meta.get("val"))]

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


def _data_sources(node: Node, images: Node) -> list[Node]:
    """Return what a node reads, without the images where it reads their size, type or device alone."""
    like = node.target is aten.sym_size.int or node.target in LIKE
    return [source for source in node.all_input_nodes if not (like and source is images)]


LINEAR = {
    *("conv1d", "conv2d", "conv3d", "linear", "matmul", "mul", "div", "add", "mean", "max", "amax"),
    *("batch_norm", "layer_norm", "group_norm", "rms_norm", "dropout", "feature_dropout"),
    *("avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d"),
    *("upsample_bilinear2d", "pixel_unshuffle", "pad", "constant_pad_nd", "slice", "select", "narrow"),
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous"),
    *("clone", "to", "_to_copy", "roll", "expand", "getitem"),
}
"""Operators of a shortcut: linear layers, norms, dropout, pooling, and what moves numbers about."""


@dataclass(frozen=True)
class UnitNodes:
    """One unit: where its parts begin and end."""

    source: Node
    """What both parts read."""
    shortcut: Node
    """The shortcut's result; the source itself for an identity."""
    branch: Node
    """The branch's result."""
    merged: Node
    """The output of the unit."""
    merge: Merge


def merges(flow: Dataflow) -> list[UnitNodes]:
    """Return the residual and dense units of a network, in order."""
    steps = zip(flow.main_line, flow.main_line[1:], strict=False)
    units = (_dense(flow, source, merged) or _residual(flow, source, merged) for source, merged in steps)
    return [unit for unit in units if unit is not None]


def _residual(flow: Dataflow, source: Node, merged: Node) -> UnitNodes | None:
    """Return the unit of a sum: one of its terms is a shortcut, and the sum of the others a branch."""
    if not _is_sum(flow, merged):
        return None
    found, terms = _pair(flow, source, merged, flow.sources(merged)), _terms(flow, source, merged)
    if found is None and len(set(terms)) == len(terms) > 2:
        found = _pair(flow, source, merged, terms)
    return found


def _is_sum(flow: Dataflow, node: Node) -> bool:
    """Whether a node adds two values that both depend on the images."""
    return node.target is aten.add.Tensor and len(flow.sources(node)) == 2 and not node.kwargs


def _terms(flow: Dataflow, source: Node, merged: Node) -> list[Node]:
    """Return what a sum of sums adds up, from left to right; a sum that others read too is a term of its own."""
    terms, todo = [], [merged]
    while todo:
        node = todo.pop()
        inner = node is merged or (node is not source and _is_sum(flow, node) and len(node.users) == 1)
        todo.extend(reversed(flow.sources(node))) if inner else terms.append(node)
    return terms


def _pair(flow: Dataflow, source: Node, merged: Node, terms: Sequence[Node]) -> UnitNodes | None:
    """Return the unit whose shortcut is the cheapest term that can be one, or None."""
    candidates = [term for term in terms if _is_shortcut(flow, source, term, merged)]
    if not candidates:
        return None
    shortcut = min(candidates, key=lambda term: _cost(flow, source, term))
    others = [term for term in terms if term is not shortcut]
    # A branch computes more than the shortcut, and nothing that the shortcut computes too.
    passed = {node for node in flow.between(source, shortcut) if node in flow.dominators}
    sides = [flow.between(source, term) for term in others]
    apart = not any(passed.intersection(side) for side in sides)
    if not apart or sum(_numbers(flow, side) for side in sides) <= _cost(flow, source, shortcut):
        return None
    return UnitNodes(source, shortcut, _sum(flow, merged, others), merged, Add())


def _is_shortcut(flow: Dataflow, source: Node, term: Node, merged: Node) -> bool:
    """Whether a term is the source itself, or a line of linear layers and pooling, in the shape of the sum."""
    if term.meta["val"].shape != merged.meta["val"].shape:
        return False
    while term is not source:
        operator, read = overload(term), flow.sources(term)
        name = schema_of(operator).name.split("::")[1] if operator is not None else "getitem"
        if len(read) != 1 or name not in LINEAR:
            return False
        term = read[0]
    return True


def _cost(flow: Dataflow, source: Node, result: Node) -> int:
    return _numbers(flow, flow.between(source, result))


def _numbers(flow: Dataflow, nodes: Sequence[Node]) -> int:
    """Return how many numbers of weights a stretch reads: none for an identity, few for a 1×1 projection."""
    return sum(flow.weights[node][1].numel() for node in nodes if node in flow.weights)


def _sum(flow: Dataflow, merged: Node, terms: Sequence[Node]) -> Node:
    """Return the node that adds terms up, new in the graph where there are several."""
    total = terms[0]
    for term in terms[1:]:
        with flow.graph.inserting_before(merged):
            total = flow.graph.call_function(aten.add.Tensor, (total, term))
        total.meta = dict(merged.meta)
    return total


def _dense(flow: Dataflow, source: Node, merged: Node) -> UnitNodes | None:
    """Return the unit of a concatenation that appends what a branch makes of the source to the source."""
    if merged.target is not aten.cat.default:
        return None
    joined, *axis = merged.args
    assert isinstance(joined, Sequence)
    value = merged.meta["val"]
    if len(joined) != 2 or joined[0] is not source or axis not in ([1], [-3]) or value.dim() != 4:
        return None
    branch = joined[1]
    assert isinstance(branch, Node)
    if branch not in flow.dominators or _cost(flow, source, branch) == 0:
        return None
    return UnitNodes(source, source, branch, merged, Concatenate(branch.meta["val"].shape[1]))


WEIGHTED = {
    *(aten.conv2d.default, aten.conv2d.padding, aten.convolution.default, aten.conv_transpose2d.input),
    aten.linear.default,
}
"""Operators that begin a layer."""


def layers(flow: Dataflow) -> list[UnitNodes]:
    """Return the layers of a plain network that work on feature maps, but for the first and the last: stem and head.

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
    replacing = [_replacing(source, result) for source, result in units[1:-1]]
    return [unit for unit in replacing if unit is not None]


def _weighted(flow: Dataflow, source: Node, result: Node) -> bool:
    return any(node.target in WEIGHTED and node in flow.dominators for node in flow.between(source, result))


def _follows(flow: Dataflow, source: Node, result: Node) -> bool:
    """Whether a step belongs to the layer before it: it keeps the shape and weighs nothing anew."""
    return _shape(source) == _shape(result) and not _weighted(flow, source, result)


def _shape(node: Node) -> tuple[int, ...]:
    """Return the shape of one sample."""
    return tuple(node.meta["val"].shape[1:])


def _replacing(source: Node, result: Node) -> UnitNodes | None:
    """Return the unit of a layer from feature maps to feature maps, whose stride is a whole number that rounds up."""
    before, after = _shape(source), _shape(result)
    if len(before) != 3 or len(after) != 3:
        return None
    stride = round(before[1] / after[1])
    if stride < 1 or any(-(-old // stride) != new for old, new in zip(before[1:], after[1:], strict=True)):
        return None
    return UnitNodes(source, source, result, result, Replace(after[0], stride=stride, removable=before == after))
