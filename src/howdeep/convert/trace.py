"""A network as a flat graph of ATen operators, for batches of any size, in which every value is written once."""

import io
import logging
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, Node
from torch.fx.node import map_arg
from torch.nn.parallel import DistributedDataParallel

from howdeep.runtime.modes import modes_kept
from howdeep.util.errors import UserError

BATCH = 2
"""Images of the traced batch: torch.export takes a batch of one for a constant."""

REASON = 250
"""Characters of torch.export's reason that an error repeats."""


@dataclass(frozen=True)
class Traced:
    """What a network computes in evaluation mode."""

    graph: Graph
    """Its operators, in the order in which they run."""
    images: Node
    """The input."""
    output: Node
    """The node at the end, which reads the result."""
    weights: dict[Node, tuple[str, Tensor]]
    """The nodes that stand for a parameter or buffer: its qualified name, and the network's own object."""


def trace(model: nn.Module, example: Tensor, *, functional: bool = False) -> Traced:
    """Return the graph of a network in evaluation mode; the network is left as it was.

    Args:
        model: The network, which reads one tensor and returns one, or something with ``logits``.
        example: Images, shape (batch, channels, height, width); all but the batch is fixed from here on.
        functional: Let torch.export replace everything that writes in place. That doubles the time, and takes some
            operators apart; ``simplify`` does it better, but not for writes into a part of a tensor.

    Raises:
        UserError: The network cannot be traced, or returns something else than one tensor.
    """
    # Values do not matter to the trace, and neither does the example's batch, which may be one.
    images = torch.zeros(BATCH, *example.shape[1:], dtype=example.dtype, device=example.device)
    with evaluating(model), torch.no_grad():
        program = _export(model, images)
        program = program.run_decompositions({}) if functional else program
    graph, signature = program.graph, program.graph_signature
    _require_flat(model, graph)
    nodes = {node.name: node for node in graph.nodes}
    output = _output(graph, nodes[_result(model, program)])
    _whole_norms(graph)
    return Traced(graph, nodes[str(next(iter(signature.user_inputs)))], output, _weights(model, program, nodes))


def unwrapped(model: object) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel and ``torch.compile``, in any order.

    Raises:
        UserError: It is no module, or a program of TorchScript.
    """
    while True:
        inner = model.module if isinstance(model, nn.DataParallel | DistributedDataParallel) else _uncompiled(model)
        if inner is model:
            break
        model = inner
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(f"{_name(model)} is a program of TorchScript: pass the module that it was made from")
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise UserError(f"unravel takes a network that is a torch.nn.Module, not {what}: make a module of it")
    return model


def _uncompiled(model: object) -> object:
    """Return the module inside that of ``torch.compile``, whose class and attribute are private (torch 2.15)."""
    from torch._dynamo import OptimizedModule  # a second, which nothing else needs

    return model._orig_mod if isinstance(model, OptimizedModule) else model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own mode at the end.

    Meanwhile the network returns its logits alone (see :func:`logits_of`), and nothing is compiled to run it once.
    """
    with modes_kept(model):
        model.eval()
        hook = model.register_forward_hook(lambda network, _, returned: logits_of(network, returned))
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            hook.remove()


def logits_of(model: nn.Module, returned: object) -> Tensor:
    """Return the logits that a network returns: a tensor, alone in a tuple, or what is called ``logits``.

    Raises:
        UserError: It is none of them.
    """
    logits = returned.get("logits") if isinstance(returned, Mapping) else getattr(returned, "logits", None)
    alone = returned[0] if isinstance(returned, tuple | list) and len(returned) == 1 else returned
    for found in (logits, alone):
        if isinstance(found, Tensor):
            return found
    what = f"a {type(returned).__name__}"
    if isinstance(returned, Mapping):
        what += f" with {', '.join(map(repr, returned)) or 'nothing'}"
    elif isinstance(returned, tuple | list):
        what += f" of {len(returned)}"
    cure = "wrap it in a module that returns the logits alone"
    raise UserError(f"{_name(model)} does not return one tensor or logits, but {what}: {cure}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch.export logs and prints about a network that it refuses: the error says it in one line."""
    known = [log for log in logging.root.manager.loggerDict.values() if isinstance(log, logging.Logger)]
    logs = {log for log in known if log.name.startswith("torch.")} | {logging.getLogger("torch")}
    levels = [(log, log.level) for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in levels:
            log.setLevel(level)


def _export(model: nn.Module, images: Tensor) -> ExportedProgram:
    try:
        with quiet():
            return torch.export.export(model, (images,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    except UserError:
        raise
    except Exception as error:  # whatever the network's own code raises while it is traced
        cure = "it needs a forward pass without decisions that depend on values or on the batch"
        raise UserError(f"{_name(model)} cannot be traced by torch.export, {cure}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Return in one short line what PyTorch says of a network that it cannot trace."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # The first line of a violated constraint does not say which; that of a tensor kept aside is very long.
    return textwrap.shorten(" ".join(lines[: 2 if "Constraints" in lines[0] else 1]), REASON, placeholder=" …")


def _result(model: nn.Module, program: ExportedProgram) -> str:
    """Return the name of the node that the network returns, or refuse one that returns what it was given."""
    names = list(program.graph_signature.user_outputs)
    if names[0] is None:
        raise UserError(f"{_name(model)} returns a constant: there is nothing that depends on the images")
    return str(names[0])


def _require_flat(model: nn.Module, graph: Graph) -> None:
    blocks = [str(node.target) for node in graph.nodes if isinstance(node.target, HigherOrderOperator)]
    if blocks:
        cure = "it runs a part of its forward pass in another mode, such as autocast; take that out"
        raise UserError(f"{_name(model)} cannot be cut, {cure}: torch.export's {blocks[0]}")


def _output(graph: Graph, result: Node) -> Node:
    """Let a graph return the result alone: the trace also returns buffers that the network writes to."""
    graph.erase_node(graph.output_node())
    return graph.output(result)


def _whole_norms(graph: Graph) -> None:
    """Write norms that were taken apart, an operator with three results, as the network called them."""
    for node in graph.find_nodes(op="call_function", target=aten._native_batch_norm_legit_no_training.default):
        normed = next(user for user in node.users if user.args[1] == 0)
        *tensors, momentum, eps = node.args
        normed.target, normed.args = aten.batch_norm.default, (*tensors, False, momentum, eps, True)
        normed.meta["nn_module_stack"] = node.meta.get("nn_module_stack")
        graph.erase_node(node)


def _weights(model: nn.Module, program: ExportedProgram, nodes: dict[str, Node]) -> dict[Node, tuple[str, Tensor]]:
    """Return the very parameters and buffers of the network; tensors that it keeps elsewhere come from the trace."""
    signature = program.graph_signature
    own = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    targets = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    found = {}
    for name, target in targets.items():
        value = own[target] if target in own else program.constants[target]
        assert isinstance(value, Tensor)
        found[nodes[name]] = (target, value)
    return found


def _name(model: object) -> str:
    return type(model).__name__


aten = torch.ops.aten

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
        _name_constant(traced, node, known[node], used=any(user not in known for user in node.users))


def _name_constant(traced: Traced, node: Node, value: object, *, used: bool) -> None:
    """Let a constant that the rest of the graph reads stand for itself, as a weight does."""
    if not used:
        if not node.users:
            traced.graph.erase_node(node)
    elif isinstance(value, Tensor):
        # Flat, as Module.to(memory_format=…) fails on buffers of five axes.
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
            _require_unshared(node, families[roots[written]])
            node.target, overwrites[node], current[written] = _functional(operator), operator, node
        roots[node] = roots[node.all_input_nodes[0]] if is_view(node) else node
        families[roots[node]].append(node)
    return overwrites


def _writes(operator: OpOverload) -> bool:
    first = schema_of(operator).arguments[:1]
    return any(argument.alias_info is not None and argument.alias_info.is_write for argument in first)


def _require_unshared(node: Node, family: list[Node]) -> None:
    """Raise SharedWrite for a write that would show in another view of the same memory, read later."""
    written = node.all_input_nodes[0]
    if any(user > node for relative in family if relative is not written for user in relative.users):
        raise SharedWrite(f"{node.target} writes over a tensor of which another view is read later")


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
