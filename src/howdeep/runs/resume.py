"""Keys of resumable work: everything that changes a number, written once for all.

Work that was begun, or finished, under another key is not gone on with.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from howdeep.data import Split
from howdeep.runs import checkpoints
from howdeep.runs.target import Target
from howdeep.runtime import device as devices
from howdeep.runtime.distributed import Ranks
from howdeep.runtime.interrupt import patience, stopped
from howdeep.util.errors import Stopped, UserError
from howdeep.util.files import append

UNCHANGING = ("data", "device", "out", "place", "workers", "skip_broken")
"""Options that change no number by themselves: the images and the device are in the key instead of what they are
called; the others say where results lie and who decodes images."""


LATER = ("howdeep",)
"""Entries that older keys lack: what was made without one is gone on with."""


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
    key |= {**asked, **surroundings(device)}
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


Result = dict
"""What one block gives: plain data."""


@dataclass(frozen=True)
class Work:
    """How the blocks are worked on; by default here, at once, kept nowhere."""

    ranks: Ranks = field(default_factory=lambda: Ranks(0, 1))
    """Which process this is; each takes every world-th of the blocks that are left."""
    place: Path | None = None
    """File beside which finished blocks are kept until the record is written; None keeps nothing."""
    key: dict = field(default_factory=dict)
    """Everything that the numbers depend on; blocks that were kept under another key are refused."""
    console: Console = field(default_factory=lambda: Console(stderr=True))
    """Where the progress bar goes, if it is a terminal."""

    def blocks(self, what: str, total: int, compute: Callable[[int], Result]) -> list[Result]:
        """Return the results of the blocks 0 … total − 1, in order.

        Raises:
            UserError: What was kept belongs to other work.
            Stopped: An interrupt arrived.
        """
        done, error = self.ranks.from_first(_tried(self._kept) if self.ranks.first else None)  # type: ignore[misc]
        _raise(error)
        left = [block for block in range(total) if block not in done]

        def own() -> dict[int, Result]:
            with self._bar(what, total, len(done)) as advance, stopped(self._goes_on):
                for block in left[self.ranks.rank :: self.ranks.world]:
                    with patience():
                        done[block] = compute(block)
                        self._keep(block, done[block])
                    advance()
            return done

        parts = self.ranks.gathered(_tried(own))
        _raise(next((error for _, error in parts if error), None))
        merged = {block: result for part, _ in parts for block, result in part.items()}
        return [merged[block] for block in range(total)]

    @property
    def _goes_on(self) -> str:
        if self.place is None:
            return "nothing was kept; with --json FILE the same command would go on"
        return "the same command goes on"

    def kept(self, name: str) -> object:
        """Return an entry of the key under which blocks were kept before, or None."""
        lines = [line for path in _kept_files(self.place) for line in _whole_lines(path)] if self.place else []
        return lines[0]["key"].get(name) if lines else None

    def finished(self) -> None:
        """Remove what was kept: the record is written."""
        if self.ranks.first and self.place is not None:
            for path in _kept_files(self.place):
                path.unlink()

    def _kept(self) -> dict[int, Result]:
        found: dict[int, Result] = {}
        own = json.loads(json.dumps(self.key))  # as it is written down: tuples are lists
        for path in _kept_files(self.place) if self.place is not None else []:
            for line in _whole_lines(path):
                if other := difference(line["key"], own):
                    kept = f"{path} holds an unfinished measurement of another {other}"
                    raise UserError(f"{kept}; remove it, or name another --json")
                found[line["block"]] = line["result"]
        return found

    def _keep(self, block: int, result: Result) -> None:
        if self.place is not None:
            line = json.dumps({"key": self.key, "block": block, "result": result})
            # The line end first: it closes a line that a crash cut short.
            append(_kept_file(self.place, self.ranks.rank), f"\n{line}")

    @contextmanager
    def _bar(self, what: str, total: int, done: int) -> Iterator[Callable[[], None]]:
        columns = (TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn())
        quiet = not self.ranks.first or not self.console.is_terminal
        columns = (*columns, TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True))
        with Progress(*columns, console=self.console, transient=True, disable=quiet) as bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda: bar.advance(task, self.ranks.world)


def _tried(work: Callable[[], dict[int, Result]]) -> tuple[dict[int, Result], Exception | None]:
    """Return what work gives, or the error for the user, which every process must raise: none may wait for another."""
    try:
        return work(), None
    except (UserError, ArithmeticError, OSError, Stopped) as error:
        return {}, error


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


def _kept_file(place: Path, rank: int) -> Path:
    return place.with_name(f"{place.name}.part{rank}")


def _kept_files(place: Path) -> list[Path]:
    return sorted(place.parent.glob(f"{place.name}.part[0-9]*"))


def _whole_lines(path: Path) -> list[dict]:
    """Return the lines of a file; those that a crash cut short are left out."""
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@dataclass(frozen=True)
class Kept:
    """Results by name; whoever asks for one again gets what was computed the first time, to the bit."""

    place: Path | None = None
    """The file; None keeps nothing."""
    key: dict = field(default_factory=dict)
    """Everything that the results depend on; a file with another key is refused."""
    results: dict[str, Any] = field(default_factory=dict)
    """What is known by now, plain data."""

    @classmethod
    def open(cls, place: Path | None, key: dict) -> "Kept":
        """Return what is kept in a file, or nothing where there is none.

        Raises:
            UserError: The file belongs to other work, or is damaged.
        """
        if place is None or not place.exists():
            return cls(place, key)
        try:
            found = json.loads(place.read_bytes())
        except ValueError:
            raise UserError(f"{place} is damaged; remove it") from None
        require_same(place, found["key"], key)
        return cls(place, key, found["results"])

    def result(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the result of a name; it is computed, and kept, where it is not known."""
        if name not in self.results:
            with patience():
                # As it is written down, so that a resumed work goes on from the very same values.
                self.results[name] = json.loads(json.dumps(compute()))
                if self.place is not None:
                    record = {"key": self.key, "results": self.results}
                    checkpoints.write_whole(self.place, json.dumps(record).encode())
        return self.results[name]

    def finished(self) -> None:
        """Remove the file: the record is written."""
        if self.place is not None:
            self.place.unlink(missing_ok=True)


def require_same(place: Path, found: dict, key: dict) -> None:
    """Refuse what was made with other options.

    Raises:
        UserError: It was; the first difference is named.
    """
    if other := difference(found, key):
        raise UserError(f"{place} belongs to another {other}; remove it, or name another --out")
