"""Weights of others: read a checkpoint without running its code, and give every tensor its place in a chain.

Places are found by name: a foreign name says stage and position, the chain says which of its modules stands there,
and shapes are checked. Names and shapes cannot tell apart two networks that compute different things with the same
tensors, such as a bottleneck that strides in its first convolution instead of its second.
"""

import pickle
import re
import struct
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from howdeep.chain import Chain, Unit
from howdeep.errors import UserError

SUFFIXES = (".pth", ".th", ".pt", ".bin", ".ckpt", ".tar", ".safetensors")
"""Files that can be read; ``.tar`` because many public checkpoints are called ``model_best.pth.tar``."""
WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "ema")
"""Keys under which training scripts keep the weights; where there are several, the first counts."""
WRAPPING_MODULES = re.compile(r"(?:^|(?<=\.))(?:(?:module|_orig_mod)\.)+")
"""What DataParallel and ``torch.compile`` put into names."""
DAMAGES = (
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)
"""What ``torch.load`` raises on damaged bytes: they may form any call that the restricted unpickler still allows."""

UNITS = (
    (re.compile(r"layer(\d{1,4})\.(\d{1,4})\.(.+)"), 1, 0),
    (re.compile(r"stages\.(\d{1,4})\.blocks\.(\d{1,4})\.(.+)"), 0, 0),
    (re.compile(r"features\.denseblock(\d{1,4})\.denselayer(\d{1,4})\.(.+)"), 1, 1),
    (re.compile(r"block(\d{1,4})\.layer\.(\d{1,4})\.(.+)"), 1, 0),
)
"""Where a unit stands, and from which number stages and positions count: torchvision, timm's ``resnet`` and the
CIFAR networks; timm's ``resnetv2``; DenseNet; the usual wide ResNet."""
PARTS = (
    (re.compile(r"conv\.?(\d)"), r"branch.conv\1"),
    (re.compile(r"(?:bn|norm)\.?(\d)"), r"branch.norm\1"),
    (re.compile(r"(?:downsample|shortcut)\.(?:0|conv)|convShortcut"), "shortcut.conv"),
    (re.compile(r"(?:downsample|shortcut)\.(?:1|norm)"), "shortcut.norm"),
)
"""What it is in its unit. ``norm.1`` is how early releases of torchvision wrote ``norm1``."""
TRANSITION = re.compile(r"features\.transition(\d{1,4})\.(conv|norm)")
ENDS = (
    (re.compile(r"conv1|features\.conv0"), ("stem.conv",)),
    (re.compile(r"bn1|features\.norm0"), ("stem.norm", "head.norm")),
    (re.compile(r"norm|features\.norm5"), ("head.norm",)),
    (re.compile(r"fc|linear|classifier|head\.fc"), ("head.linear",)),
)
"""Stem and head; a wide ResNet calls its last norm ``bn1``, and has none in its stem."""
OWN_UNIT = re.compile(r"body\.(\d{1,6})\.branch\..+")
COUNTER = "num_batches_tracked"
CLASSIFIER = "head.linear.weight"
EXAMPLES = 3
"""How many names an error lists."""


@dataclass(frozen=True, eq=False)
class Match:
    """Which foreign tensor became which of ours."""

    state: dict[str, Tensor]
    """Everything that the chain's ``load_state_dict`` asks for, in its types."""
    kept: tuple[str, ...]
    """Names that are the same on both sides."""
    renamed: tuple[tuple[str, str], ...]
    """Their name and ours."""
    left: tuple[tuple[str, str], ...]
    """Theirs that were not taken over, and why."""
    missing: tuple[str, ...]
    """Ours that the file lacks: counters of batches at most, which start at 0."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, on the host, without running code from it.

    Wrapping dictionaries are opened, and ``module.`` and ``_orig_mod.`` are taken out of names.

    Args:
        path: A PyTorch checkpoint of any age, or safetensors.

    Raises:
        UserError: No such file, not a checkpoint, damaged, one that would run code, or values that are not finite.
    """
    try:
        _require_file(path)
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or 'not a readable file'}") from None
    weights = _renamed(path, _unwrapped(content))
    if not weights:
        raise UserError(f"{str(path)!r} holds no weights: a dictionary of names and tensors is expected")
    for name, tensor in weights.items():
        _require_plain(path, name, tensor)
    return weights


def match(weights: Mapping[str, Tensor], chain: Chain) -> Match:
    """Give foreign weights their places in a chain; neither is changed.

    Read are our own names and those of torchvision's and timm's ``resnet``, ``resnetv2`` and ``densenet``, and of the
    usual CIFAR networks. Only tensors outside the network may be left over: one inside it that has no place here
    means that the file holds another network.

    Args:
        weights: Tensors by name, from :func:`read_weights`.
        chain: The network; the meta device is enough.

    Raises:
        UserError: Nothing matches, or depth, classes, shapes or parts do not fit, or a weight is missing.
    """
    own, stages = chain.state_dict(), _stages(chain)
    places = {name: _places(name, own, stages) for name in weights}
    pairs, left = _pairs(places, own)
    if not pairs:
        raise UserError(f"nothing matches: the file has {_examples(weights)}; the network has {_examples(own)}")
    _require_units(weights, stages)
    _require_classes(weights, pairs, own)
    _require_shapes(weights, pairs, own)
    _require_parts(name for name, found in places.items() if found is not None and not found & own.keys())
    missing = tuple(name for name in own if name not in pairs)
    _require_all(missing, own)
    return Match(
        state={name: _value(weights[pairs[name]] if name in pairs else None, own[name]) for name in own},
        kept=tuple(ours for ours, theirs in pairs.items() if ours == theirs),
        renamed=tuple((theirs, ours) for ours, theirs in pairs.items() if ours != theirs),
        left=left,
        missing=missing,
    )


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{str(path)!r} is a folder; expected one file of weights ({', '.join(SUFFIXES)})")
    if not path.exists():
        raise UserError(f"no such file: {str(path)!r}{_nearest(path)}")
    if not path.is_file():
        raise UserError(f"{str(path)!r} is not a regular file")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{str(path)!r} is not read: its name must end in {', '.join(SUFFIXES)}")


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no folder {str(path.parent)!r} either"
    nearest = get_close_matches(path.name, (other.name for other in path.parent.iterdir()), n=1, cutoff=0.5)
    return f"; did you mean {str(path.parent / nearest[0])!r}?" if nearest else ""


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{str(path)!r} is damaged: {' '.join(str(error).split())}") from None


def _read_torch(path: Path) -> object:
    _require_safe_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        raise UserError(f"{str(path)!r} {_complaint(error)}") from None


def _complaint(error: Exception) -> str:
    """Return what is wrong with a file that ``torch.load`` refused."""
    code = re.search(r"(?:Unsupported|Blocklisted|blocked)?\s*(?:GLOBAL|global|class|function) (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and code:
        return f"wants to run code ({code[1]}), so it is not read; save the state_dict alone"
    return "is truncated or damaged, or no PyTorch checkpoint"


def _require_safe_archive(path: Path) -> None:
    """Refuse archives that reach outside themselves, and programs; a checkpoint that is no archive passes."""
    names = _archive_names(path)
    for name in names:
        if ".." in PurePosixPath(name.replace("\\", "/")).parts or name.startswith("/"):
            raise UserError(f"{str(path)!r} is refused: its entry {name!r} points outside the archive")
    if any(PurePosixPath(name).name == "constants.pkl" for name in names):
        raise UserError(f"{str(path)!r} is a TorchScript program; save its state_dict instead")


def _archive_names(path: Path) -> list[str]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                return archive.getnames()
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, EOFError, struct.error):
        raise UserError(f"{str(path)!r} is a damaged archive") from None
    return []


def _unwrapped(content: object) -> object:
    for _ in WRAPPERS:
        inner = (content[key] for key in WRAPPERS if key in content) if isinstance(content, Mapping) else ()
        content = next((value for value in inner if isinstance(value, Mapping)), content)
    return content


def _renamed(path: Path, content: object) -> dict[str, Tensor]:
    weights = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(key, str) and isinstance(value, Tensor):
            name = WRAPPING_MODULES.sub("", key)
            if name in weights:
                raise UserError(f"{str(path)!r} holds {name!r} twice, once as {key!r}")
            weights[name] = value.detach()
    return weights


def _require_plain(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        raise UserError(f"{str(path)!r} holds {name!r} in a form that is not read ({tensor.dtype}, {tensor.layout})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"{str(path)!r} is refused: {name!r} claims more values than the file holds")
    if not tensor.float().isfinite().all():
        raise UserError(f"{str(path)!r} holds values that are not finite, first in {name!r}")


def _stages(chain: Chain) -> list[list[int]]:
    """Return the positions in the body of the units of every stage.

    A stage ends where the branches' number of maps changes, or at a link with a convolution (a dense transition).
    """
    stages, maps = [], None
    for index, module in enumerate(chain.body):
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        if not isinstance(module, Unit):
            maps = None if convolutions else maps
            continue
        last = [layer for layer in module.branch.modules() if isinstance(layer, nn.Conv2d)][-1:]
        if maps is None or (last and last[0].out_channels != maps):
            stages.append([])
        maps = last[0].out_channels if last else maps
        stages[-1].append(index)
    return stages
