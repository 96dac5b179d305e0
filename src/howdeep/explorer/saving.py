"""Save this cut: the command ``howdeep cut --remove …`` in a process of its own, so that nobody waits for it."""

import asyncio
import json
import shlex
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from howdeep.cutting.records import Cut
from howdeep.cutting.run import RECORD
from howdeep.explorer.jobs import Line
from howdeep.explorer.records import State
from howdeep.runs.resume import Journal
from howdeep.runs.target import Target
from howdeep.util.errors import UserError
from howdeep.util.records import from_json

REPORT_EVERY = 0.5
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

    def removed(self, state: State, own: State) -> list[int]:
        """Return the numbers of the units that are out in a state, from 1.

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
        return [index + 1 for index in state.closed]

    async def save(self, removed: Sequence[int]) -> AsyncGenerator[Line]:
        """Yield the progress of the command that takes units out, then what it wrote.

        Whoever stops listening ends the command, and what it had begun is removed.
        """
        try:
            out = self._place(len(self.target.chain) - len(removed))
        except OSError as error:
            yield {"error": f"no folder can be made for the cut: {error.strerror} ({error.filename})"}
            return
        numbers = [str(number) for number in removed]
        arguments = ["cut", *self.arguments, "--data", self.data, "--out", str(out), "--remove", *numbers]
        command, nothing, pipe = [sys.executable, "-m", "howdeep"], asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, *arguments, stdin=nothing, stdout=nothing, stderr=pipe)
        ended, started = asyncio.create_task(process.communicate()), time.monotonic()
        try:
            while not (await asyncio.wait([ended], timeout=REPORT_EVERY))[0]:
                # Nobody knows how long it takes: the share comes nearer to 1 without reaching it.
                seconds = time.monotonic() - started
                share = round(seconds / (seconds + 20), 3)
                yield {"progress": share, "text": f"cutting and measuring, {seconds:.0f} s"}
            if process.returncode == 0:
                yield _saved(arguments, out)
            else:
                lines = (await ended)[1].decode(errors="replace").strip().splitlines()
                yield {"error": lines[-1].removeprefix("howdeep: ") if lines else "the cut failed without output"}
        finally:
            if process.returncode is None:
                process.kill()  # nothing of it is kept, so that it need not finish what is under way
            if await process.wait() != 0:
                shutil.rmtree(out, ignore_errors=True)
                Journal(out).remove()

    def _place(self, left: int) -> Path:
        """Make a folder beside the run folder, for networks of a library here: nobody else gets the same."""
        run = Path(self.target.name.rpartition(":")[2])
        first = run.with_name(f"{run.name}-cut-to-{left}-units")
        place, number = first, 1
        while True:
            try:
                place.mkdir()
                return place
            except FileExistsError:
                number += 1
                place = first.with_name(f"{first.name}-{number}")


def _saved(arguments: Sequence[str], out: Path) -> Line:
    record = json.loads((out / RECORD).read_bytes())
    run, following = str(out), (["explore"], ["evaluate", "--data", record["data"]], ["report"])
    return {
        "saved": {
            "run": run,
            "command": shlex.join(["howdeep", *arguments]),
            "sentence": from_json(Cut, record).finding,
            "next": [shlex.join(["howdeep", verb, run, *options]) for verb, *options in following],
        }
    }
