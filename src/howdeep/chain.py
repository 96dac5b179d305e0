"""One idea: a network is a chain of units.

Every unit is

    H_l = merge(shortcut(H_{l-1}), gate_l · branch(H_{l-1}))

A gate of 1 is an ordinary unit, a draw from {0, 1} is stochastic depth, its probability p_l the expectation of that
draw, 0 closes the branch, any other number is an intervention. The merge decides the family: add, then ReLU (ResNet),
add (pre-activation ResNet), concatenate (DenseNet), replace (plain). Nothing else needs to know which network it is.

Gates are data of one call. Numbers live on the host, so a closed branch costs no kernel and no synchronisation: it is
not computed, forward or backward, and its batch statistics do not move. Gates in a float tensor are learned instead:
they get a gradient, also at 0, so that every branch is computed.
"""

from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Protocol

import torch
from torch import Tensor, fx, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

Gate = float | Tensor | None
"""What one unit lets through: a factor on the branch, a float tensor of shape () where it is learned; a boolean tensor
of shape (batch,) on the host, true where a sample runs the branch; or None, the unit is out (:meth:`Merge.removed`)."""

Gates = Sequence[Gate] | Tensor
"""One gate per unit, in the order of the chain: a sequence, or a float tensor of shape (units,)."""


class Merge(nn.Module):
    """How the shortcut and the gated branch become the output of a unit."""

    removable: bool = True
    """Whether the unit can be taken out: false where nothing could stand in for a branch that changes the shape."""
    passes_shortcut: bool = True
    """Whether the output depends on the shortcut."""
    adds: bool = False
    """Whether the output is made of shortcut + branch alone, so that one can make up for what the other lacks."""

    def closed(self, shortcut: Tensor) -> Tensor:
        """Return the output when the branch sends zeros (gate 0)."""
        raise NotImplementedError

    def removed(self, shortcut: Tensor) -> Tensor:
        """Return the output when the unit is taken out; with a shortcut that is the same as closing it."""
        return self.closed(shortcut)

    def extra_repr(self) -> str:
        options = {name: value for name, value in vars(self).items() if name[0] != "_" and name != "training"}
        return ", ".join(f"{name}={value}" for name, value in options.items())


class Add(Merge):
    """H = shortcut + branch: pre-activation networks (He et al. 2016, Eq. 1-2)."""

    adds = True

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        return shortcut + branch

    def closed(self, shortcut: Tensor) -> Tensor:
        return shortcut


class AddReLU(Add):
    """H = ReLU(shortcut + branch): the residual network of He et al. 2015.

    Args:
        identity: The shortcut passes on an activation that is never negative (an identity, or zeros appended to
            one), so that a closed unit is exactly the shortcut (Huang et al. 2016, Eq. 3) and needs no ReLU.
    """

    def __init__(self, *, identity: bool) -> None:
        super().__init__()
        self.identity = identity

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        # In place on a sum that nobody else can hold: one buffer less per unit.
        return F.relu_(shortcut + branch)

    def closed(self, shortcut: Tensor) -> Tensor:
        return shortcut if self.identity else F.relu(shortcut)


class Concatenate(Merge):
    """H = [shortcut, branch] along the channels: dense networks (Huang et al. 2016, Eq. 2).

    A closed unit leaves zeros in its place, so that later units find every feature map where they expect it.

    Args:
        channels: Number of feature maps that the branch adds (the growth rate K).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        return torch.cat([shortcut, branch], dim=1)

    def closed(self, shortcut: Tensor) -> Tensor:
        return F.pad(shortcut, (0, 0, 0, 0, 0, self.channels))


class Replace(Merge):
    """H = branch: the plain network, which has no shortcut.

    Gate 0 sends zeros on. Taking the unit out instead sends its input on, which needs equal shapes.

    Args:
        channels: Number of feature maps that the branch returns.
        stride: How much smaller the branch makes height and width.
        removable: The branch returns the shape that it reads.
    """

    passes_shortcut = False

    def __init__(self, channels: int, *, stride: int, removable: bool) -> None:
        super().__init__()
        self.channels, self.stride, self.removable = channels, stride, removable

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        return branch

    def closed(self, shortcut: Tensor) -> Tensor:
        batch, _, height, width = shortcut.shape
        zeros = shortcut.new_zeros(batch, self.channels, -(-height // self.stride), -(-width // self.stride))
        return zeros.contiguous(memory_format=_layout(shortcut))

    def removed(self, shortcut: Tensor) -> Tensor:
        if not self.removable:
            raise ValueError("this unit changes the shape and has no shortcut: it cannot be taken out")
        return shortcut


class Unit(nn.Module):
    """H_l = merge(shortcut(H_{l-1}), gate · branch(H_{l-1})).

    Args:
        branch: What the unit learns, F.
        shortcut: What passes by: an identity, zero padding or a projection.
        merge: How the two become one.
        name: What the unit is called; empty for its number (see :attr:`Chain.names`).
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module, merge: Merge, name: str = "") -> None:
        super().__init__()
        self.branch, self.shortcut, self.merge, self.name = branch, shortcut, merge, name

    def forward(self, x: Tensor, gate: Gate = 1.0) -> Tensor:
        shortcut = self.shortcut(x)
        if gate is None:
            return self.merge.removed(shortcut)
        if isinstance(gate, Tensor):
            if gate.is_floating_point() and gate.dim() == 0:
                return self.merge(shortcut, gate * self.branch(x))
            return self._forward_kept(x, shortcut, gate)
        if gate == 0:
            return self.merge.closed(shortcut)
        branch = self.branch(x)
        return self.merge(shortcut, branch if gate == 1 else gate * branch)

    def _forward_kept(self, x: Tensor, shortcut: Tensor, keep: Tensor) -> Tensor:
        """Run the branch on the kept samples only; for the others the unit is closed.

        Runs of neighbours pass as one part of the mini-batch: the fewer there are, the less is copied.
        """
        if keep.dtype != torch.bool or keep.shape != (len(x),):
            raise ValueError(f"a gate is {keep.dtype} of {tuple(keep.shape)}, not bool of ({len(x)},) or float of ()")
        kept, lengths = (values.tolist() for values in keep.unique_consecutive(return_counts=True))
        if not any(kept):
            return self.merge.closed(shortcut)
        passing = shortcut.split(lengths)
        own = _joined(compress(passing, kept))
        branch = self.branch(own if shortcut is x else _joined(compress(x.split(lengths), kept)))
        merged = iter(self.merge(own, branch).split(list(compress(lengths, kept))))
        parts = zip(passing, kept, strict=True)
        return _joined(next(merged) if is_open else self.merge.closed(part) for part, is_open in parts)


class GateRule(Protocol):
    """Where gates come from when a call gives none."""

    @property
    def random(self) -> bool:
        """Whether training draws the gates; then it must pass them in."""
        ...

    def expected(self, num_units: int) -> Gates:
        """Return the gates of evaluation: the expectation of the draw."""
        ...


class Chain(nn.Module):
    """stem → units and the links between them → head.

    Args:
        stem: Images to the first feature maps.
        body: Units, and links: any module without a gate of its own (a transition, a pooling layer).
        head: The last feature maps to the logits.
        rule: Where gates come from when none are given; None opens every unit.
    """

    def __init__(
        self, stem: nn.Module, body: Iterable[nn.Module], head: nn.Module, rule: GateRule | None = None
    ) -> None:
        super().__init__()
        self.stem, self.body, self.head, self.rule = stem, nn.ModuleList(body), head, rule

    @property
    def units(self) -> list[Unit]:
        """The modules that own a gate, in order."""
        return [module for module in self.body if isinstance(module, Unit)]

    @property
    def names(self) -> list[str]:
        """What each unit is called: its own name, else its number counted from 1."""
        return [unit.name or f"unit {number}" for number, unit in enumerate(self.units, 1)]

    def __len__(self) -> int:
        return len(self.units)

    def forward(self, images: Tensor, gates: Gates | None = None) -> Tensor:
        """Return the logits, shape (batch, classes), of images, shape (batch, channels, height, width).

        Args:
            images: The input.
            gates: One per unit. None means every unit open, or the expectation of a random rule in evaluation. A graph
                that torch.fx traces has the gates of evaluation, in training too, and takes no others.

        Raises:
            ValueError: The number of gates is not the number of units, or a chain whose rule is random is in
                training mode and was given none.
        """
        return self.head(run(self.steps(gates), self.stem(images)))

    def steps(self, gates: Gates | None = None) -> list[tuple[nn.Module, Gate]]:
        """Return the body with the gate of every unit; a link has a gate of 1."""
        resolved = iter(self.resolve(gates))
        return [(module, next(resolved) if isinstance(module, Unit) else 1.0) for module in self.body]

    def resolve(self, gates: Gates | None) -> Gates:
        """Return the gates of a call: those given, else those of the rule."""
        if isinstance(gates, fx.Proxy):
            torch._assert(_is_none(gates), "a graph of torch.fx has the gates of evaluation; give others to the chain")
        elif gates is not None:
            if len(gates) != len(self):
                raise ValueError(f"{len(gates)} gates for a chain of {len(self)} units")
            return gates
        elif self.training and self.rule is not None and self.rule.random:
            raise ValueError(f"{self.rule} draws its gates in training: pass gates=rule.draw(...)")
        return [1.0] * len(self) if self.rule is None else self.rule.expected(len(self))

    def to_module(self, seed: int = 0) -> nn.Module:
        """Return these weights as a module of images alone, which draws its own gates: for training code of others."""
        from howdeep.survival import Drawing

        return Drawing(self, seed)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from howdeep.show.catalogue_tables import html_of

        return html_of(self)


def run(steps: Iterable[tuple[nn.Module, Gate]], x: Tensor) -> Tensor:
    """Send x through a part of a chain's body."""
    for module, gate in steps:
        x = module(x, gate) if isinstance(module, Unit) else module(x)
    return x


@fx.wrap
def _is_none(gates: Gates | None) -> bool:
    """Return whether no gates were given: a step of a traced graph, which knows it only when it is called."""
    return gates is None


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """Return parts of a mini-batch as one; a single one is not copied."""
    first, *others = parts
    return _Join.apply(first, *others) if others else first


class _Join(torch.autograd.Function):
    """Parts of a mini-batch as one, whose gradient has its layout.

    That which comes from the pooling of a head has another, and layers of half as many channels-last images took twice
    as long in it.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, *parts: Tensor) -> Tensor:
        joined = torch.cat(parts)
        ctx.layout, ctx.lengths = _layout(joined), [len(part) for part in parts]  # type: ignore[attr-defined]
        return joined

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, ...]:
        return gradient.contiguous(memory_format=ctx.layout).split(ctx.lengths)  # type: ignore[attr-defined]


def _layout(x: Tensor) -> torch.memory_format:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
