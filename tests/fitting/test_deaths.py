"""A search that several processes share, on a server, as they die: minutes, by hand with -m slow."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import Server

pytestmark = pytest.mark.slow
BUDGET = 30.0


@pytest.mark.parametrize("rungs", [1, 3], ids=["early", "late"])
def test_after_the_death_of_one_of_two_the_other_answers_in_time(rungs: int, tmp_path: Path, server: Server) -> None:
    """It is killed after the first network has passed a rung, or the third; the survivor overruns by 20 % at most."""
    started = {}
    for name in ("killed", "left"):
        asked = ["--data", "digits", "--train-budget", f"{BUDGET:.0f}s", "--depths", "8,14,20,32", "--device", "cpu"]
        where = ["--storage", server.url, "--study", f"deaths{rungs}", "--out", str(tmp_path / name)]
        command = [sys.executable, "-m", "howdeep", "fit", *asked, *where]
        with (tmp_path / f"{name}.txt").open("w") as told:
            started[name] = subprocess.Popen(command, stderr=told, stdout=subprocess.DEVNULL)
    try:
        _wait_for(tmp_path / "killed.txt", r"  cifar_resnet\d+ .* epochs", rungs)
        started["killed"].send_signal(signal.SIGKILL)
        assert started["left"].wait(300) == 0
    finally:
        for one in started.values():
            one.kill()
            one.wait()
    wall = time.time() - (tmp_path / "left" / "owner.json").stat().st_mtime  # written when its clock had just begun
    said, found = (tmp_path / "left.txt").read_text(), json.loads((tmp_path / "left" / "answer.json").read_text())
    trained = found["contenders"][0]["rungs"] and next(
        one["rungs"][-1]["seconds"] for one in found["contenders"] if one["costs"]["network"] == found["network"]
    )
    print(f"wall {wall:.1f} s, spent {found['spent_seconds']:.1f} s of {BUDGET} s; {trained:.1f} s of training; {said}")
    assert "taken over, nothing is heard from" in said
    assert "Traceback" not in said
    assert not any(one["failed"] for one in found["contenders"])
    assert found["spent_seconds"] <= 1.1 * BUDGET
    assert wall <= 1.2 * BUDGET


def _wait_for(file: Path, pattern: str, times: int) -> None:
    deadline = time.monotonic() + 200
    while len(re.findall(pattern, file.read_text())) < times:
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.1)
