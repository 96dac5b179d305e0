"""A network as a flat graph of ATen operators, for batches of any size."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, Node
from torch.nn.parallel import DistributedDataParallel

from howdeep.runtime.modes import modes_kept
from howdeep.util.errors import UserError, reason

BATCH = 2
"""Images of the traced batch: torch.export takes a batch of one for a constant."""

aten = torch.ops.aten


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
    with giving_logits(model), torch.no_grad():
        program = program_of(model, images)
        program = program.run_decompositions({}) if functional else program
    graph, signature = program.graph, program.graph_signature
    blocks = [str(node.target) for node in graph.nodes if isinstance(node.target, HigherOrderOperator)]
    if blocks:
        cure = "it runs a part of its forward pass in another mode, such as autocast; take that out"
        raise UserError(f"{type(model).__name__} cannot be cut, {cure}: torch.export's {blocks[0]}")
    result = next(iter(signature.user_outputs))
    if result is None:
        raise UserError(f"{type(model).__name__} returns a constant: there is nothing that depends on the images")
    nodes = {node.name: node for node in graph.nodes}
    # The trace also returns buffers that the network writes to.
    graph.erase_node(graph.output_node())
    output = graph.output(nodes[str(result)])
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
        raise UserError(f"{type(model).__name__} is a program of TorchScript: pass the module that it was made from")
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise UserError(f"unravel takes a network that is a torch.nn.Module, not {what}: make a module of it")
    return model


def _uncompiled(model: object) -> object:
    """Return the module inside that of ``torch.compile``, whose class and attribute are private (torch 2.15)."""
    from torch._dynamo import OptimizedModule  # a second, which nothing else needs

    return model._orig_mod if isinstance(model, OptimizedModule) else model


@contextmanager
def giving_logits(model: nn.Module) -> Iterator[None]:
    """Let a network return its logits alone (see :func:`logits_of`), in evaluation mode, and be as it was at the end.

    Meanwhile nothing is compiled to run it once.
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
    raise UserError(f"{type(model).__name__} does not return one tensor or logits, but {what}: {cure}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch.export logs and prints about a network that it refuses: the error says it in one line."""
    known = [log for log in logging.root.manager.loggerDict.values() if isinstance(log, logging.Logger)]
    logs = {log for log in known if log.name.startswith("torch.")} | {logging.getLogger("torch")}
    speaking = [log for log in logs if not log.disabled]
    for log in speaking:  # setting its level would look through all loggers, each time
        log.disabled = True
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log in speaking:
            log.disabled = False


def program_of(model: nn.Module, images: Tensor) -> ExportedProgram:
    """Return a network as a program of torch.export, for batches of any size.

    Args:
        model: The network, in evaluation mode.
        images: Of any values, :data:`BATCH` of them.

    Raises:
        UserError: It cannot be traced.
    """
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(model, (images,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    except UserError:
        raise
    except Exception as error:  # whatever the network's own code raises while it is traced
        cure = "it needs a forward pass without decisions that depend on values or on the batch"
        name = type(model).__name__
        raise UserError(f"{name} cannot be traced by torch.export, {cure}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Return in one short line what PyTorch says of a network that it cannot trace."""
    # The first line of a violated constraint does not say which.
    return reason(error, lines=2 if "Constraints" in str(error).strip().partition("\n")[0] else 1)


def modules_of(node: Node) -> list[str]:
    """Return the qualified names of the modules in whose forward pass a node was made, from the outermost."""
    return [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]


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
