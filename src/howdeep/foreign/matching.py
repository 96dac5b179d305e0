"""Foreign names to places in a chain.

A foreign name says stage and position, the chain says which of its modules stands there, and shapes are
checked. Names and shapes cannot tell apart two networks that compute different things with the same tensors,
such as a bottleneck that strides in its first convolution instead of its second.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from howdeep.chain import Chain, Unit
from howdeep.errors import UserError

UNITS = (
    (re.compile(r"layer(\d{1,4})\.(\d{1,4})\.(.+)"), 1, 0),
    (re.compile(r"stages\.(\d{1,4})\.blocks\.(\d{1,4})\.(.+)"), 0, 0),
    (re.compile(r"features\.denseblock(\d{1,4})\.denselayer(\d{1,4})\.(.+)"), 1, 1),
    (re.compile(r"block(\d{1,4})\.layer\.(\d{1,4})\.(.+)"), 1, 0),
)
"""Where a unit stands, and the numbers that stages and positions count from: torchvision, timm's ``resnet``
and the CIFAR networks; timm's ``resnetv2``; DenseNet; the usual wide ResNet."""
PARTS = (
    (re.compile(r"conv\.?(\d)"), r"branch.conv\1"),
    (re.compile(r"(?:bn|norm)\.?(\d)"), r"branch.norm\1"),
    (re.compile(r"(?:downsample|shortcut)\.(?:0|conv)|convShortcut"), "shortcut.conv"),
    (re.compile(r"(?:downsample|shortcut)\.(?:1|norm)"), "shortcut.norm"),
)
"""What a layer is in its unit. ``norm.1`` is how early releases of torchvision wrote ``norm1``."""
TRANSITION = re.compile(r"features\.transition(\d{1,4})\.(conv|norm)")
ENDS = (
    (re.compile(r"conv1|features\.conv0"), ("stem.conv",)),
    (re.compile(r"bn1|features\.norm0"), ("stem.norm", "head.norm")),
    (re.compile(r"norm|features\.norm5"), ("head.norm",)),
    (re.compile(r"fc|linear|classifier|head\.fc"), ("head.linear",)),
)
"""Stem and head; a wide ResNet calls its last norm ``bn1``, and has none in its stem."""
OWN_LAYER = re.compile(r"body\.\d{1,6}\..+")
OWN_UNIT = re.compile(r"body\.(\d{1,6})\.branch\..+")
CLASSIFIER = "head.linear.weight"
COUNTER = "num_batches_tracked"
EXAMPLES = 3
"""How many names an error lists."""

Tensors = Mapping[str, Tensor]
Stages = list[list[int]]
"""Position in the body of every unit, by stage."""


@dataclass(frozen=True, eq=False)
class Match:
    """Which foreign tensor became which of ours."""

    state: dict[str, Tensor]
    """All that the chain's ``load_state_dict`` asks for, in its types."""
    kept: tuple[str, ...]
    """Names that are the same on both sides."""
    renamed: tuple[tuple[str, str], ...]
    """Their name and ours."""
    left: tuple[tuple[str, str], ...]
    """Theirs that were not taken over, and why."""
    missing: tuple[str, ...]
    """Ours that the file lacks: at most the counters of batches, which then start at 0."""


def match(weights: Tensors, chain: Chain) -> Match:
    """Give foreign weights their places in a chain; neither is changed.

    Read are our own names, those of torchvision's and timm's ``resnet``, ``resnetv2`` and ``densenet``, and
    those of the usual CIFAR networks. Only what lies outside the network may be left over: a tensor of one of
    its layers that has no place here means that the file holds another network.

    Args:
        weights: Tensors by name, from :func:`read_weights`.
        chain: The network; one on the meta device is enough.

    Raises:
        UserError: Nothing matches; depth, classes, shapes or layers do not fit; or a weight is missing.
    """
    own, stages = chain.state_dict(), _stages(chain)
    places = {name: _places(name, own, stages) for name in weights}
    pairs, left = _pairs(places, own)
    if not pairs:
        theirs, ours = _examples(weights), _examples(own)
        raise UserError(f"nothing matches: the file has {theirs}; the network has {ours}")
    _require_units(weights, stages)
    _require_classes(weights, pairs, own)
    _require_shapes(weights, pairs, own)
    _require_layers([name for name, found in places.items() if found is not None and own.keys().isdisjoint(found)])
    missing = tuple(name for name in own if name not in pairs)
    _require_all([name for name in missing if not name.endswith(COUNTER)], own)
    return Match(
        state={name: _value(weights.get(pairs.get(name, "")), own[name]) for name in own},
        kept=tuple(ours for ours, theirs in pairs.items() if ours == theirs),
        renamed=tuple((theirs, ours) for ours, theirs in pairs.items() if ours != theirs),
        left=left,
        missing=missing,
    )


def _stages(chain: Chain) -> Stages:
    """Return the units by stage.

    A stage ends where the branches' number of maps changes, or at a link with a convolution (a transition).
    """
    stages: Stages = []
    maps = None
    for index, module in enumerate(chain.body):
        found = [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        if isinstance(module, Unit):
            found = [layer.out_channels for layer in module.branch.modules() if isinstance(layer, nn.Conv2d)]
            if not stages or found[-1:] != maps:
                stages.append([])
            stages[-1].append(index)
            maps = found[-1:]
        elif found:
            maps = None
    return stages


def _places(name: str, own: Collection[str], stages: Stages) -> tuple[str, ...] | None:
    """Return our names that a foreign name can mean, best first; None where it is of no known layer."""
    if name in own or OWN_LAYER.fullmatch(name):
        return (name,)
    path, _, leaf = name.rpartition(".")
    for pattern, first_stage, first_position in UNITS:
        if found := pattern.fullmatch(path):
            stage, position = int(found[1]) - first_stage, int(found[2]) - first_position
            return tuple(f"{place}.{leaf}" for place in _in_unit(stage, position, found[3], own, stages))
    if found := TRANSITION.fullmatch(path):
        stage = int(found[1]) - 1
        return (f"body.{stages[stage][-1] + 1}.{found[2]}.{leaf}",) if 0 <= stage < len(stages) else ()
    return next((tuple(f"{end}.{leaf}" for end in ends) for rule, ends in ENDS if rule.fullmatch(path)), None)


def _in_unit(stage: int, position: int, part: str, own: Collection[str], stages: Stages) -> list[str]:
    """Return our names of a layer of a unit.

    Where a pre-activation unit's shortcut reads its first norm too, that norm is a link just before the unit.
    """
    known = 0 <= stage < len(stages) and 0 <= position < len(stages[stage])
    rules = [(found, ours) for rule, ours in PARTS if (found := rule.fullmatch(part))]
    if not known or not rules:
        return []
    index, (found, ours) = stages[stage][position], rules[0]
    inside, before = found.expand(ours), f"body.{index - 1}"
    opens = inside == "branch.norm1" and f"{before}.conv.weight" not in own
    return [f"body.{index}.{inside}", *([f"{before}.norm"] if opens else [])]


def _pairs(
    places: Mapping[str, tuple[str, ...] | None], own: Collection[str]
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Return theirs by our name, and what is left over with the reason."""
    pairs, left = {}, []
    for theirs, found in places.items():
        ours = next((place for place in found or () if place in own), None)
        if ours in pairs:
            left.append((theirs, f"{pairs[ours]} already gave {ours}"))
        elif ours is not None:
            pairs[ours] = theirs
        elif found is None:
            left.append((theirs, "not the name of a layer of this network"))
    return pairs, tuple(left)


def _require_units(weights: Iterable[str], stages: Stages) -> None:
    """Refuse a file of another depth, which would otherwise be a long list of names."""
    theirs, own = defaultdict(set), set()
    for name in weights:
        if found := OWN_UNIT.fullmatch(name):
            own.add(int(found[1]))
        for pattern, _, _ in UNITS:
            if found := pattern.fullmatch(name):
                theirs[int(found[1])].add(int(found[2]))
    here = [len(stage) for stage in stages]
    there = [len(own)] if own else [len(theirs[stage]) for stage in sorted(theirs)]
    if there and there not in (here, [sum(here)]):
        raise UserError(f"the depth does not fit: {_count(here)} units here, {_count(there)} in the file")


def _count(units: list[int]) -> str:
    return f"{sum(units)} ({'-'.join(map(str, units))})" if len(units) > 1 else str(sum(units))


def _require_classes(weights: Tensors, pairs: Mapping[str, str], own: Tensors) -> None:
    theirs = pairs.get(CLASSIFIER)
    if theirs and weights[theirs].dim() and len(weights[theirs]) != len(own[CLASSIFIER]):
        here, there = len(own[CLASSIFIER]), len(weights[theirs])
        raise UserError(f"the number of classes does not fit: {here} here, {there} in the file ({theirs})")


def _require_shapes(weights: Tensors, pairs: Mapping[str, str], own: Tensors) -> None:
    wrong = [
        f"{theirs} is {_shape(own[ours])} here, {_shape(weights[theirs])} in the file"
        for ours, theirs in pairs.items()
        if not _fits(weights[theirs], own[ours])
    ]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(pairs)} shapes do not fit: {'; '.join(wrong[:EXAMPLES])}")


def _fits(theirs: Tensor, ours: Tensor) -> bool:
    """Return whether shapes agree; a classifier may be a 1×1 convolution, as in timm's ``resnetv2``."""
    return theirs.shape == ours.shape or (ours.dim() == 2 and theirs.shape == (*ours.shape, 1, 1))


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _require_layers(strangers: list[str]) -> None:
    if strangers:
        raise UserError(f"the file holds another network: {_examples(strangers)} have no place here")


def _require_all(missing: list[str], own: Collection[str]) -> None:
    if missing:
        raise UserError(f"{len(missing)} of {len(own)} tensors are not in the file: {_examples(missing)}")


def _examples(names: Collection[str]) -> str:
    listed = ", ".join(repr(name) for name in list(names)[:EXAMPLES])
    return f"{listed} and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else listed


def _value(theirs: Tensor | None, ours: Tensor) -> Tensor:
    """Return a tensor of our shape and type that shares memory with nothing; a missing counter is 0."""
    if theirs is None:
        return torch.zeros(ours.shape, dtype=ours.dtype)
    return theirs.reshape(ours.shape).to(ours.dtype, copy=True).contiguous()
