"""What a unit is called: the qualified name of the module that it came from."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from torch.fx import Node

from howdeep.tracing.flow import Flow
from howdeep.tracing.merges import Found
from howdeep.tracing.simplify import CONSTANTS


def names(flow: Flow, units: Sequence[Found]) -> list[str]:
    """Return one name per unit, no two alike: the deepest module that contains the branch and the merge.

    A module that contains several units (a transformer block) is followed by the child with most weights of the
    branch, and by a number where that does not tell them apart either.
    """
    stretches = [flow.between(unit.source, unit.branch) for unit in units]
    told = [
        _owner([node for node in (*nodes, unit.merged) if node in flow.dominators])
        for unit, nodes in zip(units, stretches, strict=True)
    ]
    while (finer := _finer(flow, told, stretches)) != told:
        told = finer
    return _numbered(told)


def _finer(flow: Flow, told: Sequence[str], stretches: Sequence[Sequence[Node]]) -> list[str]:
    """Return the same names, one module deeper where several are alike."""
    alike = Counter(told)
    pairs = zip(told, stretches, strict=True)
    return [_child(flow, name, nodes) if alike[name] > 1 else name for name, nodes in pairs]


def _numbered(told: Sequence[str]) -> list[str]:
    """Return the same names, those that are alike (or empty) counted from 1."""
    alike, seen, unique = Counter(told), Counter(), []
    for name in told:
        seen[name] += 1
        unique.append(f"{name}:{seen[name]}" if alike[name] > 1 or not name else name)
    return unique


def _owner(nodes: Sequence[Node]) -> str:
    """Return the deepest module in whose forward pass all nodes were made; empty for the network itself."""
    stacks = [stack for node in nodes if (stack := _stack(node))]
    common = ""
    for level in zip(*stacks, strict=False):
        if len(set(level)) > 1:
            break
        common = level[0]
    return common


def _stack(node: Node) -> list[str]:
    """Return the qualified names of the modules in whose forward pass a node was made, from the outermost."""
    stack = node.meta.get("nn_module_stack") or {}
    return [name for name, _ in stack.values()]


def _child(flow: Flow, owner: str, nodes: Sequence[Node]) -> str:
    """Return the child of a module that owns most of the weights of a stretch; the module itself if none does."""
    inside, weights = f"{owner}." if owner else "", defaultdict[str, int](int)
    for name, tensor in (flow.weights[node] for node in nodes if node in flow.weights):
        child, _, weight = name.removeprefix(inside).partition(".")
        if name.startswith(inside) and weight and child != CONSTANTS:
            weights[inside + child] += tensor.numel()
    return max(weights, key=weights.__getitem__, default=owner)
