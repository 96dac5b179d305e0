"""A shallower network: a chain without some of its units, equal to the old one with their gates closed, to rounding.

What is left of a unit is what its merge makes of the shortcut alone: nothing at all where that is the identity, the
padding or projection where the shape changes. A dense unit leaves no zeros behind: its feature maps are not made, and
whoever read them reads fewer. A norm made a constant of those zeros, c = ReLU(β − μγ/√(σ² + ε)), which the layer behind
it receives instead: as a bias, or, where a convolution pads with zeros, as its convolution of a map of ones.
"""

import copy
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F

from howdeep.chain import Chain, Concatenate, Merge, Unit
from howdeep.transform.pooling import Pooled
from howdeep.util.errors import UserError

PER_CHANNEL = (nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.AdaptiveAvgPool2d, Pooled, nn.Flatten, nn.Identity)
"""Layers that make of a constant map a constant one, each channel for itself."""


def without(chain: Chain, removed: Collection[int]) -> Chain:
    """Return a copy of a chain without some of its units; see :func:`take_out`.

    Args:
        chain: The network; it stays as it is.
        removed: The units to take out, counted from 0.

    Raises:
        UserError: There is no such unit, or it changes the shape and has no shortcut.
    """
    return take_out(copy.deepcopy(chain), removed)


def take_out(chain: Chain, removed: Collection[int]) -> Chain:
    """Take some of its units out of a chain, in place, and return it.

    Its logits in evaluation mode are those of the chain with these gates at None, to rounding. The expectation p_l of
    a random rule is folded into the branches that stay, so that it needs no rule any more.

    Args:
        chain: The network.
        removed: The units to take out, counted from 0.

    Raises:
        UserError: There is no such unit, or it changes the shape and has no shortcut.
    """
    units = chain.units
    for index in removed:
        if not 0 <= index < len(units):
            raise UserError(f"there is no unit {index + 1} to take out: the network has {len(units)}")
        if not units[index].merge.removable:
            raise UserError(f"{chain.names[index]} cannot be taken out: it changes the shape and has no shortcut")
    narrow = narrows(chain)
    gates = [1.0] * len(units) if chain.rule is None else chain.rule.expected(len(units))
    for unit, gate in zip(units, gates, strict=True):
        unit.branch = _scaled(unit.branch, gate)
    gone = {units[index] for index in removed}
    body = _fewer_maps(chain, gone) if narrow else _shortcuts(chain, gone)
    chain.body, chain.rule = nn.ModuleList(body), None
    return chain.train(chain.training)


def narrows(chain: Chain) -> bool:
    """Return whether a cut takes the feature maps of a dense network away, instead of leaving zeros in their place.

    That needs readers whose layers are known: sequences that begin with norm, ReLU or pooling, and then mix channels
    by a convolution or a linear layer. The parts of a traced network are none.
    """
    dense = all(isinstance(unit.merge, Concatenate) and isinstance(unit.shortcut, nn.Identity) for unit in chain.units)
    readers = [part.branch if isinstance(part, Unit) else part for part in chain.body]
    return dense and all(_mixer(reader) is not None for reader in (*readers, chain.head))


class Closed(nn.Module):
    """What is left of a unit without its branch.

    Args:
        shortcut: What passes by.
        merge: What becomes of it.
    """

    def __init__(self, shortcut: nn.Module, merge: Merge) -> None:
        super().__init__()
        self.shortcut, self.merge = shortcut, merge

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the unit, taken out, for its input."""
        return self.merge.removed(self.shortcut(x))


class ScaledBranch(nn.Module):
    """p · branch(x), where no weight at the end of the branch can take the factor.

    Args:
        branch: What is scaled.
        factor: By how much.
    """

    def __init__(self, branch: nn.Module, factor: float) -> None:
        super().__init__()
        self.branch, self.factor = branch, factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled branch."""
        return self.factor * self.branch(x)

    def extra_repr(self) -> str:
        return f"factor={self.factor:g}"


class Surrounded(nn.Module):
    """A convolution that also reads constant feature maps, which are zero outside, without making them.

    Args:
        convolution: Of the feature maps that are there.
        kernel: Σ_i c_i W_i over the constant maps, shape (channels out, 1, height, width) of the kernel.
    """

    def __init__(self, convolution: nn.Conv2d, kernel: Tensor) -> None:
        super().__init__()
        self.convolution, self.kernel = convolution, nn.Parameter(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return W ∗ x + (Σ_i c_i W_i) ∗ 1, of which the second is computed once for the whole batch."""
        own = self.convolution
        ones = x.new_ones(1, 1, *x.shape[2:])
        return own(x) + F.conv2d(ones, self.kernel, None, own.stride, own.padding, own.dilation)


Mixer = nn.Conv2d | nn.Linear | Surrounded
"""A layer that mixes channels."""


def _scaled(branch: nn.Module, gate: object) -> nn.Module:
    """Return gate · branch: its last weights take the factor, as only ReLU and dropout may follow them (p ≥ 0)."""
    assert isinstance(gate, float | int), "evaluation has one number per unit"
    if gate == 1:
        return branch
    layers = list(branch) if isinstance(branch, nn.Sequential) else []
    last = next((layer for layer in reversed(layers) if not isinstance(layer, nn.ReLU | nn.Dropout)), None)
    if not isinstance(last, nn.Conv2d | nn.BatchNorm2d) or last.weight is None:
        return ScaledBranch(branch, gate)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(gate)
    return branch


def _shortcuts(chain: Chain, gone: Collection[nn.Module]) -> Iterator[nn.Module]:
    """Yield the body with shortcuts in place of the units that go, and nothing where that is the identity."""
    last: nn.Module = chain.stem
    probe = torch.empty(1, 1, 1, 1)
    for module in chain.body:
        if module not in gone:
            # Two activations meet where a unit between them is gone; the second changes nothing.
            if not (_only_relu(module) and _only_relu(last)):
                yield module
            last = module
        elif isinstance(module, Unit):
            passes = isinstance(module.shortcut, nn.Identity) and module.merge.removed(probe) is probe
            if not passes:
                yield (last := Closed(module.shortcut, module.merge))


def _only_relu(part: nn.Module) -> bool:
    """Return whether a part of a traced network is a ReLU and nothing else."""
    calls = (
        [node.target for node in part.graph.nodes if node.op != "placeholder"] if isinstance(part, GraphModule) else []
    )
    return len(calls) == 2 and calls[0] in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)


def _fewer_maps(chain: Chain, gone: Collection[nn.Module]) -> Iterator[nn.Module]:
    """Yield the body of a dense network whose units make and read fewer feature maps; its head is narrowed in place."""
    first = chain.body[0] if len(chain.body) else chain.head
    _, _, mixer = _layers(first.branch if isinstance(first, Unit) else first)
    kept = torch.ones(_weight(mixer).shape[1], dtype=torch.bool)
    for module in chain.body:
        if module not in gone:
            _narrow(module.branch if isinstance(module, Unit) else module, kept)
            yield module
        if isinstance(module, Unit):
            made = torch.full((module.merge.channels,), module not in gone)  # type: ignore[arg-type]
            kept = torch.cat([kept, made])
        else:
            *_, last = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
            kept = torch.ones(last.weight.shape[0], dtype=torch.bool)
    _narrow(chain.head, kept)


def _mixer(reader: nn.Module) -> str | None:
    """Return the name of the first layer that mixes channels, or None where that, or a layer before it, is another."""
    pooled = False
    for name, layer in reader.named_children() if isinstance(reader, nn.Sequential) else ():
        if isinstance(layer, nn.Conv2d):
            plain = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            return name if plain else None
        if isinstance(layer, Surrounded):
            return name
        if isinstance(layer, nn.Linear):
            return name if pooled else None
        if not isinstance(layer, PER_CHANNEL) or (isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None):
            return None
        whole = isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1))
        pooled = pooled or whole or isinstance(layer, Pooled)
    return None


def _layers(reader: nn.Module) -> tuple[nn.Sequential, str, Mixer]:
    """Return the layers before the first that mixes channels, and its name and itself."""
    name = _mixer(reader)
    assert isinstance(reader, nn.Sequential)
    assert name is not None
    mixer, place = reader.get_submodule(name), [own for own, _ in reader.named_children()].index(name)
    assert isinstance(mixer, Mixer)
    return reader[:place], name, mixer


def _weight(mixer: Mixer) -> Tensor:
    return mixer.convolution.weight if isinstance(mixer, Surrounded) else mixer.weight


def _narrow(reader: nn.Module, kept: Tensor) -> None:
    """Let a part read only some of its feature maps, bool of shape (maps,); the others were zeros."""
    if bool(kept.all()):
        return
    before, place, mixer = _layers(reader)
    weight, constants = _weight(mixer), None
    kept = kept.to(weight.device)
    norms = [layer for layer in before if isinstance(layer, nn.BatchNorm2d)]
    if norms:  # without one, what the layers make of zeros is zero
        with torch.no_grad():
            constants = copy.deepcopy(before).eval()(weight.new_zeros(1, len(kept), 1, 1)).flatten()
    for norm in norms:
        norm.num_features = int(kept.sum())
        for name in ("weight", "bias"):
            if (old := getattr(norm, name)) is not None:
                setattr(norm, name, nn.Parameter(old.detach()[kept], old.requires_grad))
        for name in ("running_mean", "running_var"):
            setattr(norm, name, getattr(norm, name)[kept])
    setattr(reader, place, _narrowed(mixer, kept, constants))


def _narrowed(mixer: Mixer, kept: Tensor, constants: Tensor | None) -> nn.Module:
    """Return a layer that reads the kept maps, and adds what it made of the constant ones, shape (maps,)."""
    if isinstance(mixer, Surrounded):
        inner = _narrowed(mixer.convolution, kept, constants)
        assert isinstance(inner, Surrounded), "maps were constant before, so they are now"
        return Surrounded(inner.convolution, inner.kernel.detach() + mixer.kernel.detach())
    whole = mixer.weight.detach()
    mixer.weight = nn.Parameter(whole[:, kept].contiguous())
    setattr(mixer, "in_channels" if isinstance(mixer, nn.Conv2d) else "in_features", int(kept.sum()))
    if constants is None:
        return mixer
    added = torch.einsum("oi...,i->o...", whole[:, ~kept], constants[~kept])
    if isinstance(mixer, nn.Conv2d) and any(mixer.padding):
        return Surrounded(mixer, added[:, None])
    constant = added.flatten(1).sum(1) if added.dim() > 1 else added
    mixer.bias = nn.Parameter(constant if mixer.bias is None else mixer.bias.detach() + constant)
    return mixer
