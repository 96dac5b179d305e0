"""The layers of a trace that depend on the mode, batch norm and dropout, as modules with the network's own tensors."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from howdeep.convert.modes import Modes, refused
from howdeep.convert.simplify import DROPOUTS
from howdeep.convert.trace import Traced, aten, modules_of

NORMS = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
"""The norm of an input with so many axes; with fewer it is the one of one dimension."""
FEATURE_DROPOUTS = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}

Layers = dict[Node, tuple[str, nn.Module]]
"""The operators that are modules in a part, with the names that they have in the network."""


def layers_of(traced: Traced, model: nn.Module, modes: Modes) -> tuple[Layers, Modes]:
    """Return the layers that depend on the mode, and take dropout that never acts out of the graph.

    Returns:
        The layers, and the modes, with a refusal where a layer could not be made.
    """
    norms, computed = _norms(traced, model, modes)
    dropouts, lost = _dropouts(traced, model, modes)
    return norms | dropouts, replace(modes, refusal=modes.refusal or computed or lost)


def _norms(traced: Traced, model: nn.Module, modes: Modes) -> tuple[Layers, str | None]:
    """Return one module per norm, also where it runs twice, and why there is one missing."""
    found: Layers = {}
    norms: dict[str, nn.Module] = {}
    for node in traced.graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        given: tuple[Any, ...] = node.args
        x, *tensors, _, momentum, eps, _ = given
        (_, weight), (_, bias), (mean_name, mean), (_, variance) = (
            traced.weights.get(one, ("", None)) for one in tensors
        )
        owner = mean_name.rpartition(".")[0] if mean is not None else _owner(node)
        like = model.get_submodule(owner)
        # Without running statistics it may be a function that standardises weights, in both modes alike.
        if not (mean_name in modes.norms or (mean is None and isinstance(like, _BatchNorm))):
            continue
        if any(one is not None and one not in traced.weights for one in tensors):
            return found, f"{refused(model)}: the norm {owner} computes its weights"
        if owner not in norms:
            norms[owner] = _norm(like, x.meta["val"], (weight, bias, mean, variance), momentum=momentum, eps=eps)
        found[node] = owner, norms[owner]
    return found, None


def _norm(like: nn.Module, x: Tensor, tensors: tuple[Tensor | None, ...], *, momentum: float, eps: float) -> _BatchNorm:
    """Return a norm of given tensors; what the trace does not say is that of the module that computed it."""
    norm = NORMS.get(x.dim(), nn.BatchNorm1d)(x.shape[1], eps=eps, momentum=momentum, device="meta")
    for name, tensor in zip(("weight", "bias", "running_mean", "running_var"), tensors, strict=True):
        setattr(norm, name, tensor)
    norm.num_batches_tracked = getattr(like, "num_batches_tracked", None)
    if isinstance(like, _BatchNorm):
        norm.momentum, norm.track_running_stats = like.momentum, like.track_running_stats
    return norm


def _dropouts(traced: Traced, model: nn.Module, modes: Modes) -> tuple[Layers, str | None]:
    """Return one module per dropout that acts in training, and why some are missing; what always acts stays."""
    nodes: list[Any] = [node for node in traced.graph.nodes if node.target in DROPOUTS]
    following = [node for node in nodes if node.args[1] and not node.args[2]]
    told_apart = len(following) == len(modes.dropouts)
    acting = {node for node, acts in zip(following, modes.dropouts, strict=False) if acts and told_apart}
    found: Layers = {}
    for node in nodes:
        if node in acting:
            found[node] = _dropout_name(model, node, found), _dropout(node)
        elif node in following or not node.args[1]:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    lost = f"{refused(model)}: its dropout cannot be found in the trace"
    return found, lost if any(modes.dropouts) and not told_apart else None


def _dropout(node: Any) -> nn.Module:
    x, probability, _ = node.args
    kinds = {
        "dropout": nn.Dropout,
        "feature_dropout": FEATURE_DROPOUTS.get(x.meta["val"].dim(), nn.Dropout),
        "alpha_dropout": nn.AlphaDropout,
        "feature_alpha_dropout": nn.FeatureAlphaDropout,
    }
    return kinds[node.target.overloadpacket.__name__.removesuffix("_")](probability)


def _dropout_name(model: nn.Module, node: Node, taken: Layers) -> str:
    """Return the name of a dropout module, or a new one below the module that called the function."""
    owner = _owner(node)
    if isinstance(model.get_submodule(owner), _DropoutNd):
        return owner
    name = f"{owner}.dropout" if owner else "dropout"
    number = sum(known.startswith(name) for known, _ in taken.values())
    return f"{name}_{number}" if number else name


def _owner(node: Node) -> str:
    """Return the module in whose forward pass a node was made; empty for the network itself."""
    return (modules_of(node) or [""])[-1]
