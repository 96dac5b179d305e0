"""Checkpoints of others as tensors by name: no code of theirs runs, and damage is named in one line."""

import pickle
import pickletools
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from howdeep.errors import UserError

SUFFIXES = (".pth", ".th", ".pt", ".bin", ".ckpt", ".tar", ".safetensors")
"""Files that can be read; ``.tar`` because many public checkpoints are called ``model_best.pth.tar``."""
WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "ema")
"""Keys under which training scripts keep the weights; where there are several, the first counts."""
PREFIXES = re.compile(r"(?:^|(?<=\.))(?:(?:module|_orig_mod)\.)+")
"""What DataParallel and ``torch.compile`` put into names, at the front or where they wrap a part."""
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
"""What ``torch.load`` raises on damaged bytes: they may spell any call that the unpickler still allows."""
CODE = re.compile(r"(?:GLOBAL|unsupported class) (\S+)")
"""How the restricted unpickler names what it will not call."""
CALLS = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE"}
"""Opcodes of a pickle that find or call a function."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, on the host, without running code from it.

    Wrapping dictionaries are opened, and ``module.`` and ``_orig_mod.`` are taken out of names.

    Args:
        path: A PyTorch checkpoint of any age, or safetensors.

    Raises:
        UserError: There is no such file, it is no checkpoint, is damaged, would run code, or holds values
            that are not finite.
    """
    try:
        _require_file(path)
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or 'not a readable file'}") from None
    weights = _by_name(path, _unwrapped(content))
    if not weights:
        raise UserError(f"{str(path)!r} holds no weights: a dictionary of names and tensors is expected")
    for name, tensor in weights.items():
        _require_plain(path, name, tensor)
    return weights


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
        raise UserError(f"{str(path)!r} is truncated or damaged: {' '.join(str(error).split())}") from None


def _read_torch(path: Path) -> object:
    _require_safe_archive(path)
    try:
        with warnings.catch_warnings():
            # A file that is refused in one line needs no warnings about its pickle protocol before it.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        raise UserError(f"{str(path)!r} {_complaint(path, error)}") from None


def _complaint(path: Path, error: Exception) -> str:
    """Return what is wrong with a file that ``torch.load`` refused."""
    name = CODE.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if name or _calls_functions(path):
        return f"wants to run code{f' ({name[1]!r})' if name else ''} and is refused; weights alone need none"
    return "is truncated or damaged, or no PyTorch checkpoint"


def _calls_functions(path: Path) -> bool:
    """Return whether a file is a whole pickle that calls something; nothing is called to find out."""
    try:
        return any(code.name in CALLS for code in [step[0] for step in pickletools.genops(path.read_bytes())])
    except (ValueError, LookupError, OverflowError, struct.error):
        return False


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
    except (zipfile.BadZipFile, tarfile.TarError, *DAMAGES):
        raise UserError(f"{str(path)!r} is truncated or damaged") from None
    return []


def _unwrapped(content: object) -> object:
    """Return what lies inside wrapping dictionaries; no file needs more of them than there are wrappers."""
    for _ in WRAPPERS:
        inner = [content.get(key) for key in WRAPPERS] if isinstance(content, Mapping) else []
        content = next((value for value in inner if isinstance(value, Mapping)), content)
    return content


def _by_name(path: Path, content: object) -> dict[str, Tensor]:
    weights = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(key, str) and isinstance(value, Tensor):
            name = PREFIXES.sub("", key)
            if name in weights:
                raise UserError(f"{str(path)!r} holds {name!r} twice, the second time as {key!r}")
            weights[name] = value.detach()
    return weights


def _require_plain(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        form = f"{tensor.dtype}, {tensor.layout}"
        raise UserError(f"{str(path)!r} holds {name!r} in a form that is not read ({form})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"{str(path)!r} is refused: {name!r} claims more values than the file holds")
    if not tensor.float().isfinite().all():
        raise UserError(f"{str(path)!r} holds values that are not finite, first in {name!r}")
