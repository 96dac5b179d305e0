"""Commands and functions in processes of their own, forked from one that has imported everything and has the digits.

A process of tests has one server of forks, whose imports are settled before the first start: all tests that want
processes take them from here.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preloaded"])
SECONDS = 60


@dataclass(frozen=True)
class Watch:
    """What is done to a run from inside, around each of its steps."""

    signal_at: tuple[int, int] | None = None
    """(step of this process counted from 1, signal that arrives while it is computed)."""
    seen: Path | None = None
    """Where gates, labels and images of every step are written, one line each."""
    file_bytes: int | None = None
    """Largest file that may be written: another way for a disk to be full."""
    free_bytes: int | None = None
    """Memory that the process may take beyond what it has at the start."""
    saving_seconds: float = 0.0
    """What saving takes longer by the clock of this process; its clock alone moves."""
    killed_at: tuple[int, Path] | None = None
    """(number of a file operation counted from 1, folder in which operations count): SIGKILL comes just before it."""


@dataclass(frozen=True)
class Running:
    """A command that was started."""

    process: BaseProcess
    output: Path

    def finish(self) -> tuple[int, str]:
        """Return exit status and output; a command that hangs fails."""
        self.process.join(SECONDS)
        hung = self.process.exitcode is None
        if hung:
            self.process.kill()
            self.process.join()
        assert not hung, f"the command hangs:\n{self.output.read_text()}"
        assert self.process.exitcode is not None
        return self.process.exitcode, self.output.read_text()


def start(arguments: Sequence[str], output: Path, *, watch: Watch | None = None, rank: dict | None = None) -> Running:
    """Start a command in a fresh process; what it prints goes to a file."""
    output.touch()  # a process that is killed at once has not made it
    return Running(fork(_main, list(arguments), output, watch or Watch(), rank=rank), output)


def finish(arguments: Sequence[str], output: Path, *, watch: Watch | None = None) -> tuple[int, str]:
    """Run a command in a fresh process."""
    return start(arguments, output, watch=watch).finish()


def start_ranks(arguments: Sequence[str], folder: Path, watches: Sequence[Watch]) -> list[Running]:
    """Start a command in as many processes as there are watches, with the environment that torchrun gives."""
    return [
        start(arguments, folder / f"rank{number}.txt", watch=watch, rank=rank)
        for number, (watch, rank) in enumerate(zip(watches, ranks(len(watches)), strict=True))
    ]


def ranks(world: int) -> list[dict[str, str]]:
    """Return the environment that torchrun gives to each of some processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [common | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(world)]


def fork(target: Callable, *arguments: object, rank: dict[str, str] | None = None) -> BaseProcess:
    """Start a function of a module in a fresh process, alone or as a rank."""
    process = FORKS.Process(target=_forked, args=(target, arguments, rank or {}))
    process.start()
    return process


def _forked(target: Callable, arguments: tuple, rank: dict[str, str]) -> None:
    os.setsid()  # a signal to the group reaches it and its own workers
    os.environ.update(rank)
    torch.set_num_threads(1)
    target(*arguments)


def _main(arguments: list[str], output: Path, watch: Watch) -> None:
    with output.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    if watch.file_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (watch.file_bytes, watch.file_bytes))
    if watch.free_bytes is not None:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + watch.free_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if watch.killed_at is not None:
        _die_at(*watch.killed_at)
    from howdeep import cli
    from howdeep.training import loop

    loop.train_step = watched(loop.train_step, watch)
    loop.save = _saving_later(loop, watch.saving_seconds)
    cli.main(arguments)


def _saving_later(loop: Any, seconds: float) -> Callable[[object], None]:
    """Return how a run saves, after which the clock of its loop is so many seconds ahead of before."""
    save, ahead = loop.save, 0.0
    loop.time = SimpleNamespace(perf_counter=lambda: time.perf_counter() + ahead)

    def saved(session: object) -> None:
        nonlocal ahead
        save(session)
        ahead += seconds

    return saved


OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def _die_at(operation: int, folder: Path) -> None:
    """Let this process be killed just before a file operation in a folder, which no clock can miss."""
    left = operation

    def count(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def watched(step: Callable, watch: Watch) -> Callable:
    """Return a training step that is watched."""
    count = 0

    def stepped(engine, optimizer, batch, gates, **options):
        nonlocal count
        count += 1
        if watch.seen is not None:
            _write_down(watch.seen, batch, gates)
        found = step(engine, optimizer, batch, gates, **options)
        if watch.signal_at is not None and watch.signal_at[0] == count:
            signal.raise_signal(watch.signal_at[1])
        return found

    return stepped


def _write_down(path: Path, batch, gates) -> None:
    images = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in batch.images]
    drawn = [gate.tolist() if isinstance(gate, torch.Tensor) else gate for gate in gates or []]
    with path.open("a") as file:
        file.write(json.dumps({"gates": drawn, "images": images, "labels": batch.labels.tolist()}) + "\n")


TIMINGS = ("seconds", "waiting", "images_per_second", "waiting_percent")


def untimed(record: dict) -> dict:
    """Return a record without what a clock said."""
    return {
        name: untimed(value) if isinstance(value, dict) else value
        for name, value in record.items()
        if name not in TIMINGS
    }


def bits(run: Path) -> dict:
    """Return everything that two equal runs share: newest checkpoint, metrics and result, without timings."""
    newest = max((run / "checkpoints").glob("step-*"))
    files = {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}
    result = json.loads((run / "result.json").read_text())
    return {
        "step": newest.name,
        "files": files,
        "state": untimed(json.loads((newest / "state.json").read_text())),
        "metrics": [untimed(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()],
        "result": untimed({**result, "test": untimed(result["test"])}),
    }


def differences(first: dict, second: dict) -> list[str]:
    """Return the names of the parts in which two runs differ."""
    return [name for name in first if first[name] != second[name]]
