"""What foreign names mean in a chain, and which names of a file are those of one network, behind whatever prefix."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from torch import nn

from howdeep.chain import Chain, Unit
from howdeep.convert.reading import is_average

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

Stages = list[list[int]]
"""Position in the body of every unit, by stage."""


def stages_of(chain: Chain) -> Stages:
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


def meanings_of(name: str, own: Collection[str], stages: Stages) -> tuple[str, ...] | None:
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
    ours = layer_of(part)
    if ours is None or not (0 <= stage < len(stages) and 0 <= position < len(stages[stage])):
        return []
    index = stages[stage][position]
    before = f"body.{index - 1}"
    opens = ours == "branch.norm1" and f"{before}.conv.weight" not in own
    return [f"body.{index}.{ours}", *([f"{before}.norm"] if opens else [])]


def layer_of(name: str) -> str | None:
    """Return what a layer of theirs is in one of our units."""
    return next((found.expand(ours) for rule, ours in PARTS if (found := rule.fullmatch(name))), None)


@dataclass(frozen=True)
class OwnNames:
    """Which names of a file are those of a network."""

    names: dict[str, str]
    """Theirs without what stands before it, by their whole name."""
    outside: dict[str, str]
    """The other names of the file, and why they are not the network's."""
    again: tuple[str, ...]
    """Prefixes under which the file holds the whole network once more."""


def own_names(names: Iterable[str], place: Callable[[str], str | None]) -> OwnNames:
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
        parts = name.split(".")
        for count in range(len(parts)):  # what may stand before a name: nothing, or its first parts with their dots
            prefix = "".join(f"{part}." for part in parts[:count])
            ours = place(name.removeprefix(prefix))
            if ours is not None:
                found[prefix].setdefault(ours, name)
    # Where two prefixes give as many weights, those that were trained count, then those that come first.
    main = max(found, key=lambda prefix: (len(found[prefix]), not is_average(prefix)), default="")
    apart = _apart(found, main)
    inside = {name: name.removeprefix(main) for name in names if name.startswith(main)} | apart
    why = f"outside {main.removesuffix('.')!r}"
    again = [prefix for prefix in found if prefix != main and len(found[prefix]) == len(found[main])]
    return OwnNames(inside, {name: why for name in names if name not in inside}, tuple(again))


def _apart(found: dict[str, dict[str, str]], main: str) -> dict[str, str]:
    """Return the names of the part that stands outside the main prefix, each with what it is without its own prefix.

    That prefix gives no weight that the main one gives: a teacher's or an average's are not mixed in.
    """
    best: dict[str, str] = {}
    for prefix, places in found.items():
        outside = {ours: theirs for ours, theirs in places.items() if not theirs.startswith(main)}
        if len(outside) > len(best) and outside.keys().isdisjoint(found[main]):
            best = {theirs: theirs.removeprefix(prefix) for theirs in outside.values()}
    return best
