"""A network as a flat graph of ATen operators, its batch of any size."""

import io
import logging
import textwrap
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

from howdeep.errors import UserError

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
    return Traced(graph, nodes[str(next(iter(signature.user_inputs)))], output, _weights(model, program, nodes))


def unwrapped(model: object) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel and ``torch.compile``, in any order.

    Raises:
        UserError: It is no module, or a program of TorchScript.
    """
    from torch._dynamo import OptimizedModule  # a second, which nothing else needs

    while isinstance(model, nn.DataParallel | DistributedDataParallel | OptimizedModule):
        model = model._orig_mod if isinstance(model, OptimizedModule) else model.module
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(f"{_name(model)} is a program of TorchScript: pass the module that it was made from")
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise UserError(f"unravel takes a network that is a torch.nn.Module, not {what}: make a module of it")
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own mode at the end.

    Meanwhile the network returns its scores alone (see :func:`_scores`), and nothing is compiled to run it once.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    hook = model.register_forward_hook(lambda network, _, returned: _scores(network, returned))
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        hook.remove()
        for module, mode in modes:
            module.training = mode


def _scores(model: nn.Module, returned: object) -> Tensor:
    """Return the scores that a network returns: a tensor, alone in a tuple, or what is called ``logits``.

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
    cure = "wrap it in a module that returns the scores alone"
    raise UserError(f"{_name(model)} does not return one tensor or logits, but {what}: {cure}")


@contextmanager
def _quiet() -> Iterator[None]:
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
        with _quiet():
            return torch.export.export(model, (images,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    except UserError:
        raise
    except Exception as error:  # whatever the network's own code raises while it is traced
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # The first line of a violated constraint does not say which; that of a tensor kept aside is very long.
        reason = textwrap.shorten(" ".join(lines[: 2 if "Constraints" in lines[0] else 1]), REASON, placeholder=" …")
        cure = "it needs a forward pass without decisions that depend on values or on the batch"
        raise UserError(f"{_name(model)} cannot be traced by torch.export, {cure}: {reason}") from error


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
