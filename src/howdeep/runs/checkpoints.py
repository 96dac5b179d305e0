"""Checkpoints: folders that are whole or not there.

A checkpoint is written beside its place, flushed to the disk and then renamed, so that a crash at any moment leaves
the ones before it untouched. Its manifest holds the size and the SHA-256 of every file; a checkpoint whose files do
not match is named and the one before it is used. Tensors are safetensors, everything else is JSON.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from howdeep.util.errors import UserError
from howdeep.util.files import PARTIAL, SaveError, flush_folder, write_flushed
from howdeep.util.text import Report

KEEP = 2
"""Checkpoints that stay: the newest, and the one before it in case the newest is damaged."""
MANIFEST, STATE = "manifest.json", "state.json"


class DamagedError(ValueError):
    """A checkpoint whose files are not those of its manifest."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a step."""

    path: Path
    """Its folder."""
    step: int
    """Steps that were done."""
    state: dict
    """Everything that is not a tensor."""

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one group, such as ``"weights"``; none where the checkpoint has no such group."""
        path = self.path / f"{name}.safetensors"
        return safetensors.torch.load_file(path) if path.is_file() else {}

    def network(self) -> dict[str, Tensor]:
        """Return the weights and running statistics that it stands for: their moving averages, where it has some."""
        return {**self.tensors("weights"), **self.tensors("ema")}


def save(folder: Path, step: int, *, tensors: Mapping[str, Mapping[str, Tensor]], state: dict) -> Path:
    """Write the checkpoint of a step and remove all but the last two.

    Args:
        folder: Where the run's checkpoints are.
        step: Steps that were done.
        tensors: File name → tensor name → tensor.
        state: Everything else, JSON-able.

    Raises:
        SaveError: The disk is full, or the folder cannot be written; the older checkpoints are untouched.
    """
    path, partial = folder / _name(step), folder / f"{PARTIAL}{step:08d}"
    try:
        for left_over in folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(left_over)
        partial.mkdir(parents=True)
        files = {}
        for name, group in tensors.items():
            held = {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}
            files[f"{name}.safetensors"] = safetensors.torch.save(held)
        files[STATE] = json.dumps(state, indent=1).encode()
        manifest = {"step": step, "files": {name: _fingerprint(data) for name, data in files.items()}}
        files[MANIFEST] = json.dumps(manifest, indent=1).encode()
        for name, data in files.items():
            write_flushed(partial / name, data)
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
        flush_folder(folder)
        for old in list_checkpoints(folder)[:-KEEP]:
            shutil.rmtree(old)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = f"{error.strerror or error} ({folder})"
        raise SaveError(f"step {step} was not saved: {why}; {last_good(folder)}") from error
    return path


def save_only(folder: Path, step: int, *, tensors: Mapping[str, Mapping[str, Tensor]], state: dict) -> None:
    """Write a checkpoint as :func:`save` does, and remove all others, whatever their steps.

    Raises:
        SaveError: As there.
    """
    path = save(folder, step, tensors=tensors, state=state)
    for other in list_checkpoints(folder):
        if other != path:
            shutil.rmtree(other)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the folders of the checkpoints, oldest first; those that a crash cut short are not among them."""
    return sorted(
        (path for path in folder.glob("step-*") if path.is_dir()), key=lambda path: (len(path.name), path.name)
    )


def newest(folder: Path, report: Report) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, or None where there is none at all.

    Args:
        folder: Where the run's checkpoints are.
        report: Receives one line per damaged checkpoint that is passed over.

    Raises:
        UserError: There are checkpoints, and every one is damaged.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        try:
            return load(path)
        except DamagedError as error:
            report(f"damaged checkpoint {path}: {error}; the one before it is used")
    if paths:
        raise UserError(f"every checkpoint in {folder} is damaged; train again into another folder")
    return None


def load(path: Path) -> Checkpoint:
    """Return a checkpoint whose files were compared with its manifest.

    Raises:
        DamagedError: A file is missing, short or changed.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        for name, expected in manifest["files"].items():
            actual = _fingerprint((path / name).read_bytes())
            if actual != expected:
                raise DamagedError(f"{name} has {actual['bytes']} bytes and is not the file that was written")
        if path.name != _name(step := manifest["step"]):
            raise DamagedError(f"{MANIFEST} says that it is step {step}")
        state = json.loads((path / STATE).read_bytes())
    except DamagedError:
        raise
    except (OSError, KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from None
    return Checkpoint(path, step, state)


def last_good(folder: Path) -> str:
    """Return which checkpoint there is to go back to, as the user reads it."""
    good = list_checkpoints(folder)
    return f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _fingerprint(data: bytes) -> dict[str, int | str]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
