"""Norms folded into the convolutions before them: the same function in evaluation mode, to rounding, in fewer passes.

γ · (W ∗ x + b − μ) / √(σ² + ε) + β  =  W′ ∗ x + b′        W′ = W · γ / √(σ² + ε)
"""

import copy
from itertools import pairwise
from operator import attrgetter
from typing import TypeGuard

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from howdeep.chain import Chain

CONVOLUTION = torch.ops.aten.conv2d.default


def fold_norms(chain: Chain) -> Chain:
    """Return a copy of a chain in evaluation mode, without the norms that directly follow a convolution.

    Norms before a convolution (in pre-activation and dense networks) stay: a ReLU stands between the two. So do norms
    without running statistics, whose factors are those of each batch.
    """
    folded = copy.deepcopy(chain).eval()
    for module in list(folded.modules()):
        if isinstance(module, GraphModule):
            _fold_graph(module)
        elif isinstance(module, nn.Sequential):
            for (first, convolution), (second, norm) in pairwise(list(module.named_children())):
                if isinstance(convolution, nn.Conv2d) and _foldable(norm):
                    setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                    delattr(module, second)
    return folded


def _fold_graph(part: GraphModule) -> None:
    """Fold the norms of a traced part, in place."""
    for node in [node for node in part.graph.nodes if node.op == "call_module"]:
        norm, convolution = part.get_submodule(str(node.target)), node.args[0]
        alone = convolution.target is CONVOLUTION and len(convolution.users) == 1
        # Weights that are computed differ from pass to pass.
        if alone and all(one is None or one.op == "get_attr" for one in convolution.args[1:3]) and _foldable(norm):
            _fold_pair(part, convolution, node, norm)
    for node in [node for node in part.graph.nodes if node.op == "get_attr" and not node.users]:
        part.graph.erase_node(node)
    part.delete_all_unused_submodules()
    part.recompile()


def _foldable(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Return whether a layer is a norm with running statistics."""
    return isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None


def _fold_pair(part: GraphModule, convolution: Node, node: Node, norm: nn.BatchNorm2d) -> None:
    given = [attrgetter(str(one.target))(part) for one in convolution.args[1:3] if isinstance(one, Node)]
    weight, bias = given if len(given) == 2 else (*given, None)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    folded = fuse_conv_bn_weights(weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    names = [f"folded_{node.name}_{kind}" for kind in ("weight", "bias")]
    for name, parameter in zip(names, folded, strict=True):
        part.register_parameter(name, parameter)
    with part.graph.inserting_before(convolution):
        attributes = [part.graph.get_attr(name) for name in names]
    convolution.args = (convolution.args[0], *attributes, *convolution.args[3:])
    node.replace_all_uses_with(convolution)
    part.graph.erase_node(node)
