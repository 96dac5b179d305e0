"""1,202 layers on the digits with stochastic depth, as the demo trains them, by the clock of the whole command."""

import json
import tempfile
import time
from pathlib import Path

from common import howdeep, report, row
from howdeep.demo import STOCHASTIC, VERY_DEEP, VERY_DEEP_EPOCHS
from howdeep.util.text import percent_text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out, started = Path(folder) / "run", time.perf_counter()
        howdeep(
            "train",
            f"cifar_resnet{VERY_DEEP}",
            "--data",
            "digits",
            "--out",
            out,
            "--epochs",
            VERY_DEEP_EPOCHS,
            "--survival",
            STOCHASTIC,
        )
        seconds = time.perf_counter() - started
        test = json.loads((out / "result.json").read_text())["test"]
    note = f"{percent_text(test['error_percent'], test['n'])}, n = {test['n']}, {VERY_DEEP_EPOCHS} epochs, seed 0"
    rows = [
        row(
            f"cifar_resnet{VERY_DEEP} on the digits: test error",
            test["error_percent"],
            "≤ 4 %",
            test["error_percent"] <= 4,
            unit="%",
            note=note,
        ),
        row("the whole command", seconds, "≤ 180 s", seconds <= 180, unit="s"),
    ]
    report("very_deep", rows, test=test)


if __name__ == "__main__":
    main()
