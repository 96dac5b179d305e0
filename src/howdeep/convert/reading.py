"""A file of weights as tensors by name. Its content says what it is: names lie, and a failed download is HTML."""

import pickle
import pickletools
import re
import struct
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, strided

from howdeep.convert import unpickling as inert
from howdeep.util.errors import UserError, unknown

HEAD = 512
"""Bytes at the start of a file that tell what it is."""
UNPACK = "unpack it first"
KINDS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights themselves: fetch them with git lfs pull"),
    (b"\x1f\x8b", f"is compressed with gzip; {UNPACK}"),
    (b"BZh", f"is compressed with bzip2; {UNPACK}"),
    (b"\xfd7zXZ", f"is compressed with xz; {UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"is compressed with Zstandard; {UNPACK}"),
    (b"7z\xbc\xaf", f"is a 7-Zip archive; {UNPACK}"),
    (b"Rar!", f"is a RAR archive; {UNPACK}"),
    (b"\x89HDF", "is HDF5, as Keras writes it; expected a PyTorch checkpoint or safetensors"),
    (b"\x93NUMPY", "is a NumPy array; expected a PyTorch checkpoint or safetensors"),
    (b"GGUF", "is GGUF; expected a PyTorch checkpoint or safetensors"),
    (b"\x89PNG", "is a PNG image, not weights"),
    (b"\xff\xd8\xff", "is a JPEG image, not weights"),
    (b"%PDF", "is a PDF document, not weights"),
)
"""How files begin that are often taken for weights, and what is said of them."""
ZIP, PICKLE = b"PK", b"\x80"
"""How PyTorch's two formats begin."""
OLDEST = {"pickle", "storages", "tensors"}
"""Entries of the archive that PyTorch wrote before version 0.2."""
SHOWN = 3
"""Entries of an archive that an error lists."""


def is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors, whatever its name: a length, then that much JSON.

    Raises:
        UserError: The file is something else than weights, which the error names.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    opens = head[8:9] == b"{"
    if opens and struct.unpack("<Q", head[:8])[0] <= path.stat().st_size - 8:
        return True
    _require_weights(path, head)
    return opens and not head.startswith((ZIP, PICKLE))


def _known(head: bytes) -> str | None:
    """Return what a file is that is certainly no weights; None where it may be."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        return "is empty: truncated or damaged"
    if text.startswith(b"<"):
        return "is a page of HTML or XML, not weights: a download that failed?"
    if text.startswith((b"{", b"[")):
        return "is JSON, not weights; an index of shards names the files that hold them"
    return next((what for start, what in KINDS if head.startswith(start)), None)


def _require_weights(path: Path, head: bytes) -> None:
    """Refuse what is no checkpoint, and archives that reach outside themselves."""
    if what := _known(head):
        raise UserError(f"{str(path)!r} {what}")
    names = _archive_names(path, head)
    for name in names:
        if ".." in PurePosixPath(name.replace("\\", "/")).parts or name.startswith("/"):
            raise UserError(f"{str(path)!r} is refused: its entry {name!r} points outside the archive")
    inside = {PurePosixPath(name).name for name in names}
    if "constants.pkl" in inside:
        raise UserError(f"{str(path)!r} is a TorchScript program; save its state_dict instead")
    if "archive_format" in inside:
        raise UserError(f"{str(path)!r} is a program of torch.export; save the network's state_dict instead")
    if set(names) >= OLDEST:
        cure = "load it with torch.load where you trust it, and save its state_dict"
        raise UserError(f"{str(path)!r} is of PyTorch's first format, which needs code of its own to be read; {cure}")
    if names and "data.pkl" not in inside:
        raise UserError(f"{str(path)!r} is an archive of {', '.join(map(repr, names[:SHOWN]))}; {UNPACK}")


def _archive_names(path: Path, head: bytes) -> list[str]:
    try:
        if head.startswith(ZIP) and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                return archive.getnames()
    # Damaged archives: both libraries raise whatever their parsing of bytes ends in.
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, LookupError, RuntimeError, EOFError, struct.error):
        raise UserError(f"{str(path)!r} is truncated or damaged") from None
    return []


TRAINED = (
    *("state_dict", "model", "model_state_dict", "model_state", "net", "network", "module", "weights", "params"),
    *("net_state_dict", "network_state_dict", "student"),
)
"""Keys under which training scripts keep the weights; where there are several, the first counts."""
AVERAGE = re.compile(r"(?:.*_)?(?:ema|swa|swag|shadow|avg|average|averaged|teacher|momentum)(?:_.*)?", re.IGNORECASE)
"""Keys of weights that were averaged over training; they are taken where no others are."""
BESIDE = re.compile(r"optim.*|.*optimizer.*|scaler|lr_scheduler.*|loops", re.IGNORECASE)
"""Keys of what trainers keep beside weights: an optimizer has tensors in the shapes of theirs."""
WRAPPED = re.compile(r"(?:^|(?<=\.))(?:(?:module|_orig_mod)\.)+")
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
CALLS = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE"}
"""Opcodes of a pickle that find or call a function."""
PUBLISHED = ("model.safetensors", "pytorch_model.bin")
"""What weights are called in a folder of Hugging Face."""
LEVELS = 4
"""How deep dictionaries are searched for weights."""
SHARE = 0.5
"""Other weights in a file are mentioned where this share of the taken ones' shapes is theirs too."""

Tensors = dict[str, Tensor]
Content = Mapping[Any, object]
"""A dictionary of a checkpoint, whatever its keys are."""


def read_weights(path: Path, key: str | None = None, report: Callable[[str], None] = lambda line: None) -> Tensors:
    """Return the tensors of a checkpoint by name, on the host, without running code from it.

    Wrapping dictionaries are opened, and ``module.`` and ``_orig_mod.`` are taken out of names.

    Args:
        path: A PyTorch checkpoint of any age, or safetensors; its content says which, not its name.
        key: Which of several weights, such as ``state_dict_ema`` or ``ema.model``, or the first part of their names;
            None takes those that were trained, and averages of them only where there are no others.
        report: Receives a line that says what was taken and what was left, where there are several.

    Raises:
        UserError: There is no such file, it is no checkpoint, is damaged, would run code, has no such key, or holds
            values that are not finite.
    """
    try:
        _require_file(path)
        content = _content(path)
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or 'not a readable file'}") from None
    weights: Tensors = {}
    for given, value in _entries(_chosen(path, content, key, report)):
        if isinstance(given, str) and isinstance(value, Tensor):
            name = WRAPPED.sub("", given)
            if name in weights:
                raise UserError(f"{str(path)!r} holds {name!r} twice, the second time as {given!r}")
            _require_plain(path, name, value)
            weights[name] = value.detach()
    return weights


def is_average(name: str) -> bool:
    """Return whether a part of a dotted name says that weights are averages, or a teacher's."""
    return any(AVERAGE.fullmatch(part) for part in name.split("."))


def _require_file(path: Path) -> None:
    if path.is_dir():
        found = next((path / name for name in PUBLISHED if (path / name).is_file()), None)
        hint = f"did you mean {str(found)!r}?" if found else "expected one file of weights"
        raise UserError(f"{str(path)!r} is a folder; {hint}")
    if not path.parent.is_dir():
        raise UserError(f"no such file: {str(path)!r}; there is no folder {str(path.parent)!r} either")
    if not path.exists():
        nearest = get_close_matches(path.name, (other.name for other in path.parent.iterdir()), n=1, cutoff=0.5)
        hint = f"; did you mean {str(path.parent / nearest[0])!r}?" if nearest else ""
        raise UserError(f"no such file: {str(path)!r}{hint}")
    if not path.is_file():
        raise UserError(f"{str(path)!r} is not a regular file")


def _content(path: Path) -> object:
    """Return what a file of weights holds, without running code from it."""
    if is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{str(path)!r} is truncated or damaged: {' '.join(str(error).split())}") from None
    try:
        return inert.load(path)
    except DAMAGES as error:
        raise UserError(f"{str(path)!r} {_complaint(path, error)}") from None


def _complaint(path: Path, error: Exception) -> str:
    """Return what is wrong with a file that was refused."""
    name = inert.full_name(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if name:
        return f"wants to run code ({name.removeprefix('builtins.')!r}) and is refused; weights alone need none"
    if _calls_functions(path):
        return "is a pickle that wants to run code and is refused; save the weights with torch.save"
    if isinstance(error, inert.LaterProtocol):
        return f"is written with {error}, of which the unpickler that runs no code reads none; save it with protocol 2"
    return "is truncated or damaged, or no checkpoint of PyTorch or safetensors"


def _calls_functions(path: Path) -> bool:
    """Return whether a file is a whole pickle that calls something; nothing is called to find out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bytes that are no pickle, some read like a wrong escape
        try:
            return any(code.name in CALLS for code in [step[0] for step in pickletools.genops(path.read_bytes())])
        except (ValueError, LookupError, OverflowError, struct.error):
            return False


def _chosen(path: Path, content: object, key: str | None, report: Callable[[str], None]) -> Content:
    """Return the dictionary of a checkpoint that holds the weights."""
    found = _searched(content)
    if not found:
        raise UserError(f"{str(path)!r} holds no weights: {_instead(content)}")
    order = sorted(found, key=_rank)
    if key is not None:
        return _asked(path, found, order, key)
    taken = order[0]
    shapes = _shapes(found[taken])
    others = [other for other in order[1:] if (shapes & _shapes(found[other])).total() >= SHARE * shapes.total()]
    if _rank(taken)[0] == _UNKNOWN:
        # All places are parts of names: the network says which of them are its own.
        return {f"{where}.{name}": value for where, inner in found.items() for name, value in _entries(inner)}
    if others:
        left = " and ".join(repr(other or "the outermost") for other in others)
        report(f"{path}: {taken or 'the outermost'!r} was taken, {left} left; --key {others[0]} takes that")
    elif is_average(taken):
        report(f"{path}: {taken!r} was taken, an average over training; there is nothing else")
    return found[taken]


def _entries(content: object) -> list[tuple[object, object]]:
    """Return the items of a dictionary; what a file may have set on the object itself is not asked."""
    return list(dict.items(content)) if isinstance(content, dict) else []


def _shapes(content: object) -> Counter[tuple[int, ...]]:
    """Return how many tensors by name of each shape a dictionary holds."""
    named = [value for name, value in _entries(content) if isinstance(name, str) and isinstance(value, Tensor)]
    return Counter(tuple(tensor.shape) for tensor in named)


def _searched(content: object) -> dict[str, Content]:
    """Return every dictionary that holds tensors by name, by the keys that lead to it, joined by dots."""
    found: dict[str, Content] = {}
    level, seen = [("", content)], set()
    for _ in range(LEVELS):
        new = [(where, inner) for where, inner in level if isinstance(inner, dict) and id(inner) not in seen]
        seen |= {id(inner) for _, inner in new}
        found |= {where: inner for where, inner in new if _shapes(inner)}
        level = [
            (f"{where}.{name}" if where else name, value)
            for where, inner in new
            for name, value in _entries(inner)
            if isinstance(name, str) and not BESIDE.fullmatch(name)
        ]
    return found


_KNOWN, _OUTERMOST, _UNKNOWN, _AVERAGED = range(4)


def _rank(where: str) -> tuple[int, list[int]]:
    """Return how likely a place is to hold the weights that were trained; the smallest counts."""
    parts = where.split(".") if where else []
    if is_average(where):
        return _AVERAGED, []
    if not parts:
        return _OUTERMOST, []
    if all(part in TRAINED for part in parts):
        return _KNOWN, [TRAINED.index(part) for part in parts]
    return _UNKNOWN, []


def _asked(path: Path, found: Mapping[str, Content], order: list[str], key: str) -> Content:
    """Return the weights that a key names: a place in the file, or the first part of names in the likeliest place."""
    if key in found:
        return found[key]
    within = [where for where in order if where.startswith(f"{key}.")]
    if within:
        return found[within[0]]
    for where in order:
        named = [(WRAPPED.sub("", name), value) for name, value in _entries(found[where]) if isinstance(name, str)]
        inside = {name.removeprefix(f"{key}."): value for name, value in named if name.startswith(f"{key}.")}
        if inside:
            return inside
    names = [WRAPPED.sub("", name) for name, _ in _entries(found[order[0]]) if isinstance(name, str)]
    starts = {name.partition(".")[0] for name in names if "." in name}
    raise unknown(f"key of {path}", key, {*filter(None, found), *starts})


def _instead(content: object) -> str:
    """Return what a file holds that has no tensors by name."""
    likely = [(name, value) for name, value in _entries(content) if name in TRAINED or is_average(str(name))]
    inside = [(f"{where}.{name}", value) for where, inner in likely for name, value in _entries(inner)]
    for where, value in [("", content), *likely, *inside]:
        if isinstance(value, inert.Inert):
            kind, under = f"{type(value).__module__}.{type(value).__qualname__}", f" under {where!r}" if where else ""
            if kind.startswith("numpy."):
                return f"there is an array of NumPy{under}, not a tensor"
            return f"there is an object of {kind}{under}, which needs code to be read; save its state_dict instead"
    keys = [name for name, _ in _entries(content) if isinstance(name, str)]
    has = f", and it has the keys {', '.join(map(repr, keys[:5]))}" if keys else ""
    return f"a dictionary of names and tensors is expected{has}"


def _require_plain(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.layout != strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        form = f"{tensor.dtype}, {tensor.layout}"
        raise UserError(f"{str(path)!r} holds {name!r} in a form that is not read ({form})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"{str(path)!r} is refused: {name!r} claims more values than the file holds")
    if not tensor.float().isfinite().all():
        raise UserError(f"{str(path)!r} holds values that are not finite, first in {name!r}")
