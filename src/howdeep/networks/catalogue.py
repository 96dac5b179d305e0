"""Names of networks: what the literature calls them, which depths exist, and the spec behind each.

A name never lies: ``cifar_resnet20`` is the 6n+2 family with 16, 32 and 64 channels, ``cifar_resnet20_w4`` the same
with four times as many everywhere, ``resnet50`` the ImageNet one, and ``cifar_resnet18_w64`` the units of ``resnet18``,
64 to 512 channels wide, behind a 3×3 stem for small images: a depth that is ImageNet's has its units.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace

from howdeep.networks.dense import DenseSpec
from howdeep.networks.residual import Block, Order, ResidualSpec, Shortcut
from howdeep.util.errors import UserError, unknown
from howdeep.util.records import OtherVersionError, from_json
from howdeep.util.text import listed

Spec = ResidualSpec | DenseSpec

BASIC: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""ImageNet depth → units per stage, two 3×3 convolutions each (He et al. 2015, Table 1)."""
BOTTLENECK: dict[int, tuple[int, ...]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""ImageNet depth → units per stage, bottlenecks (He et al. 2015, Table 1; 200: He et al. 2016)."""
DENSE: dict[int, tuple[tuple[int, ...], int]] = {
    121: ((6, 12, 24, 16), 32),
    161: ((6, 12, 36, 24), 48),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
    264: ((6, 12, 64, 48), 32),
}
"""ImageNet depth → units per block and growth rate (Huang et al. 2016, Table 1; 161: the authors' code)."""
DEPTHS: dict[str, tuple[int, ...]] = {
    "plain": tuple(BASIC),
    "resnet": (*BASIC, *BOTTLENECK),
    "preresnet": (*BASIC, *BOTTLENECK),
    "densenet": tuple(DENSE),
}
"""ImageNet family → its depths, shallow first."""
MEANS_BOTTLENECK = (164, 1001)
"""CIFAR depths whose literature is the bottleneck network, though 164 fits 6n+2 as well (He et al. 2016)."""
LITERATURE = (
    *(f"cifar_plain{depth}" for depth in (20, 32, 44, 56, 110)),
    *(f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110, 1202)),
    "cifar_resnet18_w64",
    *(f"cifar_preresnet{depth}" for depth in (20, 56, 110, 164, 1001)),
    *("cifar_wideresnet16_4", "cifar_wideresnet28_10", "cifar_wideresnet40_4"),
    *("cifar_densenet40_k12", "cifar_densenet100_k12", "cifar_densenet100_k24"),
    *("cifar_densenet_bc100_k12", "cifar_densenet_bc250_k24", "cifar_densenet_bc190_k40"),
    *(f"{family}{depth}" for family, depths in DEPTHS.items() for depth in depths),
)
"""The networks that papers name, and the CIFAR network that is most often found with weights; any other valid depth
is built by its name as well."""


ORDERS: dict[str, Order] = {"plain": "plain", "resnet": "post", "preresnet": "pre"}


def spec_of(
    name: str,
    *,
    classes: int | None = None,
    channels: int = 3,
    block: Block | None = None,
    shortcut: Shortcut | None = None,
    normed: bool = True,
    dropout: float = 0.0,
    zero_init: bool = False,
) -> Spec:
    """Return the spec of a network by name.

    Args:
        name: Such as ``cifar_resnet56``, ``cifar_resnet14_w4``, ``cifar_densenet_bc100_k12`` or ``resnet50``.
        classes: Number of classes; None is 10 for the CIFAR names and 1,000 for the ImageNet ones.
        channels: Channels of the images.
        block: Basic or bottleneck; None is what the literature means by the name.
        shortcut: A, B or C; None is the literature's choice.
        normed: False leaves all norm layers out.
        dropout: Dropout probability inside each branch.
        zero_init: Branches return zeros at the start.

    Raises:
        UserError: No such family, the family has no such depth (the nearest valid ones are named), or an option
            does not exist there.
    """
    matches = ((re.fullmatch(pattern, name), family) for pattern, family in FAMILIES)
    spec = next((family(name, block, *match.groups()) for match, family in matches if match), None)
    if spec is None:
        raise unknown("network", name, LITERATURE)
    if isinstance(spec, DenseSpec) or spec.order == "plain":
        _refuse(name, block=block, shortcut=shortcut, zero_init=zero_init or None)
    changes = {"classes": classes, "shortcut": shortcut, "zero_init": zero_init or None}
    given = {option: value for option, value in changes.items() if value is not None}
    return replace(spec, channels=channels, normed=normed, dropout=dropout, **given)


def is_name(text: str) -> bool:
    """Return whether a text has the form of a name of the catalogue, whatever depths its family has."""
    return any(re.fullmatch(pattern, text) for pattern, _ in FAMILIES)


def spec_from_json(record: dict) -> Spec:
    """Return the spec that :func:`spec_to_json` wrote.

    Raises:
        OtherVersionError: The record is not that of a network.
    """
    kind = DenseSpec if "growth" in record else ResidualSpec
    spec = from_json(kind, record)
    if others := sorted(record.keys() - {field.name for field in fields(kind)}):
        raise OtherVersionError(f"{kind.__name__} has {listed(others)}")
    return spec


def spec_to_json(spec: Spec) -> dict:
    """Return a spec as plain data."""
    return asdict(spec)


def _refuse(name: str, **options: object) -> None:
    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option} {value!r} is not allowed for {name}: its units have no such choice")


LAYERS: dict[Block, int] = {"basic": 6, "bottleneck": 9}
"""Layers that one more unit in each of three stages adds."""


def _cifar(name: str, block: Block | None, family: str, digits: str, factor: str | None) -> ResidualSpec:
    depth, width, suffix = int(digits), int(factor or 1), "" if factor is None else f"_w{factor}"
    if factor is not None and family == "resnet" and depth in BASIC | BOTTLENECK:
        return _small_stem(name, block, depth, int(factor))
    if factor is not None and int(factor) < 1:
        raise UserError(f"{name} is not allowed: its width must be at least 1")
    if block not in (None, *LAYERS):
        raise unknown("block", str(block), LAYERS)
    if family == "plain":
        _refuse(name, block=block)
    # The kinds of unit that the family may have, given the one that was asked for.
    kinds: list[Block] = ["basic"] if family == "plain" else list(LAYERS) if block is None else [block]
    fits = (depth - 2) % LAYERS["basic"] == 0 and depth not in MEANS_BOTTLENECK
    block = kinds[0] if fits or len(kinds) == 1 else "bottleneck"
    step = LAYERS[block]
    if (depth - 2) % step or depth <= 2:
        nearest = sorted({other for kind in kinds for other in _around(depth, LAYERS[kind], 2)})
        wide = f" or {name}_w64" if family == "resnet" and depth in BASIC | BOTTLENECK else ""
        raise UserError(f"{_no_depth(name, f'cifar_{family}', depth, nearest, suffix)}{wide}")
    return ResidualSpec(
        name=f"cifar_{family}{depth}" if width == 1 else name,
        family=family,
        depth=depth,
        order=ORDERS[family],
        block=block,
        units=((depth - 2) // step,) * 3,
        width=16 * width,
        stem=None if width == 1 else 16 * width,
        shortcut="A" if block == "basic" else "B",
        large=False,
    )


def _wide(name: str, block: Block | None, digits: str, factor: str) -> ResidualSpec:
    depth, width = int(digits), int(factor)
    if (depth - 4) % 6 or depth <= 4:
        raise _no_depth(name, "cifar_wideresnet", depth, _around(depth, 6, 4), f"_{factor}")
    if width < 1 or block == "bottleneck":
        raise UserError(f"{name} is not allowed: a wide network has basic blocks and a factor of at least 1")
    return ResidualSpec(
        name=name,
        family="wideresnet",
        depth=depth,
        order="pre",
        block="basic",
        units=((depth - 4) // 6,) * 3,
        width=16 * width,
        shortcut="B",
        large=False,
    )


def _cifar_dense(name: str, block: Block | None, bottleneck: str, digits: str, factor: str) -> DenseSpec:
    depth, growth, step = int(digits), int(factor), 6 if bottleneck else 3
    if (depth - 4) % step or depth <= 4:
        nearest = _around(depth, step, 4)
        raise _no_depth(name, f"cifar_densenet{bottleneck or ''}", depth, nearest, f"_k{growth}")
    if growth < 1:
        raise UserError(f"{name} is not allowed: the growth rate must be at least 1")
    return DenseSpec(
        name=name,
        family=f"densenet{bottleneck or ''}",
        depth=depth,
        units=((depth - 4) // step,) * 3,
        growth=growth,
        stem=2 * growth if bottleneck else 16,
        bottleneck=bool(bottleneck),
        compression=0.5 if bottleneck else 1.0,
        large=False,
    )


def _large(name: str, block: Block | None, family: str, digits: str) -> ResidualSpec:
    depth = int(digits)
    known = BASIC if family == "plain" else BASIC | BOTTLENECK
    if depth not in known:
        raise _no_depth(name, family, depth, _two_nearest(depth, known), "")
    own: Block = "basic" if depth in BASIC else "bottleneck"
    if block not in (None, own):
        raise UserError(f"block {block!r} is not allowed for {name}: {depth} layers are made of {own} blocks")
    return ResidualSpec(
        name=name,
        family=family,
        depth=depth,
        order=ORDERS[family],
        block=own,
        units=known[depth],
        width=64,
        shortcut="B",
        large=True,
        classes=1000,
    )


def _small_stem(name: str, block: Block | None, depth: int, width: int) -> ResidualSpec:
    """Return the public CIFAR networks: the units of an ImageNet depth, behind one 3×3 convolution and no pooling."""
    if width < 1:
        raise UserError(f"{name} is not allowed: it must be at least 1 channel wide")
    large = _large(name, block, "resnet", str(depth))
    return replace(large, width=width, stem=width, large=False, classes=10)


def _large_dense(name: str, block: Block | None, digits: str) -> DenseSpec:
    depth = int(digits)
    if depth not in DENSE:
        raise _no_depth(name, "densenet", depth, _two_nearest(depth, DENSE), "")
    units, growth = DENSE[depth]
    return DenseSpec(
        name=name,
        family="densenet_bc",
        depth=depth,
        units=units,
        growth=growth,
        stem=2 * growth,
        bottleneck=True,
        compression=0.5,
        large=True,
        classes=1000,
    )


FAMILIES: tuple[tuple[str, Callable[..., Spec]], ...] = (
    (r"cifar_(plain|resnet|preresnet)(0|[1-9][0-9]*)(?:_w(0|[1-9][0-9]*))?", _cifar),
    (r"cifar_wideresnet(0|[1-9][0-9]*)_(0|[1-9][0-9]*)", _wide),
    (r"cifar_densenet(_bc)?(0|[1-9][0-9]*)_k(0|[1-9][0-9]*)", _cifar_dense),
    (r"(plain|resnet|preresnet)(0|[1-9][0-9]*)", _large),
    (r"densenet(0|[1-9][0-9]*)", _large_dense),
)


WIDTHS: tuple[tuple[str, Callable[[int], str]], ...] = (
    (r"(cifar_(?:plain|resnet|preresnet)[0-9]*)(?:_w[0-9]+)?", lambda width: "" if width == 1 else f"_w{width}"),
    (r"(cifar_wideresnet[0-9]*)(?:_[0-9]+)?", lambda width: f"_{width}"),
    (r"(cifar_densenet(?:_bc)?[0-9]*)(?:_k[0-9]+)?", lambda width: f"_k{12 * width}"),
)
"""Names, with a depth or of a family → what follows the depth, by the factor on the channels of the paper: on 16, 32
and 64, or on a growth rate of 12."""


def at_width(name: str, width: int) -> str:
    """Return the name of a network, or of a family, with another width: that of ``cifar_resnet14_w4`` is 4.

    Args:
        name: For small images.
        width: Factor on the channels that the family's paper has, at least 1.

    Raises:
        UserError: Networks of this name have one width, or the name would mean another network.
    """
    found = ((re.fullmatch(pattern, name), suffix) for pattern, suffix in WIDTHS)
    wider = next((f"{match[1]}{suffix(width)}" for match, suffix in found if match), None)
    if wider is None and width == 1:
        return name
    if wider is None:
        raise UserError(f"width {width} is not allowed for {name}: networks for large images have width 1 only")
    # A depth that is ImageNet's has its units, and as many channels as the name says.
    if (match := re.fullmatch(r"cifar_resnet([0-9]+)_w[0-9]+", wider)) and int(match[1]) in BASIC | BOTTLENECK:
        depth = int(match[1])
        others = [other for other in _around(depth, LAYERS["basic"], 2) if other != depth]
        nearest = " or ".join(f"cifar_resnet{other}_w{width}" for other in others)
        units = f"{wider} has the units of resnet{depth}"
        raise UserError(f"width {width} is not allowed for {name}: {units}; the nearest are {nearest}")
    return wider


def _around(depth: int, step: int, offset: int) -> list[int]:
    """Return the valid depths step·n + offset, n ≥ 1, next below and above."""
    below = max(1, (depth - offset) // step)
    return [step * below + offset, step * (below + 1) + offset]


def _two_nearest(depth: int, known: Iterable[int]) -> list[int]:
    return sorted(known, key=lambda other: abs(other - depth))[:2]


def _no_depth(name: str, family: str, depth: int, nearest: list[int], suffix: str) -> UserError:
    names = " or ".join(f"{family}{other}{suffix}" for other in nearest)
    return UserError(f"{name} is not allowed: {family} has no depth {depth}; the nearest are {names}")
