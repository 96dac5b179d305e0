"""Does an answer to a latency budget hold it, in onnxruntime, where a new process measures it again?

Cuts of a residual network of the digits, to budgets evenly between its own latency and that of its smallest cut, and
fits to budgets between two depths. One more process then measures all the networks that came out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from common import Row, howdeep, report, row
from howdeep.analysis.study import prepared
from howdeep.chain import Chain
from howdeep.cutting.options import CutOptions
from howdeep.cutting.run import cut_target
from howdeep.deploying.latency import latencies
from howdeep.networks import build, spec_of
from howdeep.runs.folder import open_run
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import open_target
from howdeep.runtime.deployment import Deployment
from howdeep.search.fit import fit
from howdeep.search.options import FitOptions
from howdeep.transform.removal import without

WHERE = Deployment("onnxruntime")
IMAGE = torch.zeros(1, 1, 8, 8).contiguous(memory_format=torch.channels_last)
NETWORK, DEPTHS, EPOCHS, FIT_SECONDS = "cifar_resnet20", "8,14,20", 3, 30
FEW: dict[str, Any] = {"calibration_images": 128, "statistics_images": 128}
ASKED: dict = {"runtime": WHERE.runtime, "device": "cpu"}


def as_run(chain: Chain) -> Chain:
    """Return a network as it is timed."""
    return prepared(chain, IMAGE, precision="fp32", device=torch.device("cpu")).chain


def milliseconds(folders: list[Path]) -> list[float]:
    """Return the latency of the network of every run folder, in a process of its own."""
    found = []
    for folder in folders:
        found.append(latencies([as_run(open_run(folder).chain(print))], IMAGE, WHERE)[0].median_ms)
    return found


def again(folders: list[Path]) -> list[float]:
    """Return the same, measured in a new process."""
    command = [sys.executable, __file__, "--measure", *map(str, folders)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def cuts(folder: Path, count: int) -> list[tuple[str, float, Path]]:
    """Return cuts of a trained network, each with its budget in milliseconds and its run folder."""
    whole = folder / "whole"
    howdeep("train", NETWORK, "--data", "digits", "--epochs", EPOCHS, "--recipe", "fast", "--out", whole)
    target = open_target(TargetOptions(target=str(whole), device="cpu"), report=print)
    chain = target.chain
    smallest = without(chain, [index for index, unit in enumerate(chain.units) if unit.merge.removable])
    slow, fast = (one.median_ms for one in latencies([as_run(chain), as_run(smallest)], IMAGE, WHERE))
    found = []
    for number in range(count):
        budget = fast + (number + 1) / (count + 1) * (slow - fast)
        options = CutOptions(
            data="digits", latency_budget=f"{budget:.6f}ms", out=folder / f"cut{number}", **ASKED, **FEW
        )
        cut_target(target, options, report=print, console=Console(stderr=True))
        found.append((f"cut {number + 1}", budget, folder / f"cut{number}"))
    return found


def fits(folder: Path, count: int) -> list[tuple[str, float, Path]]:
    """Return fits, each with its budget in milliseconds and the run folder of its answer."""
    ends = [as_run(build(spec_of(f"cifar_resnet{depth}", channels=1))) for depth in (8, 20)]
    fast, slow = (one.median_ms for one in latencies(ends, IMAGE, WHERE))
    found = []
    for number in range(count):
        budget = fast + (number + 1) / (count + 1) * (slow - fast)
        asked: dict[str, Any] = {
            "train_budget": f"{FIT_SECONDS}s",
            "latency_budget": f"{budget:.6f}ms",
            "depths": DEPTHS,
        }
        answer = fit(FitOptions(data="digits", out=folder / f"fit{number}", **asked, **ASKED))
        assert answer is not None, "no other process takes part"
        found.append((f"fit {number + 1}", budget, Path(answer.run)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuts", type=int, default=16)
    parser.add_argument("--fits", type=int, default=4)
    parser.add_argument("--measure", nargs="+", type=Path)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(milliseconds(given.measure)))
        return
    with tempfile.TemporaryDirectory(prefix="howdeep-") as folder:
        answers = [*cuts(Path(folder), given.cuts), *fits(Path(folder), given.fits)]
        measured = again([place for _, _, place in answers])
    table = [
        {"answer": what, "budget ms": f"{budget:.4f}", "again ms": f"{found:.4f}", "share": f"{found / budget:.3f}"}
        for (what, budget, _), found in zip(answers, measured, strict=True)
    ]
    held = sum(found <= budget for (_, budget, _), found in zip(answers, measured, strict=True))
    worst = max(found / budget for (_, budget, _), found in zip(answers, measured, strict=True))
    rows: list[Row] = [
        row("answers that hold their budget again", held, f"{len(answers)} of {len(answers)}", held == len(answers)),
        row("the worst, as a share of its budget", worst, "≤ 1", worst <= 1),
    ]
    report("runtime", rows, table=table)


if __name__ == "__main__":
    main()
