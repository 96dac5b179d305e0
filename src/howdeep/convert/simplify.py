"""A traced graph in which every value is written once: results stay the same to the bit."""

from collections import defaultdict

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_arg

from howdeep.convert.trace import Traced, aten

DROPOUTS = {
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.feature_dropout_.default,
    aten.alpha_dropout.default,
    aten.alpha_dropout_.default,
    aten.feature_alpha_dropout.default,
    aten.feature_alpha_dropout_.default,
}
LIKE = {aten.new_zeros.default, aten.new_ones.default, aten.new_empty.default, aten.new_full.default}
"""Operators that take from their first argument its type and device alone."""

CONSTANTS = "constants"
"""What folded constants are called before the dot, as buffers of a part."""

Overwrites = dict[Node, OpOverload]
"""For every value that wrote over its first argument the operator that did so: a part may do so again."""


class SharedWrite(Exception):
    """A write in place that cannot become a new value, as another view of the same memory is read later."""


def simplify(traced: Traced) -> Overwrites:
    """Rewrite a graph in place; results stay the same to the bit.

    Raises:
        SharedWrite: The network writes into a part of a tensor.
    """
    _read_batch_from_images(traced)
    _fold_constants(traced)
    overwrites = _write_once(traced)
    _nest_cats(traced)
    return overwrites


def overload(node: Node) -> OpOverload | None:
    """Return the ATen operator of a node; None for weights, elements of tuples and arithmetic on sizes."""
    return node.target if isinstance(node.target, OpOverload) else None


def schema_of(operator: OpOverload) -> torch.FunctionSchema:
    """Return the signature of an operator: its name and arguments; the attribute is private (torch 2.15)."""
    return operator._schema


def is_view(node: Node) -> bool:
    """Whether a value may share the memory of its first argument, as that of dropout does in evaluation."""
    operator = overload(node)
    if node.target in DROPOUTS:
        return True
    if operator is None:
        return bool(node.all_input_nodes)  # an element of a tuple, such as that of unbind
    return any(argument.alias_info is not None for argument in schema_of(operator).arguments)


def is_batch(size: object, images: Node) -> bool:
    """Whether a traced size is the number of images."""
    batch = images.meta["val"].shape[0]
    return isinstance(size, torch.SymInt) and size.node.expr == batch.node.expr


def _read_batch_from_images(traced: Traced) -> None:
    """Read sizes, types and devices that are those of the images from the images: they carry no data."""
    kind = traced.images.meta["val"].dtype
    for node in traced.graph.nodes:
        if node.target is aten.sym_size.int and is_batch(node.meta["val"], traced.images):
            node.args = (traced.images, 0)
        elif node.target in LIKE and node.args[0].meta["val"].dtype == kind:
            node.args = (traced.images, *node.args[1:])


def _fold_constants(traced: Traced) -> None:
    """Compute what depends on neither images nor weights, in the order of the graph, writing in place included."""
    example = traced.images.meta["val"]
    # Only operators of LIKE read it, and those take its type and device.
    stand_in = torch.empty(0, dtype=example.dtype, device=example.device)
    known: dict[Node, object] = {}
    for node in traced.graph.nodes:
        values = {traced.images: stand_in, **known} if node.target in LIKE else known
        if node.op == "call_function" and all(source in values for source in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)  # type: ignore[misc]
            known[node] = node.target(*args, **kwargs)
    for node in reversed(known):
        value = known[node]
        if not node.users:
            traced.graph.erase_node(node)
        elif isinstance(value, Tensor) and any(user not in known for user in node.users):
            # The rest of the graph reads it: it stands for itself, as a weight does. Flat, as
            # Module.to(memory_format=…) fails on buffers of five axes.
            with traced.graph.inserting_before(node):
                buffer = traced.graph.create_node("get_attr", node.name)
            traced.weights[buffer] = (f"{CONSTANTS}.{node.name}", value.flatten())
            node.target, node.args, node.kwargs = aten.view.default, (buffer, list(value.shape)), {}


def _write_once(traced: Traced) -> Overwrites:
    """Turn what writes in place into what does not, and lead later readers to the new value."""
    current: dict[Node, Node] = {}
    roots: dict[Node, Node] = {}
    families: defaultdict[Node, list[Node]] = defaultdict(list)
    overwrites: Overwrites = {}

    def latest(node: Node) -> Node:
        while node in current:
            node = current[node]
        return node

    for node in traced.graph.nodes:
        node.args, node.kwargs = map_arg((node.args, node.kwargs), latest)  # type: ignore[misc]
        operator = overload(node)
        if operator is not None and _writes(operator):
            written = node.all_input_nodes[0]
            others = [relative for relative in families[roots[written]] if relative is not written]
            if any(user > node for relative in others for user in relative.users):
                raise SharedWrite(f"{node.target} writes over a tensor of which another view is read later")
            node.target, overwrites[node], current[written] = _functional(operator), operator, node
        roots[node] = roots[node.all_input_nodes[0]] if is_view(node) else node
        families[roots[node]].append(node)
    return overwrites


def _writes(operator: OpOverload) -> bool:
    """Return whether an operator writes over its first argument."""
    first = schema_of(operator).arguments[:1]
    return any(argument.alias_info is not None and argument.alias_info.is_write for argument in first)


def _functional(operator: OpOverload) -> OpOverload:
    """Return the operator that returns what this one writes: relu for relu_."""
    schema = schema_of(operator)
    namespace, name = schema.name.split("::")
    return getattr(getattr(getattr(torch.ops, namespace), name.removesuffix("_")), schema.overload_name or "default")


def _nest_cats(traced: Traced) -> None:
    """Let a concatenation that extends an earlier one by one tensor read that one: the values are the same."""
    seen: dict[tuple[object, ...], Node] = {}
    for node in traced.graph.find_nodes(op="call_function", target=aten.cat.default):
        joined, *axis = node.args
        parts = list(joined)
        known = seen.get((*axis, *parts[:-1]))
        seen[*axis, *parts] = node if len(parts) > 1 else parts[0]
        if len(parts) == 1:
            node.replace_all_uses_with(parts[0])
        elif len(parts) > 2 and known is not None:
            node.args = ([known, parts[-1]], *axis)
