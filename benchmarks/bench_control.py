"""Cut networks against an uncut control that is trained for as many more epochs: CIFAR-10, 56 layers, three seeds.

    howdeep train cifar_resnet56 --data CIFAR10 --epochs 60 --out FOLDER/whole
    howdeep cut FOLDER/whole --data CIFAR10 --macs 63% --out FOLDER/63             # and 44 %, 25 %
    howdeep train cifar_resnet56 --from FOLDER/63 --data CIFAR10 --epochs 10 --seed SEED --out FOLDER/63-SEED
    howdeep train cifar_resnet56 --from FOLDER/whole … --out FOLDER/control-SEED

It takes some twenty hours of two cores. Every command resumes, so the same one of this file goes on.
"""

import argparse
import json
import statistics
from pathlib import Path

from common import SHARED, Row, howdeep, report, row
from howdeep.util.intervals import of_mean

NETWORK, DATA = "cifar_resnet56", SHARED / "data" / "cifar10"
BARS = {63: 0.0, 44: -0.3, 25: -1.5}
"""MACs that are left in percent → least gain in points over the control."""


def main() -> None:
    """Train what is missing, then report all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--more", type=int, default=10, help="epochs after the cut, and of the control")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    whole = asked.folder / "whole"
    howdeep("train", NETWORK, "--data", DATA, "--epochs", asked.epochs, "--out", whole)
    starts = {"control": whole}
    for left in BARS:
        starts[str(left)] = asked.folder / str(left)
        howdeep("cut", whole, "--data", DATA, "--macs", f"{left}%", "--out", starts[str(left)])
    errors = {name: [] for name in starts}
    for seed in range(asked.seeds):
        for name, start in starts.items():
            out = asked.folder / f"{name}-{seed}"
            options = ("--data", DATA, "--epochs", asked.more, "--seed", seed, "--out", out)
            howdeep("train", NETWORK, "--from", start, *options)
            errors[name].append(error_of(out))
            print(f"{name}, seed {seed}: {errors[name][-1]:.2f} %", flush=True)
    print(f"after {asked.epochs} epochs {error_of(whole):.2f} %")
    report("control", [against(left, errors, starts[str(left)], error_of(whole)) for left in BARS])


def error_of(run: Path) -> float:
    """Return the test error of a finished training, in percent."""
    return json.loads((run / "result.json").read_text())["test"]["error_percent"]


def against(left: int, errors: dict[str, list[float]], folder: Path, before: float) -> Row:
    """Return what a cut gains over the control, in points, with the interval of the mean over seeds."""
    gains = [control - cut for control, cut in zip(errors["control"], errors[str(left)], strict=True)]
    gain, bar, cut = statistics.fmean(gains), BARS[left], json.loads((folder / "cut.json").read_text())
    low, high = of_mean(gains)
    point = next(point for point in cut["points"] if point["out"] == cut["chosen"])
    ms = f"{cut['original']['latency']['median_ms']:.2f} → {point['size']['latency']['median_ms']:.2f} ms"
    each = ", ".join(f"{error:.2f}" for error in errors[str(left)])
    said = f"{each} %; control {', '.join(f'{error:.2f}' for error in errors['control'])} % (before: {before:.2f})"
    note = f"95 % {low:+.1f} to {high:+.1f} (n = {len(gains)}); {said}; {cut['chosen']} units out, {ms}"
    return row(f"{left} % of the MACs: gain over the control", gain, f"≥ {bar}", gain >= bar, unit="points", note=note)


if __name__ == "__main__":
    main()
