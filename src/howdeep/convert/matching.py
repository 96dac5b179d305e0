"""Foreign weights in their places in a chain, never against a shape; or why the file holds another network."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from howdeep.chain import Chain
from howdeep.convert.foreign_names import UNITS, Stages, layer_of, meanings_of, own_names, stages_of
from howdeep.util.errors import UserError
from howdeep.util.text import first_few

OWN_UNIT = re.compile(r"body\.(\d{1,6})\.branch\..+")
HEAD = "head.linear."
CLASSIFIER, STEM = f"{HEAD}weight", "stem.conv.weight"
COUNTER = "num_batches_tracked"
EXAMPLES = 3
"""How many names an error lists."""

Tensors = Mapping[str, Tensor]


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
    again: tuple[str, ...]
    """What stands before names under which the file holds the whole network once more."""


def match(weights: Tensors, chain: Chain) -> Match:
    """Give foreign weights their places in a chain; neither is changed.

    Read are our own names, those of torchvision's and timm's ``resnet``, ``resnetv2`` and ``densenet``, those of
    Hugging Face's ``ResNetForImageClassification``, and those of the usual CIFAR networks, behind any prefix. Only
    what lies outside the network may be left over: a tensor of one of its layers that has no place here means that
    the file holds another network.

    Args:
        weights: Tensors by name, from :func:`read_weights`.
        chain: The network; one on the meta device is enough.

    Raises:
        UserError: Nothing matches; depth, classes, shapes or layers do not fit; or a weight is missing.
    """
    own, stages = chain.state_dict(), stages_of(chain)
    placed = _placed(weights, own, stages)
    inside, pairs = placed.inside, placed.pairs
    if not pairs:
        theirs, ours = examples(weights), examples(own)
        raise UserError(f"nothing matches: the file has {theirs}; the network has {ours}")
    _require_units(inside, stages)
    _require_classes(inside, pairs, own)
    if placed.strangers:
        hint = _hint(placed.strangers, stages)
        raise UserError(f"the file holds another network: {examples(placed.strangers)} have no place here{hint}")
    _require_shapes(inside, pairs, own)
    missing = tuple(name for name in own if name not in pairs)
    _require_all([name for name in missing if not name.endswith(COUNTER)], own, pairs, weights)
    named = {ours: placed.whole[theirs] for ours, theirs in pairs.items()}
    return Match(
        state={name: _value(weights.get(named.get(name, "")), own[name]) for name in own},
        kept=tuple(ours for ours, theirs in named.items() if ours == theirs),
        renamed=tuple((theirs, ours) for ours, theirs in named.items() if ours != theirs),
        left=placed.left,
        missing=missing,
        again=placed.again,
    )


def fill(name: str, model: nn.Module, tensors: Tensors, file: str, report: Callable[[str], None]) -> Match:
    """Fill a library's network with its own weights; what belongs to none of its modules is left out, and reported.

    Args:
        name: What errors call the network.
        model: The network.
        tensors: By name, from :func:`read_weights`.
        file: What errors call the file.
        report: Receives one line for what was left.

    Raises:
        UserError: A weight is missing, left over in one of its modules, or of another shape.
    """
    own, modules = model.state_dict(), {child for child, _ in model.named_children()}
    theirs = own_names(tensors, lambda short: short if short in own else None)
    inside = {short: tensors[whole] for whole, short in theirs.names.items()}
    # Old files do not count batches.
    absent = [key for key in own if key not in inside]
    missing = [key for key in absent if not key.endswith("num_batches_tracked")]
    strangers = [key for key in inside if key not in own and key.partition(".")[0] in modules]
    shapes = [
        f"{key} is {shape_of(own[key])} here, {shape_of(inside[key])} in the file"
        for key in own
        if key in inside and own[key].shape != inside[key].shape
    ]
    has = f"; it has {examples(inside)}" if missing else ""
    for what, names in (("have no place in it", strangers), ("are missing", missing)):
        if names:
            raise UserError(f"{file} does not hold {name}: {len(names)} tensors {what}, {examples(names)}{has}")
    if shapes:
        raise UserError(f"{file} does not hold {name}: {len(shapes)} of {len(own)} shapes do not fit: {shapes[0]}")
    left = [whole for whole, short in theirs.names.items() if short not in own] + list(theirs.outside)
    if left:
        report(f"{file}: left out, as no part of {name}: {examples(left)}")
    report_copies(file, theirs.again, report)
    model.load_state_dict({key: value for key, value in inside.items() if key in own}, strict=False)
    placed = [(whole, short) for whole, short in theirs.names.items() if short in own]
    return Match(
        state=model.state_dict(),
        kept=tuple(short for whole, short in placed if whole == short),
        renamed=tuple((whole, short) for whole, short in placed if whole != short),
        left=tuple((whole, "no part of the network") for whole in left),
        missing=tuple(absent),
        again=theirs.again,
    )


def by_our_names(weights: Tensors, chain: Chain) -> dict[str, Tensor]:
    """Return foreign weights by the names that they have in a chain, those that have a place there."""
    placed = _placed(weights, chain.state_dict(), stages_of(chain))
    return {ours: placed.inside[theirs] for ours, theirs in placed.pairs.items()}


@dataclass(frozen=True, eq=False)
class _Placed:
    """Where the tensors of a file belong, by their names alone."""

    inside: dict[str, Tensor]
    """Those of the network, by their names without what stands before them."""
    whole: dict[str, str]
    """Their names in the file."""
    pairs: dict[str, str]
    """Theirs by our name."""
    strangers: list[str]
    """Layers of such a network that this one lacks."""
    left: tuple[tuple[str, str], ...]
    again: tuple[str, ...]


def _placed(weights: Tensors, own: Collection[str], stages: Stages) -> _Placed:
    def place(name: str) -> str | None:
        return next((ours for ours in meanings_of(name, own, stages) or () if ours in own), None)

    found = own_names(weights, place)
    whole = {short: name for name, short in found.names.items()}
    pairs: dict[str, str] = {}
    strangers: list[str] = []
    left: list[tuple[str, str]] = []
    for short, name in whole.items():
        ours = place(short)
        if ours in pairs:
            left.append((name, f"{pairs[ours]} already gave {ours}"))
        elif ours is not None:
            pairs[ours] = short
        elif meanings_of(short, own, stages) is None:
            left.append((name, "not the name of a layer of this network"))
        else:
            strangers.append(short)
    inside = {short: weights[name] for short, name in whole.items()}
    return _Placed(inside, whole, pairs, strangers, (*left, *found.outside.items()), found.again)


def report_copies(file: str | Path, again: tuple[str, ...], report: Callable[[str], None]) -> None:
    """Report that a file holds the network more than once, and how to take the other."""
    if again:
        names = [prefix.removesuffix(".") for prefix in again]
        places = " and ".join(map(repr, names))
        report(f"{file}: the network is also under {places}, which is left out; --key {names[0]} takes it")


def differing_size(weights: Mapping[str, Tensor], one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> int | None:
    """Return the number that weights have where two networks differ, such as of 10 and of 11 classes.

    No tensor is known by its name or its place: a network may have many matrices, and any of them last.

    Args:
        weights: Tensors by the network's own names.
        one: The state of the first network; one on the meta device is enough.
        other: That of the second.

    Returns:
        The number; None where the weights have no such tensor.
    """
    for name, tensor in one.items():
        axes = [axis for axis, (a, b) in enumerate(zip(tensor.shape, other[name].shape, strict=True)) if a != b]
        if axes and name in weights and weights[name].dim() > axes[0]:
            return weights[name].shape[axes[0]]
    return None


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
        f"{theirs} is {shape_of(own[ours])} here, {shape_of(weights[theirs])} in the file"
        for ours, theirs in pairs.items()
        if not _fits(weights[theirs], own[ours])
    ]
    if wrong:
        hint = _stem_hint(weights[pairs[STEM]], own[STEM]) if STEM in pairs else ""
        raise UserError(f"{len(wrong)} of {len(pairs)} shapes do not fit: {'; '.join(wrong[:EXAMPLES])}{hint}")


def _stem_hint(theirs: Tensor, ours: Tensor) -> str:
    """Return which networks have the stem of the file, where it is for images of another size."""
    if theirs.dim() != 4 or theirs.shape[2:] == ours.shape[2:]:
        return ""
    small = f"small images, such as cifar_resnet18_w{len(theirs)}"
    meant = {3: small, 7: "large images, such as resnet18"}.get(theirs.shape[2])
    return f"; its stem is that of networks for {meant}" if meant else ""


def _fits(theirs: Tensor, ours: Tensor) -> bool:
    """Return whether shapes agree; a classifier may be a 1×1 convolution, as in timm's ``resnetv2``."""
    return theirs.shape == ours.shape or (ours.dim() == 2 and theirs.shape == (*ours.shape, 1, 1))


def shape_of(tensor: Tensor) -> str:
    """Return a shape as people write it."""
    return "×".join(map(str, tensor.shape)) or "one number"


def _hint(strangers: list[str], stages: Stages) -> str:
    """Return which option gives a network the layers that it lacks; empty where none does."""
    layers = {
        (found[1], found[2], found[3]) for name in strangers for rule, _, _ in UNITS if (found := rule.match(name))
    }
    parts = {(stage, unit, ours) for stage, unit, part in layers if (ours := layer_of(part.rpartition(".")[0]))}
    projected = {(stage, unit) for stage, unit, ours in parts if ours == "shortcut.conv"}
    if any(ours == "branch.conv3" for _, _, ours in parts):
        return "; its units are bottlenecks: howdeep import --block bottleneck"
    if projected and all(ours.startswith("shortcut.") for _, _, ours in parts):
        kind = "C" if len(projected) == sum(map(len, stages)) else "B"
        return f"; its shortcuts are projections: howdeep import --shortcut {kind}"
    return ""


def _require_all(missing: list[str], own: Collection[str], pairs: Collection[str], weights: Collection[str]) -> None:
    if not missing:
        return
    if all(name.startswith(HEAD) for name in missing):
        raise UserError(
            f"the file holds no classifier: it has {examples(weights)}, and nothing for {examples(missing)}"
        )
    if all(".shortcut." in name for name in missing):
        many, kind = ("few", "B") if any(".shortcut." in name for name in pairs) else ("none", "A")
        cure = f"{many} of its shortcuts have weights: howdeep import --shortcut {kind}"
        raise UserError(f"{len(missing)} of {len(own)} tensors are not in the file: {examples(missing)}; {cure}")
    theirs = examples(weights)
    raise UserError(f"{len(missing)} of {len(own)} tensors are not in the file: {examples(missing)}; it has {theirs}")


def examples(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    return first_few([repr(name) for name in names])


def _value(theirs: Tensor | None, ours: Tensor) -> Tensor:
    """Return a tensor of our shape and type that shares memory with nothing; a missing counter is 0."""
    if theirs is None:
        return torch.zeros(ours.shape, dtype=ours.dtype)
    return theirs.reshape(ours.shape).to(ours.dtype, copy=True).contiguous()
