"""Foreign weights in their places in a chain: by their names, behind whatever prefix, and never against a shape."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from howdeep.chain import Chain, Unit
from howdeep.convert.reading import is_average
from howdeep.util.errors import UserError

UNITS = (
    (re.compile(r"layer(\d{1,4})\.(\d{1,4})\.(.+)"), 1, 0),
    (re.compile(r"stages\.(\d{1,4})\.blocks\.(\d{1,4})\.(.+)"), 0, 0),
    (re.compile(r"features\.denseblock(\d{1,4})\.denselayer(\d{1,4})\.(.+)"), 1, 1),
    (re.compile(r"block(\d{1,4})\.layer\.(\d{1,4})\.(.+)"), 1, 0),
    (re.compile(r"conv(\d{1,4})_x\.(\d{1,4})\.(.+)"), 2, 0),
    (re.compile(r"encoder\.stages\.(\d{1,4})\.layers\.(\d{1,4})\.(.+)"), 0, 0),
)
"""Where a unit stands, and the numbers that stages and positions count from: torchvision, timm's ``resnet``
and the CIFAR networks; timm's ``resnetv2``; DenseNet; the usual wide ResNet; CIFAR networks whose stages are called
as in the paper; Hugging Face."""
PARTS = (
    (re.compile(r"conv\.?(\d)"), r"branch.conv\1"),
    (re.compile(r"(?:bn|norm)\.?(\d)"), r"branch.norm\1"),
    *((re.compile(rf"layer\.{place}\.convolution"), f"branch.conv{place + 1}") for place in range(3)),
    *((re.compile(rf"layer\.{place}\.normalization"), f"branch.norm{place + 1}") for place in range(3)),
    *((re.compile(rf"residual_function\.{3 * place}"), f"branch.conv{place + 1}") for place in range(3)),
    *((re.compile(rf"residual_function\.{3 * place + 1}"), f"branch.norm{place + 1}") for place in range(3)),
    (re.compile(r"(?:downsample|shortcut)\.(?:0|conv|convolution)|convShortcut"), "shortcut.conv"),
    (re.compile(r"(?:downsample|shortcut)\.(?:1|norm|normalization)"), "shortcut.norm"),
)
"""What a layer is in its unit. ``norm.1`` is how early releases of torchvision wrote ``norm1``; in a
``residual_function`` every third module is a ReLU."""
TRANSITION = re.compile(r"features\.transition(\d{1,4})\.(conv|norm)")
ENDS = (
    (re.compile(r"conv1(?:\.0)?|features\.conv0|embedder\.embedder\.convolution"), ("stem.conv",)),
    (re.compile(r"bn1|conv1\.1|features\.norm0|embedder\.embedder\.normalization"), ("stem.norm", "head.norm")),
    (re.compile(r"norm|features\.norm5"), ("head.norm",)),
    (re.compile(r"fc|linear|classifier|classifier\.1|head\.fc"), ("head.linear",)),
)
"""Stem and head; a wide ResNet calls its last norm ``bn1``, and has none in its stem."""
OWN_LAYER = re.compile(r"body\.\d{1,6}\..+")
OWN_UNIT = re.compile(r"body\.(\d{1,6})\.branch\..+")
HEAD = "head.linear."
CLASSIFIER, STEM = f"{HEAD}weight", "stem.conv.weight"
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
    own, stages = chain.state_dict(), _stages(chain)
    placed = _placed(weights, own, stages)
    inside, pairs = placed.inside, placed.pairs
    if not pairs:
        theirs, ours = examples(weights), examples(own)
        raise UserError(f"nothing matches: the file has {theirs}; the network has {ours}")
    _require_units(inside, stages)
    _require_classes(inside, pairs, own)
    _require_layers(placed.strangers, stages)
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


def by_our_names(weights: Tensors, chain: Chain) -> dict[str, Tensor]:
    """Return foreign weights by the names that they have in a chain, those that have a place there."""
    placed = _placed(weights, chain.state_dict(), _stages(chain))
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
        return next((ours for ours in _places(name, own, stages) or () if ours in own), None)

    found = own_names(weights, place)
    whole = {short: name for name, short in found.names.items()}
    places = {short: _places(short, own, stages) for short in whole}
    pairs, left = _pairs(places, own)
    strangers = [short for short, ours in places.items() if ours is not None and not any(one in own for one in ours)]
    return _Placed(
        inside={short: weights[name] for short, name in whole.items()},
        whole=whole,
        pairs=pairs,
        strangers=strangers,
        left=(*((whole[short], why) for short, why in left), *found.outside.items()),
        again=found.again,
    )


@dataclass(frozen=True)
class Own:
    """Which names of a file are those of a network."""

    names: dict[str, str]
    """Theirs without what stands before it, by their whole name."""
    outside: dict[str, str]
    """The other names of the file, and why they are not the network's."""
    again: tuple[str, ...]
    """Prefixes under which the file holds the whole network once more."""


def own_names(names: Iterable[str], place: Callable[[str], str | None]) -> Own:
    """Return the names that belong to a network: those behind the prefix that gives most of its weights their places.

    A classifier, or another part, may stand outside that prefix where nothing inside takes its place
    (``backbone.conv1.weight`` beside ``fc.weight``).

    Args:
        names: The names of a file, dotted.
        place: Which of the network's weights a name without its prefix is; None for none.
    """
    names = list(names)
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        for prefix in _prefixes(name):
            ours = place(name.removeprefix(prefix))
            if ours is not None:
                found[prefix].setdefault(ours, name)
    # Where two prefixes give as many weights, those that were trained count, then those that come first.
    main = max(found, key=lambda prefix: (len(found[prefix]), not is_average(prefix)), default="")
    apart = _apart(found, main)
    inside = {name: name.removeprefix(main) for name in names if name.startswith(main)} | apart
    why = f"outside {main.removesuffix('.')!r}"
    again = [prefix for prefix in found if prefix != main and len(found[prefix]) == len(found[main])]
    return Own(inside, {name: why for name in names if name not in inside}, tuple(again))


def report_copies(file: str | Path, again: tuple[str, ...], report: Callable[[str], None]) -> None:
    """Report that a file holds the network more than once, and how to take the other."""
    if again:
        names = [prefix.removesuffix(".") for prefix in again]
        places = " and ".join(map(repr, names))
        report(f"{file}: the network is there again under {places}, left; --key {names[0]} takes that")


def _prefixes(name: str) -> Iterator[str]:
    """Yield what may stand before a name: nothing, or any number of its first parts with their dots."""
    parts = name.split(".")
    for count in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:count])


def _apart(found: dict[str, dict[str, str]], main: str) -> dict[str, str]:
    """Return the names of the part that stands outside the main prefix, without theirs.

    Such a prefix gives no weight that the main one gives: a teacher's or an average's are not mixed in.
    """
    best: dict[str, str] = {}
    for prefix, places in found.items():
        outside = {ours: theirs for ours, theirs in places.items() if not theirs.startswith(main)}
        if len(outside) > len(best) and outside.keys().isdisjoint(found[main]):
            best = {theirs: theirs.removeprefix(prefix) for theirs in outside.values()}
    return best


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


def _stages(chain: Chain) -> Stages:
    """Return the units by stage.

    A stage ends where the branches' number of channels changes, or at a link with a convolution (a transition).
    """
    stages: Stages = []
    channels = None
    for index, module in enumerate(chain.body):
        found = [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        if isinstance(module, Unit):
            found = [layer.out_channels for layer in module.branch.modules() if isinstance(layer, nn.Conv2d)]
            if not stages or found[-1:] != channels:
                stages.append([])
            stages[-1].append(index)
            channels = found[-1:]
        elif found:
            channels = None
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
    ours = _part(part)
    if ours is None or not (0 <= stage < len(stages) and 0 <= position < len(stages[stage])):
        return []
    index = stages[stage][position]
    before = f"body.{index - 1}"
    opens = ours == "branch.norm1" and f"{before}.conv.weight" not in own
    return [f"body.{index}.{ours}", *([f"{before}.norm"] if opens else [])]


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


def _require_layers(strangers: list[str], stages: Stages) -> None:
    if strangers:
        hint = _hint(strangers, stages)
        raise UserError(f"the file holds another network: {examples(strangers)} have no place here{hint}")


def _hint(strangers: list[str], stages: Stages) -> str:
    """Return which option gives a network the layers that it lacks; empty where none does."""
    layers = {
        (found[1], found[2], found[3]) for name in strangers for rule, _, _ in UNITS if (found := rule.match(name))
    }
    parts = {(stage, unit, ours) for stage, unit, part in layers if (ours := _part(part.rpartition(".")[0]))}
    projected = {(stage, unit) for stage, unit, ours in parts if ours == "shortcut.conv"}
    if any(ours == "branch.conv3" for _, _, ours in parts):
        return "; its units are bottlenecks: howdeep import --block bottleneck"
    if projected and all(ours.startswith("shortcut.") for _, _, ours in parts):
        kind = "C" if len(projected) == sum(map(len, stages)) else "B"
        return f"; its shortcuts are projections: howdeep import --shortcut {kind}"
    return ""


def _part(name: str) -> str | None:
    """Return what a layer of theirs is in one of our units."""
    return next((found.expand(ours) for rule, ours in PARTS if (found := rule.fullmatch(name))), None)


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


def examples(names: Collection[str]) -> str:
    """Return the first few names, and how many more there are."""
    listed = ", ".join(repr(name) for name in list(names)[:EXAMPLES])
    return f"{listed} and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else listed


def _value(theirs: Tensor | None, ours: Tensor) -> Tensor:
    """Return a tensor of our shape and type that shares memory with nothing; a missing counter is 0."""
    if theirs is None:
        return torch.zeros(ours.shape, dtype=ours.dtype)
    return theirs.reshape(ours.shape).to(ours.dtype, copy=True).contiguous()
