"""What every benchmark needs: both sides in turn, medians with their spread, one JSON record beside a table."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from howdeep.runs.folder import provenance
from howdeep.runtime.device import pick

REPORTS = Path(__file__).parent / "reports"
SHARED = Path(__file__).parents[2] / "shared"

Row = dict[str, object]


def alternate(sides: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Return the seconds of every round of every side, run in turn so that a drifting machine drifts for all."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(warmup + rounds):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if round_ >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    """Return median, smallest and largest of some seconds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def ratio(seconds: Mapping[str, list[float]], numerator: str, denominator: str) -> float:
    """Return the median of the ratios round by round."""
    pairs = zip(seconds[numerator], seconds[denominator], strict=True)
    return statistics.median(above / below for above, below in pairs)


def row(what: str, value: float, bar: str, met: bool, *, unit: str = "", note: str = "") -> Row:
    """Return one line of a report: a number beside its bar."""
    return {"what": what, "value": value, "unit": unit, "bar": bar, "met": met, "note": note}


def report(name: str, rows: list[Row], **details: object) -> None:
    """Print the rows and write them with their provenance to ``reports/NAME.json``."""
    table = Table(title=name, title_justify="left", box=None)
    for column in ("what", "measured", "bar", "", "note"):
        table.add_column(column, overflow="fold")
    for line in rows:
        mark = "met" if line["met"] else "MISSED"
        table.add_row(
            str(line["what"]), f"{line['value']:.4g} {line['unit']}", str(line["bar"]), mark, str(line["note"])
        )
    Console(highlight=False).print(table)
    REPORTS.mkdir(exist_ok=True)
    origin = provenance(pick("auto"))
    origin["command"] = f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip()
    origin["load"] = os.getloadavg()
    record = {"name": name, "rows": rows, **details, **origin}
    (REPORTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def rounds_option(default: int) -> int:
    """Return ``--rounds`` of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=default)
    return parser.parse_args().rounds


def howdeep(*arguments: object) -> str:
    """Run a command of the package as a user does and return what it printed."""
    command = [sys.executable, "-m", "howdeep", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def product_rate(dtype: torch.dtype = torch.bfloat16, size: int = 2048) -> float:
    """Return this machine's rate of a square matrix product in FLOP/s, the best of a few."""
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    seconds = alternate({"product": lambda: left @ right}, rounds=5, warmup=2)["product"]
    return 2 * size**3 / min(seconds)
