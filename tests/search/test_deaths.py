"""A search that several processes share, on a server, as they die: minutes, by hand with -m slow."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.search.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BUDGET = 150.0
"""Seconds of the clock of training steps, see :mod:`tests.search.fitting`."""


def test_after_the_death_of_one_of_two_the_other_answers_in_time(tmp_path: Path, server: Server) -> None:
    """The first whose network has passed a round is killed: the other's work and its wait take 20 % more at most."""
    started = {}
    for name in ("one", "two"):
        asked = ["--data", "digits", "--limit", "80", "--train-budget", f"{BUDGET:.0f}s", "--depths", "8,14,20"]
        asked += ["--widths", "1"]
        where = ["--device", "cpu", "--storage", server.url, "--study", "deaths", "--out", str(tmp_path / name)]
        with (tmp_path / f"{name}.txt").open("w") as told:
            command = [sys.executable, "-m", "tests.search.fitting", *asked, *where]
            started[name] = subprocess.Popen(command, stderr=told, stdout=subprocess.DEVNULL)
    try:
        killed = _first_that_says(r"  cifar_resnet\d+ .* epochs", [tmp_path / f"{name}.txt" for name in started])
        started[killed].send_signal(signal.SIGKILL)
        left = next(name for name in started if name != killed)
        assert started[left].wait(600) == 0
    finally:
        for one in started.values():
            one.kill()
            one.wait()
    said, found = (tmp_path / f"{left}.txt").read_text(), json.loads((tmp_path / left / "answer.json").read_text())
    waited = sum(map(float, re.findall(r"^waited (\S+) s$", said, re.MULTILINE)))
    print(f"waited {waited:.1f} s, spent {found['spent_seconds']:.1f} s of {BUDGET} s\n{said}")
    assert "taken over, nothing is heard from" in said
    assert "Traceback" not in said
    assert not any(one["failed"] for one in found["candidates"])
    assert waited > 0
    assert found["spent_seconds"] + waited <= 1.2 * BUDGET


def _first_that_says(pattern: str, files: list[Path]) -> str:
    deadline = time.monotonic() + 200
    while not (found := [file.stem for file in files if re.search(pattern, file.read_text())]):
        assert time.monotonic() < deadline, [file.read_text() for file in files]
        time.sleep(0.1)
    return found[0]
