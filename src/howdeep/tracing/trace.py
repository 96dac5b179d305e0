"""A network as a flat graph of ATen operators, its batch of any size."""

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, Node
from torch.utils._pytree import tree_structure

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
        model: The network, which reads one tensor and returns one.
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


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own mode at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _export(model: nn.Module, images: Tensor) -> ExportedProgram:
    try:
        with warnings.catch_warnings():
            # A network that keeps what it computed (LeViT) is put back by torch.export, which then says so.
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            return torch.export.export(model, (images,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    except Exception as error:  # whatever the network's own code raises while it is traced
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # The first line of a violated constraint does not say which; that of a tensor kept aside is very long.
        reason = textwrap.shorten(" ".join(lines[: 2 if "Constraints" in lines[0] else 1]), REASON, placeholder=" …")
        cure = "it needs a forward pass without decisions that depend on values or on the batch"
        raise UserError(f"{_name(model)} cannot be traced by torch.export, {cure}: {reason}") from error


def _result(model: nn.Module, program: ExportedProgram) -> str:
    """Return the name of the node that the network returns, or refuse one that returns something else."""
    names, leaf = list(program.graph_signature.user_outputs), tree_structure(0)
    if program.call_spec.out_spec != leaf or names[0] is None:
        raise UserError(f"{_name(model)} does not return one tensor: wrap it in a module that returns the scores alone")
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


def _name(model: nn.Module) -> str:
    return type(model).__name__
