"""Train what matters: exactly 23 of 54 units open per mini-batch, against all open (Veit et al. 2016, section 4.3).

On the digits, 110 layers, three seeds; writes ``results/effective_paths.json``. The literature's 5.96 against 6.10 % is
CIFAR-10 and hundreds of epochs.
"""

import json
import os
import statistics
from pathlib import Path

from common import howdeep

ROOT = Path(__file__).parents[1]
NETWORK, EPOCHS, SEEDS = "cifar_resnet110", 20, (0, 1, 2)
RULES = {"all open": "constant", "exactly 23 of 54": "exactly:23"}


def main() -> None:
    os.chdir(ROOT)
    errors: dict[str, list[float]] = {}
    for label, rule in RULES.items():
        for seed in SEEDS:
            out = Path("runs/effective_paths") / f"{rule.replace(':', '')}-{seed}"
            howdeep(
                "train",
                NETWORK,
                "--data",
                "digits",
                "--epochs",
                EPOCHS,
                "--survival",
                rule,
                "--seed",
                seed,
                "--out",
                out,
            )
            result = json.loads((out / "result.json").read_text())["test"]
            errors.setdefault(label, []).append(result["error_percent"])
    record = {"command": "python benchmarks/effective_paths.py", "network": NETWORK, "epochs": EPOCHS, "n": result["n"]}
    record["rules"] = {label: summary(found) for label, found in errors.items()}
    Path("results/effective_paths.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["rules"], indent=1))


def summary(found: list[float]) -> dict:
    """Return the errors of all seeds, their mean and its standard error."""
    error = statistics.stdev(found) / len(found) ** 0.5
    return {"error_percent": found, "mean": statistics.fmean(found), "standard_error": error}


if __name__ == "__main__":
    main()
