"""A network as a chain: cut at its units, or else at its layers, into modules that share its weights."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate

from howdeep.chain import Chain, Unit
from howdeep.convert.merges import Dataflow, UnitNodes, layers, merges
from howdeep.convert.modes import Modes, layers_of, modes_of
from howdeep.convert.simplify import CONSTANTS, SharedWrite, is_view, simplify
from howdeep.convert.trace import giving_logits, modules_of, trace, unwrapped
from howdeep.util.errors import UserError

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Allowed difference between a network and its chain, as a share of the largest logit; 0.05 for shorter types.

Almost all are equal to the bit; sums of more than two terms are added up in another order."""


class Unravelled(Chain):
    """The chain of a network of others: it trains as the network does, or says why it cannot.

    Args:
        stem: Images to the first value that all data pass.
        body: Units and links.
        head: The last such value to the logits.
        modes: What of the network depends on its mode.
    """

    def __init__(self, stem: nn.Module, body: Iterable[nn.Module], head: nn.Module, modes: Modes) -> None:
        super().__init__(stem, body, head)
        self.modes = modes

    def train(self, mode: bool = True) -> Self:
        """Put every module into training mode, or into evaluation mode.

        Raises:
            UserError: Training mode is asked of a network that does there what its chain cannot.
        """
        if mode and self.modes.refusal is not None:
            raise UserError(self.modes.refusal)
        return super().train(mode)


def unravel(model: nn.Module, example: Tensor) -> Unravelled:
    """Return a network as a chain: stem → units and the links between them → head, in evaluation mode.

    A unit is a sum of a shortcut and a branch, or a concatenation that appends a branch's feature maps to what it
    read. A network without any is cut into its layers, which have no shortcut. The parts share the network's
    parameters and buffers, so that what changes there changes here; the network itself stays as it is.

    Args:
        model: The network; it reads one tensor and returns the logits: a tensor, or something that has them as
            ``logits``. What runs it in parallel or compiled is taken off.
        example: Images on the network's device, shape (batch, channels, height, width). The chain takes batches of
            any size, and images of this height and width.

    Raises:
        UserError: It is no module, cannot be traced, returns something else than logits, or has nothing to cut at.
    """
    model = unwrapped(model)
    try:
        flow, modes = _flow(model, example, functional=False)
    except SharedWrite:
        flow, modes = _flow(model, example, functional=True)
    units = merges(flow) or layers(flow)
    if not units:
        sought = "sums and concatenations of a shortcut and a branch, or convolution layers, that all data pass through"
        cure = "pass the part of the network that has them"
        raise UserError(f"no units found in {type(model).__name__}: looked for {sought}; {cure}")
    stem, head = part(flow, flow.images, units[0].source), part(flow, units[-1].merged, flow.result)
    chain = Unravelled(stem, _body(flow, units), head, modes).eval()
    _require_same(model, chain, example[:1])
    return chain


def _flow(model: nn.Module, example: Tensor, *, functional: bool) -> tuple[Dataflow, Modes]:
    """Return the simplified graph of a network, and what of it depends on the mode.

    Raises:
        SharedWrite: The network writes into a part of a tensor.
    """
    traced = trace(model, example, functional=functional)
    kept, modes = layers_of(traced, model, modes_of(model, example))
    overwrites = simplify(traced)
    result = traced.output.args[0]
    assert isinstance(result, Node)
    return Dataflow(traced.graph, traced.images, result, traced.weights, overwrites, kept), modes


def _body(flow: Dataflow, units: Sequence[UnitNodes]) -> Iterator[nn.Module]:
    """Yield the units, and what lies between one and the next as a link."""
    last: Node = units[0].source
    for unit, name in zip(units, unit_names(flow, units), strict=True):
        if last is not unit.source:
            yield part(flow, last, unit.source)
        branch, shortcut = (part(flow, unit.source, result) for result in (unit.branch, unit.shortcut))
        yield Unit(branch, shortcut, unit.merge, name)
        last = unit.merged


def _require_same(model: nn.Module, chain: Chain, images: Tensor) -> None:
    """Refuse a chain whose logits are not the network's: one that draws random numbers, or decides by values."""
    with giving_logits(model), torch.no_grad():
        expected, actual = model(images), chain(images)
    difference, scale = (actual - expected).abs().max().item(), expected.abs().max().item()
    if not difference <= TOLERANCE.get(expected.dtype, 0.05) * scale:
        what = f"its chain's logits differ from its own by {difference:.1e} of {scale:.1e}"
        raise UserError(f"{type(model).__name__} cannot be unravelled, it is random or decides by values: {what}")


def part(flow: Dataflow, source: Node, result: Node) -> nn.Module:
    """Return the module that computes a result from a source; it shares the network's weights.

    What depends on weights alone (a position bias) is computed in every part that reads it.
    """
    if source is result:
        return nn.Identity()
    graph, nodes = Graph(), flow.between(source, result)
    x = graph.placeholder("x")
    # The number of images, their type and device are those of what the part reads.
    copies = {source: x, flow.images: x}
    # The weights of a module are its own.
    read = {given for node in nodes if node not in flow.layers for given in node.all_input_nodes}
    for node in nodes:
        if node not in flow.weights or node in read:
            copies[node] = _copy(flow, node, graph, copies)
    graph.output(copies[result])
    named = [{**flow.weights, **flow.layers}[node] for node in copies if node in flow.weights or node in flow.layers]
    return GraphModule(dict(named), graph, class_name="Part")


def _copy(flow: Dataflow, node: Node, graph: Graph, copies: dict[Node, Node]) -> Node:
    """Return a node's copy in the graph of a part; its sources are copied already."""
    if node in flow.weights:
        return graph.get_attr(flow.weights[node][0])
    if node in flow.layers:
        return graph.call_module(flow.layers[node][0], (copies[node.all_input_nodes[0]],))
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


def _may_overwrite(flow: Dataflow, node: Node, copies: dict[Node, Node]) -> bool:
    """Whether a value may be written over its first argument: one that is made in this part, and read by nobody else.

    The network did so; where it still may, a part needs a buffer less.
    """
    if node not in flow.overwrites:
        return False
    written = node.args[0]
    assert isinstance(written, Node)
    return copies[written].op in ("call_function", "call_module") and len(written.users) == 1 and not is_view(written)


def unit_names(flow: Dataflow, units: Sequence[UnitNodes]) -> list[str]:
    """Return one name per unit, no two alike: the deepest module that contains the branch and the merge.

    A module that contains several units (a transformer block) is followed by the child with most weights of the
    branch, and by a number where that does not tell them apart either.
    """
    stretches = [flow.between(unit.source, unit.branch) for unit in units]
    owners = [
        _owner([node for node in (*nodes, unit.merged) if node in flow.dominators])
        for unit, nodes in zip(units, stretches, strict=True)
    ]
    while (finer := _finer(flow, owners, stretches)) != owners:
        owners = finer
    # Those that are still alike, or empty, are counted from 1.
    alike, seen, unique = Counter(owners), Counter(), []
    for name in owners:
        seen[name] += 1
        unique.append(f"{name}:{seen[name]}" if alike[name] > 1 or not name else name)
    return unique


def _finer(flow: Dataflow, owners: Sequence[str], stretches: Sequence[Sequence[Node]]) -> list[str]:
    """Return the same names, one module deeper where several are alike."""
    alike = Counter(owners)
    pairs = zip(owners, stretches, strict=True)
    return [_child(flow, name, nodes) if alike[name] > 1 else name for name, nodes in pairs]


def _owner(nodes: Sequence[Node]) -> str:
    """Return the deepest module in whose forward pass all nodes were made; empty for the network itself."""
    stacks = [stack for node in nodes if (stack := modules_of(node))]
    common = ""
    for level in zip(*stacks, strict=False):
        if len(set(level)) > 1:
            break
        common = level[0]
    return common


def _child(flow: Dataflow, owner: str, nodes: Sequence[Node]) -> str:
    """Return the child of a module that owns most of the weights of a stretch; the module itself if none does."""
    inside, weights = f"{owner}." if owner else "", defaultdict[str, int](int)
    for name, tensor in (flow.weights[node] for node in nodes if node in flow.weights):
        child, _, weight = name.removeprefix(inside).partition(".")
        if name.startswith(inside) and weight and child != CONSTANTS:
            weights[inside + child] += tensor.numel()
    return max(weights, key=weights.__getitem__, default=owner)
