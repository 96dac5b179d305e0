"""Keys of resumable work: everything that changes a number, written once for all.

Work that was begun, or finished, under another key is not gone on with.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from howdeep import device as devices
from howdeep.data import Split
from howdeep.errors import UserError
from howdeep.targets import Target

UNCHANGING = ("data", "device", "out", "place", "workers", "skip_broken")
"""Options that change no number by themselves: the images and the device are in the key instead of what they are
called; the others say where results lie and who decodes images."""


LATER = ("howdeep",)
"""Entries that older keys lack: what was made without one is gone on with."""


def options_key(options: Any, *, without: Collection[str] = UNCHANGING) -> dict[str, Any]:
    """Return the fields of a frozen record of options, called as they are typed.

    Args:
        options: The record.
        without: Fields that are left out.
    """
    names = [field.name for field in fields(options) if field.name not in without]
    return {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}


def work_key(
    options: Any, device: torch.device, *, target: Target | None = None, splits: Sequence[Split | None] = (),
    asked: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the key of work as plain data.

    Args:
        options: A frozen record of all options.
        device: Where it is computed.
        target: The network, and how its images are prepared.
        splits: The images that are used.
        asked: What else the numbers depend on.
    """
    key = {} if target is None else {"network": fingerprint(target.chain), **_preparation(target)}
    if splits:
        key["data"] = images_key(splits)
    key |= {**options_key(options), **(asked or {}), **surroundings(device)}
    return json.loads(json.dumps(key, default=_plain))


def surroundings(device: torch.device) -> dict[str, str]:
    """Return what changes roundings and times though nobody asks for it: the device by name, and versions."""
    return {"device": devices.name_of(device), "torch": torch.__version__, "howdeep": version("howdeep")}


def require_same_surroundings(place: Path, record: Mapping[str, Any], device: torch.device) -> str | None:
    """Refuse to repeat what was finished on another device or with other versions, as it would be other numbers here.

    Args:
        place: Where it lies.
        record: What was written beside it; :func:`surroundings` under ``surroundings``.
        device: Where it is asked for now.

    Returns:
        What to say where the record is too old to tell; None otherwise.

    Raises:
        UserError: They differ; the first difference is named.
    """
    found = record.get("surroundings")
    if found is None:
        return f"{place} does not say on which device and with which versions it was made"
    if other := difference(found, surroundings(device)):
        raise UserError(f"{place} was finished with another {other}; use that, or name another --out")
    return None


def difference(found: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """Return the first entry in which two keys differ, with its values where they can be read; None where none does."""
    for name in [*own, *(name for name in found if name not in own)]:
        before, now = found.get(name), own.get(name)
        if before != now and not (name in LATER and before is None):
            return name if name in ("network", "data") else f"{name} ({before}, now {now})"
    return None


def fingerprint(module: nn.Module) -> str:
    """Return a hash of all weights and statistics."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def images_key(splits: Sequence[Split | None]) -> str:
    """Return a hash of images and their labels in their order, whatever they are called and wherever they lie."""
    digest = hashlib.blake2b(digest_size=16)
    for split in splits:
        digest.update(b"none" if split is None else len(split).to_bytes(8, "little"))
        if split is not None:
            digest.update(_bytes(split.digests_at(torch.arange(len(split)))))
            digest.update(_bytes(split.labels))
    return digest.hexdigest()


def _preparation(target: Target) -> dict[str, Any]:
    """Return how the images of a network are prepared."""
    constants = target.normalization
    return {
        "mean": constants and constants.mean.flatten().tolist(), "std": constants and constants.std.flatten().tolist(),
        "channels": target.channels, "size": target.size, "resize": target.resize,
        "bits": target.bits,
    }  # fmt: skip


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _plain(value: Any) -> Any:
    """Return options that are records of their own as JSON holds them, without what is not given."""
    return {name.name: given for name in fields(value) if (given := getattr(value, name.name)) is not None}
