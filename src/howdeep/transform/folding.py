"""Norms folded into the convolutions before them: the same function to rounding, in fewer passes over feature maps.

γ · (W ∗ x + b − μ) / √(σ² + ε) + β  =  W′ ∗ x + b′        s = γ / √(σ² + ε),  W′ = s · W,  b′ = s · (b − μ) + β

Once, for a network that is evaluated; or in every pass, for one that is trained while its norms keep their statistics:
W, b, γ and β get their gradients through W′ and b′, and no feature map is kept a second time to be normalised.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain as chained
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from howdeep.chain import Chain

CONVOLUTION = torch.ops.aten.conv2d.default


def fold_norms(chain: Chain) -> Chain:
    """Return a copy of a chain in evaluation mode, without the norms that directly follow a convolution.

    Norms before a convolution (in pre-activation and dense networks) stay: a ReLU stands between the two. So do norms
    without running statistics, whose factors are those of each batch.
    """
    folded = copy.deepcopy(chain).eval()
    for parent, (first, convolution), (second, norm) in _sequences(folded):
        setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
        delattr(parent, second)
    for part, convolution, node, norm in _graphs(folded):
        given = [attrgetter(str(one.target))(part) for one in convolution.args[1:3] if isinstance(one, Node)]
        weight, bias = given if len(given) == 2 else (*given, None)
        names = [f"folded_{node.name}_{kind}" for kind in ("weight", "bias")]
        for name, tensor in zip(names, _folded(weight, bias, norm), strict=True):
            part.register_parameter(name, nn.Parameter(tensor.detach()))
        with part.graph.inserting_before(convolution):
            attributes = [part.graph.get_attr(name) for name in names]
        convolution.args = (convolution.args[0], *attributes, *convolution.args[3:])
        node.replace_all_uses_with(convolution)
        part.graph.erase_node(node)
    return folded


def folding_norms(chain: Chain) -> Chain:
    """Return what computes as a chain does, shares its tensors, and folds norms in evaluation mode in every pass.

    It is the chain itself where no norm in evaluation mode directly follows a convolution. Where weights are more
    numbers than a feature map has, folding them takes longer than it saves: there the norm stays.
    """
    if not any(map(_foldable, chain.modules())):
        return chain
    shared = {id(tensor): tensor for tensor in chained(chain.parameters(), chain.buffers())}
    folding = copy.deepcopy(chain, shared)
    for parent, (first, convolution), (second, norm) in _sequences(folding):
        setattr(parent, first, _Layer(convolution, norm))
        delattr(parent, second)
    for part, convolution, node, norm in _graphs(folding):
        name = f"folding_{node.name}"
        part.add_submodule(name, _Call(norm))
        with part.graph.inserting_before(node):
            node.replace_all_uses_with(part.graph.call_module(name, convolution.args))
        for gone in (node, convolution):
            part.graph.erase_node(gone)
    return folding


def _folded(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return W′ and b′, by the equation of this module."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else norm.weight * scale
    moved = -norm.running_mean if bias is None else bias - norm.running_mean
    return weight * scale.view(-1, 1, 1, 1), scale * moved if norm.bias is None else scale * moved + norm.bias


def _normed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm: nn.BatchNorm2d,
    convolve: Callable[..., Tensor],
    stride: Sequence[int],
) -> Tensor:
    """Return the norm of W ∗ x + b, which is W′ ∗ x + b′; by whichever passes over fewer numbers."""
    places = x[:, 0].numel() // math.prod(stride)  # of the feature map that is returned
    if places < weight[0].numel():
        return norm(convolve(x, weight, bias))
    return convolve(x, *_folded(weight, bias, norm))


class _Layer(nn.Module):
    """A convolution of a sequence, and the norm behind it."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm of the convolution."""
        one = self.convolution
        return _normed(x, one.weight, one.bias, self.norm, one._conv_forward, one.stride)  # private (torch 2.15)


class _Call(nn.Module):
    """A convolution of a graph, whose arguments it is given, and the norm behind it."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1, 1), *rest: Any
    ) -> Tensor:
        """Return the norm of the convolution."""
        return _normed(x, weight, bias, self.norm, lambda *given: CONVOLUTION(*given, stride, *rest), stride)


def _sequences(network: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, nn.Conv2d], tuple[str, nn.BatchNorm2d]]]:
    """Yield every convolution of a sequence and the norm behind it, with their names."""
    for module in [one for one in network.modules() if type(one).forward is nn.Sequential.forward]:
        for (first, convolution), (second, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and _foldable(norm):
                yield module, (first, convolution), (second, norm)


def _graphs(network: nn.Module) -> Iterator[tuple[GraphModule, Node, Node, nn.BatchNorm2d]]:
    """Yield every convolution of a traced part and the norm that alone reads it; tidy each part behind them."""
    for part in [one for one in network.modules() if isinstance(one, GraphModule)]:
        for node in part.graph.find_nodes(op="call_module", sort=False):
            norm, convolution = part.get_submodule(str(node.target)), node.args[0]
            if isinstance(convolution, Node) and _read_once(convolution) and _foldable(norm):
                yield part, convolution, node, norm
        for node in [node for node in part.graph.find_nodes(op="get_attr") if not node.users]:
            part.graph.erase_node(node)
        part.delete_all_unused_submodules()
        part.recompile()


def _read_once(node: Node) -> bool:
    """Return whether a node is a convolution of stored weights that one other reads."""
    given = [one for one in node.args[1:3] if isinstance(one, Node)]
    return node.target is CONVOLUTION and len(node.users) == 1 and all(one.op == "get_attr" for one in given)


def _foldable(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Return whether a layer is a norm that uses its running statistics."""
    return isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and not norm.training
