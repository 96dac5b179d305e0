"""Norms folded into the convolutions before them: the same function in evaluation mode, to rounding, in fewer passes.

γ · (W ∗ x + b − μ) / √(σ² + ε) + β  =  W′ ∗ x + b′        W′ = W · γ / √(σ² + ε)
"""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from howdeep.chain import Chain

CONVOLUTION, NORM = torch.ops.aten.conv2d.default, torch.ops.aten.batch_norm.default


def fold_norms(chain: Chain) -> Chain:
    """Return a copy of a chain in evaluation mode, without the norms that directly follow a convolution.

    Norms before a convolution (in pre-activation and dense networks) stay: a ReLU stands between the two. So do norms
    without running statistics, whose factors are those of each batch.
    """
    folded = copy.deepcopy(chain).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
        elif isinstance(module, GraphModule):
            _fold_graph(module)
    return folded


def _fold_sequence(layers: nn.Sequential) -> None:
    """Fold the norms of a sequence of layers, in place."""
    for (first, convolution), (second, norm) in pairwise(list(layers.named_children())):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            setattr(layers, first, fuse_conv_bn_eval(convolution, norm))
            delattr(layers, second)


def _fold_graph(part: GraphModule) -> None:
    """Fold the norms of a traced part, in place."""
    for norm in [node for node in part.graph.nodes if node.target is NORM]:
        convolution = norm.args[0]
        if convolution.target is CONVOLUTION and len(convolution.users) == 1 and _fixed(convolution, norm):
            _fold_pair(part, convolution, norm)
    for node in [node for node in part.graph.nodes if node.op == "get_attr" and not node.users]:
        part.graph.erase_node(node)
    part.delete_all_unused_submodules()
    part.recompile()


def _fixed(convolution: Node, norm: Node) -> bool:
    """Return whether the factors of both are the same in every pass: kept statistics, weights that are not computed."""
    *_, mean, variance, batch = norm.args[:6]
    tensors = (*convolution.args[1:3], *norm.args[1:5])
    kept = all(node is None or (isinstance(node, Node) and node.op == "get_attr") for node in tensors)
    return kept and mean is not None and variance is not None and not batch


def _fold_pair(part: GraphModule, convolution: Node, norm: Node) -> None:
    weight, bias = (_tensor(part, node) for node in (*convolution.args[1:], None)[:2])
    scale, shift, mean, variance = (_tensor(part, node) for node in norm.args[1:5])
    assert weight is not None, "a convolution has a weight"
    assert mean is not None
    assert variance is not None
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, norm.args[7], scale, shift)  # type: ignore[arg-type]
    names = [f"folded_{norm.name}_{kind}" for kind in ("weight", "bias")]
    for name, parameter in zip(names, folded, strict=True):
        part.register_parameter(name, parameter)
    with part.graph.inserting_before(convolution):
        attributes = [part.graph.get_attr(name) for name in names]
    convolution.args = (convolution.args[0], *attributes, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    part.graph.erase_node(norm)


def _tensor(part: GraphModule, node: object) -> nn.Parameter | None:
    """Return the weight or buffer that a node of a graph stands for."""
    if not isinstance(node, Node):
        return None
    owner, _, name = str(node.target).rpartition(".")
    return getattr(part.get_submodule(owner), name)
