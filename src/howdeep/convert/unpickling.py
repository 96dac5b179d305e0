"""PyTorch's restricted unpickler, for files that hold more than tensors: what they name besides becomes nothing.

Trainers put their options (``argparse.Namespace``), numpy numbers and objects of their own beside the weights. Each
such name is given an inert stand-in, which holds nothing and runs nothing; nothing is looked up or imported by a name
in the file. What reaches the system is refused all the same, as no weights need it.
"""

import builtins
import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path

import torch

NAMED = re.compile(r"GLOBAL (\S+)")
"""How the restricted unpickler says which name it does not know."""
FILLED = re.compile(r"Can only (SETITEM|append|extend).*? but got <class '([^']+)'>", re.DOTALL)
"""How it says that an object is filled like a dictionary or a list."""
SYSTEM = {
    *("os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "shutil", "socket", "ctypes", "pty", "pickle"),
    *("marshal", "code", "pdb", "platform", "commands", "webbrowser", "urllib", "requests"),
}
"""Modules of which no checkpoint needs anything."""
LATER = re.compile(r"Detected (pickle protocol [3-9])")
"""How it warns of a protocol that it may not know all of."""
MOST_NAMES = 100
"""More names than any trainer writes: every one costs another reading."""


class LaterProtocol(pickle.UnpicklingError):
    """A pickle of a protocol that the restricted unpickler cannot read."""


class Inert:
    """Stands for an object of others: it takes whatever it is given, and keeps none of it."""

    __slots__ = ()

    def __new__(cls, *_given: object) -> "Inert":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Let what the object would have held go."""


class _InertMapping(Inert):
    """Stands for a dictionary of others; the unpickler fills none but its own kinds."""

    def __new__(cls, *_given: object) -> OrderedDict:
        return OrderedDict()


class _InertList(Inert):
    """Stands for a list of others."""

    def __new__(cls, *_given: object) -> list:
        return []


def load(path: Path) -> object:
    """Return what a PyTorch checkpoint holds, on the host; objects of others are :class:`Inert`.

    The file is read once, and once more for every name that the unpickler does not know.

    Raises:
        pickle.UnpicklingError: The file names something that is refused; the message has it behind ``GLOBAL``.
        Exception: Whatever damaged bytes end in.
    """
    stand_ins: dict[str, type[Inert]] = {}
    while True:
        try:
            return _load(path, stand_ins)
        except pickle.UnpicklingError as error:
            learned = _learned(str(error), stand_ins)
            if learned is None or len(stand_ins) == MOST_NAMES:
                raise
            stand_ins |= learned


def _load(path: Path, stand_ins: dict[str, type[Inert]]) -> object:
    allowed: list = [(stand_in, name) for name, stand_in in stand_ins.items()]
    # An open file, as torch.load goes by the name of a path.
    with (
        path.open("rb") as file,
        torch.serialization.safe_globals(allowed),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            later = [found[1] for line in told if (found := LATER.search(str(line.message)))]
            if later and "Unsupported operand" in str(error):
                raise LaterProtocol(later[0]) from None
            raise


def _learned(message: str, known: dict[str, type[Inert]]) -> dict[str, type[Inert]] | None:
    """Return the stand-in that would have let the unpickler go on; None where there is none."""
    if found := FILLED.search(message):
        kind = _InertMapping if found[1] == "SETITEM" else _InertList
        return {found[2]: _named(found[2], kind)} if found[2] in known else None
    name = full_name(message)
    return {name: _named(name, Inert)} if name and name not in known and not reaches_system(name) else None


def full_name(message: str) -> str | None:
    """Return the name that an error of the unpickler is about; it leaves ``builtins`` out."""
    found = NAMED.search(message)
    if found is None:
        return None
    return found[1] if "." in found[1] else f"builtins.{found[1]}"


def reaches_system(name: str) -> bool:
    """Return whether a name is that of something that acts: a module of the system, or a function of Python's own."""
    root, _, rest = name.partition(".")
    return root in SYSTEM or (root == "builtins" and not isinstance(getattr(builtins, rest, None), type))


def _named(name: str, kind: type[Inert]) -> type[Inert]:
    """Return a stand-in of its own for a name, which errors then report."""
    module, _, own = name.rpartition(".")
    return type(own, (kind,), {"__slots__": (), "__module__": module, "__qualname__": own})
