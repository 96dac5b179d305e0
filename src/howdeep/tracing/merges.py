"""Which stretches of the main line are units: sums and concatenations of a shortcut and a branch."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.fx import Node

from howdeep.chain import Add, Concatenate, Merge
from howdeep.tracing.flow import Flow
from howdeep.tracing.simplify import aten, overload

LINEAR = {
    *("conv1d", "conv2d", "conv3d", "linear", "matmul", "mul", "div", "add", "mean", "max", "amax"),
    *("batch_norm", "_native_batch_norm_legit_no_training", "layer_norm", "group_norm", "rms_norm"),
    *("avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d"),
    *("upsample_bilinear2d", "pixel_unshuffle", "pad", "constant_pad_nd", "slice", "select", "narrow"),
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous"),
    *("clone", "to", "_to_copy", "roll", "expand", "getitem"),
}
"""Operators of a shortcut: linear layers, norms with fixed statistics, pooling, and what moves numbers about."""


@dataclass(frozen=True)
class Found:
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


def merges(flow: Flow) -> list[Found]:
    """Return the residual and dense units of a network, in order."""
    steps = zip(flow.main_line, flow.main_line[1:], strict=False)
    units = (_unit(flow, source, merged) for source, merged in steps)
    return [unit for unit in units if unit is not None]


def _unit(flow: Flow, source: Node, merged: Node) -> Found | None:
    if is_sum(flow, merged):
        return _residual(flow, source, merged)
    if merged.target is aten.cat.default:
        return _dense(flow, source, merged)
    return None


def is_sum(flow: Flow, node: Node) -> bool:
    """Whether a node adds two values that both depend on the images."""
    return node.target is aten.add.Tensor and len(flow.sources(node)) == 2 and not node.kwargs


def _residual(flow: Flow, source: Node, merged: Node) -> Found | None:
    """Return the unit of a sum: one of its terms is a shortcut, and the sum of the others a branch."""
    found = _pair(flow, source, merged, flow.sources(merged))
    terms = _terms(flow, source, merged)
    if found is None and len(set(terms)) == len(terms) > 2:
        found = _pair(flow, source, merged, terms)
    return found


def _terms(flow: Flow, source: Node, merged: Node) -> list[Node]:
    """Return what a sum of sums adds up, from left to right; a sum that others read too is a term of its own."""
    terms, todo = [], [merged]
    while todo:
        node = todo.pop()
        inner = node is merged or (node is not source and is_sum(flow, node) and len(node.users) == 1)
        todo.extend(reversed(flow.sources(node))) if inner else terms.append(node)
    return terms


def _pair(flow: Flow, source: Node, merged: Node, terms: Sequence[Node]) -> Found | None:
    """Return the unit whose shortcut is the cheapest term that can be one, or None."""
    candidates = [term for term in terms if _is_shortcut(flow, source, term, merged)]
    if not candidates:
        return None
    shortcut = min(candidates, key=lambda term: _cost(flow, source, term))
    others = [term for term in terms if term is not shortcut]
    if not _is_branch(flow, source, shortcut, others):
        return None
    return Found(source, shortcut, _sum(flow, merged, others), merged, Add())


def _is_shortcut(flow: Flow, source: Node, term: Node, merged: Node) -> bool:
    """Whether a term is the source itself, or a line of linear layers and pooling, in the shape of the sum."""
    if term.meta["val"].shape != merged.meta["val"].shape:
        return False
    while term is not source:
        operator, read = overload(term), flow.sources(term)
        name = operator._schema.name.split("::")[1] if operator is not None else "getitem"
        if len(read) != 1 or name not in LINEAR:
            return False
        term = read[0]
    return True


def _is_branch(flow: Flow, source: Node, shortcut: Node, terms: Sequence[Node]) -> bool:
    """Whether terms compute more than the shortcut, and nothing that the shortcut computes too."""
    passed = {node for node in flow.between(source, shortcut) if node in flow.dominators}
    sides = [flow.between(source, term) for term in terms]
    apart = not any(passed.intersection(side) for side in sides)
    return apart and sum(_numbers(flow, side) for side in sides) > _cost(flow, source, shortcut)


def _cost(flow: Flow, source: Node, result: Node) -> int:
    return _numbers(flow, flow.between(source, result))


def _numbers(flow: Flow, nodes: Sequence[Node]) -> int:
    """Return how many numbers of weights a stretch reads: none for an identity, few for a 1×1 projection."""
    return sum(flow.weights[node][1].numel() for node in nodes if node in flow.weights)


def _sum(flow: Flow, merged: Node, terms: Sequence[Node]) -> Node:
    """Return the node that adds terms up, new in the graph where there are several."""
    total = terms[0]
    for term in terms[1:]:
        with flow.graph.inserting_before(merged):
            total = flow.graph.call_function(aten.add.Tensor, (total, term))
        total.meta = dict(merged.meta)
    return total


def _dense(flow: Flow, source: Node, merged: Node) -> Found | None:
    """Return the unit of a concatenation that appends what a branch makes of the source to the source's maps."""
    joined, *axis = merged.args
    assert isinstance(joined, Sequence)
    value = merged.meta["val"]
    if len(joined) != 2 or joined[0] is not source or axis not in ([1], [-3]) or value.dim() != 4:
        return None
    branch = joined[1]
    assert isinstance(branch, Node)
    if branch not in flow.dominators or _cost(flow, source, branch) == 0:
        return None
    return Found(source, source, branch, merged, Concatenate(branch.meta["val"].shape[1]))
