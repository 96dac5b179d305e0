"""Resumable work: a key of everything that changes a number, and a journal of the steps that are finished.

Whoever resumes has the same key, or is refused with the first difference. Lesions, paths, costs, cuts, ladders and
fits all keep their steps in a :class:`Journal`; trainings have checkpoints. Every command holds a lock on what it
writes, which dies with its process (see :func:`howdeep.util.files.folder_locked`), so that nobody else writes there.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from howdeep.data import Split
from howdeep.runs.target import Target
from howdeep.runtime import device as devices
from howdeep.runtime.deployment import versions_of
from howdeep.runtime.process import patience, stopped
from howdeep.runtime.ranks import Ranks
from howdeep.util.errors import Stopped, UserError
from howdeep.util.files import append
from howdeep.util.progress import ProgressBar

UNCHANGING = ("data", "device", "out", "workers", "skip_broken")
"""Options that change no number by themselves: the images and the device are in the key instead of what they are
called; the others say where results lie and who decodes images."""


def options_key(options: Any, declared: type | None = None, *, without: Collection[str] = UNCHANGING) -> dict[str, Any]:
    """Return the fields of a frozen record of options, called as they are typed.

    Args:
        options: The record.
        declared: The class whose fields count, as a command adds fields of its own to those of the work that it does;
            None is the record's.
        without: Fields that are left out.
    """
    names = [field.name for field in fields(declared or options) if field.name not in without]
    return {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}


def work_key(
    asked: Mapping[str, Any], device: torch.device, *, target: Target | None = None, splits: Sequence[Split | None] = ()
) -> dict[str, Any]:
    """Return the key of work as plain data.

    Args:
        asked: All options that the numbers depend on, such as :func:`options_key`.
        device: Where it is computed.
        target: The network, and how its images are prepared.
        splits: The images that are used.
    """
    key = {} if target is None else {"network": fingerprint(target.chain), **_preparation(target)}
    if splits:
        key["data"] = images_key(splits)
    key |= {**asked, **surroundings(device, asked.get("--runtime", "torch"))}
    return json.loads(json.dumps(key, default=_plain))


def surroundings(device: torch.device, runtime: str = "torch") -> dict[str, str]:
    """Return what changes roundings and times though nobody asks for it: the device by name, and versions."""
    own = {"device": devices.name_of(device), "torch": torch.__version__, "howdeep": version("howdeep")}
    return own | versions_of(runtime)


def difference(found: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """Return the first entry in which two keys differ, with its values where they can be read; None where none does."""
    for name in [*own, *(name for name in found if name not in own)]:
        before, now = found.get(name), own.get(name)
        if before != now:
            return name if name in ("network", "data") else f"{name} ({before}, now {now})"
    return None


def require_same(path: Path, found: Mapping[str, Any], key: Mapping[str, Any]) -> None:
    """Refuse what was made with other options.

    Raises:
        UserError: It was; the first difference is named.
    """
    if other := difference(found, key):
        raise UserError(f"{path} belongs to another {other}; remove it, or name another --out")


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
        "mean": constants and constants.mean.flatten().tolist(),
        "std": constants and constants.std.flatten().tolist(),
        "channels": target.channels,
        "size": target.size,
        "resize": target.resize,
        "bits": target.bits,
        "crop": target.crop and asdict(target.crop),
    }


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _plain(value: Any) -> Any:
    """Return options that are records of their own as JSON holds them, without what is not given."""
    return {name.name: given for name in fields(value) if (given := getattr(value, name.name)) is not None}


@dataclass(frozen=True)
class Journal:
    """The finished steps of long work, by name; by default kept nowhere.

    Whoever asks for a step again gets what was computed the first time, to the bit. On the disk a step is a line that
    is appended to a file: a crash costs the step that was under way.
    """

    path: Path | None = None
    """The files are called so, each with ``.part`` and the number of its process; None keeps nothing."""
    key: dict = field(default_factory=dict)
    """Everything that the steps depend on."""
    ranks: Ranks = field(default_factory=Ranks)
    """Which process this is; of several, each takes every world-th of the blocks that are left."""
    console: Console = field(default_factory=lambda: Console(stderr=True))
    """Where the progress bar goes, if it is a terminal."""
    steps: dict[str, Any] = field(default_factory=dict)
    """Name → result, plain data."""

    @classmethod
    def open(cls, path: Path | None, key: dict, ranks: Ranks | None = None) -> "Journal":
        """Return the journal of work, with the steps that were finished before.

        Raises:
            UserError: They are those of other work; the first difference is named.
        """
        ranks = ranks or Ranks()
        key = json.loads(json.dumps(key))  # as it is written down: tuples are lists
        steps, error = ranks.from_first(_tried(lambda: _read(path, key)) if ranks.first else None)  # type: ignore[misc]
        _raise(error)
        return cls(path, key, ranks, steps=steps)

    def note(self, name: str, result: Any) -> Any:
        """Write down a step, in place of an earlier one of the same name, and return its result as it will be read."""
        self.steps[name] = json.loads(json.dumps(result))
        if self.path is not None:
            line = json.dumps({"key": self.key, "step": name, "result": result})
            # The line end first: it closes a line that a crash cut short.
            append(self.path.with_name(f"{self.path.name}.part{self.ranks.rank}"), f"\n{line}")
        return self.steps[name]

    def result(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the result of a step, which the first process computes and writes down where it is not known."""
        if name not in self.steps:
            with patience():
                own = self.note(name, compute()) if self.ranks.first else None
                self.steps[name] = self.ranks.from_first(own)
        return self.steps[name]

    def blocks(
        self, what: str, total: int, compute: Callable[[int], dict], names: Sequence[str] | None = None
    ) -> list[dict]:
        """Return the results of the blocks 0 … total − 1, in order; the processes share those that are left.

        Args:
            what: What they are, for the progress bar.
            total: How many there are.
            compute: Gives the result of one.
            names: The steps that they are; None numbers them.

        Raises:
            Stopped: An interrupt arrived.
        """
        names = names or [f"{what} {block}" for block in range(total)]
        left = [block for block in range(total) if names[block] not in self.steps]
        kept = "the same command resumes"
        if self.path is None:
            kept = "nothing was kept; with --json FILE the same command would resume"

        def own() -> dict[str, Any]:
            mine = left[self.ranks.rank :: self.ranks.world]
            bar = ProgressBar(self.console, what, total, done=total - len(left), on=self.ranks.first)
            with bar, stopped(kept):
                for block in mine:
                    with patience():
                        self.note(names[block], compute(block))
                    bar.show(more=self.ranks.world)
            return {names[block]: self.steps[names[block]] for block in mine}

        parts = self.ranks.gathered(_tried(own))
        _raise(next((error for _, error in parts if error), None))
        for part, _ in parts:
            self.steps.update(part)
        return [self.steps[name] for name in names]

    @property
    def folder(self) -> Path | None:
        """A folder beside the steps, for what is too large for a line; None where nothing is kept."""
        return None if self.path is None else self.path.with_name(f"{self.path.name}.kept")

    def remove(self) -> None:
        """Remove the files: what the work leads to is written."""
        for path in files_of(self.path) if self.ranks.first else ():
            path.unlink()
        if self.folder is not None and self.ranks.first:
            shutil.rmtree(self.folder, ignore_errors=True)


def files_of(path: Path | None) -> list[Path]:
    """Return the files of a journal that are there."""
    return sorted(path.parent.glob(f"{path.name}.part[0-9]*")) if path is not None else []


def _read(path: Path | None, key: dict) -> dict[str, Any]:
    """Return the steps of a journal; lines that a crash cut short are left out.

    Raises:
        UserError: They were made under another key.
    """
    steps = {}
    for file in files_of(path):
        for text in file.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if other := difference(line["key"], key):
                raise UserError(f"{file} holds work of another {other}; remove it, or write elsewhere")
            steps[line["step"]] = line["result"]
    return steps


def _tried(work: Callable[[], dict]) -> tuple[dict, Exception | None]:
    """Return what work gives, or the error for the user, which every process must raise: none may wait for another."""
    try:
        return work(), None
    except (UserError, ArithmeticError, OSError, Stopped) as error:
        return {}, error


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error
