"""Save this cut: the command ``howdeep cut --remove …`` in a process of its own, so that nobody waits for it."""

import asyncio
import json
import shlex
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from howdeep.cutting.records import Cut
from howdeep.cutting.tables import cut_finding
from howdeep.cutting.target import RECORD
from howdeep.errors import UserError
from howdeep.explorer.jobs import Line
from howdeep.explorer.records import State
from howdeep.records import from_json
from howdeep.targets import Target

TOLD_EVERY = 0.5
"""Seconds between two lines of progress."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How a cut of the explored network is saved."""

    target: Target
    """The network."""
    data: str
    """What DATA is on the command line."""
    arguments: tuple[str, ...]
    """Options that say which network is meant, as on the command line."""

    @property
    def impossible(self) -> str | None:
        """Why no cut of this network can be saved, or None."""
        if self.target.network is None:
            return f"nothing says how to build {self.target.name} again"
        if not any(unit.merge.removable for unit in self.target.chain.units):
            return "no unit of this network can be taken out"
        return None

    def command(self, state: State, own: State) -> tuple[list[str], Path]:
        """Return the arguments of the command that saves a state, and the run folder that it writes.

        Raises:
            UserError: The state is not that of a network without some of its units.
        """
        if self.impossible:
            raise UserError(self.impossible)
        if state.shuffled:
            raise UserError("units stand at other places: a cut takes units out and leaves the others where they are")
        for index, (gate, usual) in enumerate(zip(state.gates, own.gates, strict=True), 1):
            if gate not in (None, usual):
                raise UserError(f"unit {index} has a gate of {gate:g}: a cut takes a unit out or leaves it as it is")
        if not state.closed:
            raise UserError("no unit is out: there is nothing to save")
        out = self._place(len(state.gates) - len(state.closed))
        removed = [str(index + 1) for index in state.closed]
        return ["cut", *self.arguments, "--data", self.data, "--out", str(out), "--remove", *removed], out

    def _place(self, left: int) -> Path:
        """Return a free place beside the run folder; for networks of a library, here."""
        run = Path(self.target.name.rpartition(":")[2])
        first = run.with_name(f"{run.name}-cut-to-{left}-units")
        others = (first.with_name(f"{first.name}-{number}") for number in range(2, 10**6))
        return next(place for place in (first, *others) if not place.exists()) if first.exists() else first

    async def save(self, arguments: Sequence[str], out: Path) -> AsyncIterator[Line]:
        """Yield the progress of the command, then what it wrote; whoever stops listening ends it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "howdeep", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said = asyncio.create_task(process.communicate())
        try:
            started = time.monotonic()
            while not (await asyncio.wait([said], timeout=TOLD_EVERY))[0]:
                yield _under_way(time.monotonic() - started)
            yield _saved(arguments, out) if process.returncode == 0 else {"error": _last_line((await said)[1])}
        finally:
            if process.returncode is None:
                await _ended(process, out)


async def _ended(process: asyncio.subprocess.Process, out: Path) -> None:
    """End the command; what it had begun at the place that was made for it is removed."""
    process.send_signal(signal.SIGINT)
    await process.wait()
    shutil.rmtree(out, ignore_errors=True)
    out.with_name(f"{out.name}.unfinished-cut.json").unlink(missing_ok=True)


def _under_way(seconds: float) -> Line:
    """Return the progress of what takes nobody knows how long: it comes nearer to the end without reaching it."""
    return {"progress": round(seconds / (seconds + 20), 3), "text": f"cutting and measuring, {seconds:.0f} s"}


def _saved(arguments: Sequence[str], out: Path) -> Line:
    record = json.loads((out / RECORD).read_bytes())
    run, following = str(out), (["explore"], ["evaluate", "--data", record["data"]], ["report"])
    return {"saved": {
        "run": run,
        "command": shlex.join(["howdeep", *arguments]),
        "sentence": cut_finding(from_json(Cut, record)),
        "next": [shlex.join(["howdeep", verb, run, *options]) for verb, *options in following],
    }}  # fmt: skip


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("howdeep: ") if lines else "the cut failed without a word"
