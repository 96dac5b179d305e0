"""A third of the units of the public 56-layer network out; and who loses less, with stochastic depth or without.

The public weights were trained on all 50,000 training images, those that are held out for validation here included:
the test images, which they never saw, stand beside them. The images here are JPEG files, the weights were trained on
the originals: an epoch of fine-tuning repairs the cut and adapts the weights to JPEG, and no row tells the two apart.
"""

import json
import math
import statistics
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from common import Row, howdeep, report, row
from howdeep.analysis.study import SplitBatches
from howdeep.cutting.cut import cut
from howdeep.cutting.frontier import Images
from howdeep.cutting.options import CutBudget
from howdeep.cutting.records import Cut
from howdeep.data import open_data
from howdeep.runs.folder import open_run
from howdeep.training.config import TrainConfig
from howdeep.training.loop import train
from howdeep.util.records import from_json
from subjects import CIFAR10, MEAN, STD, weights

NETWORK, OUT, EPOCHS = "cifar_resnet56", 8, 1
SMALL, SMALL_EPOCHS, SEEDS, RULES = "cifar_resnet56", 20, (0, 1, 2), ("constant", "linear:0.5")
SMALL_OUT = 9


def public(folder: Path) -> Cut:
    """Return what the command does to the public network: 8 of 27 units out, one epoch of fine-tuning."""
    place = folder / "cut.json"
    howdeep(
        "cut",
        NETWORK,
        "--weights",
        weights(NETWORK),
        "--mean",
        *MEAN,
        "--std",
        *STD,
        "--data",
        CIFAR10,
        "--units",
        27 - OUT,
        "--out",
        folder / "run",
        "--epochs",
        EPOCHS,
        "--json",
        place,
        "--overwrite",
    )
    return from_json(Cut, json.loads(place.read_text()))


def public_rows(found: Cut) -> list[Row]:
    """Return the numbers of the public network beside their bars."""
    point, test, tuned = found.choice, found.test, found.tuned
    assert point is not None
    assert point.recalibrated is not None
    assert test is not None
    assert tuned is not None
    before, after = found.original.latency, point.size.latency
    less, base, units = 100 * (1 - after.median_ms / before.median_ms), found.baseline, found.original.units
    times = f"{before.median_ms:.2f} → {after.median_ms:.2f} ms, quartiles {_pair(before)} → {_pair(after)}"
    seen = f"n = {base.n:,}, images that the weights were trained on"
    interval = f"{tuned.change_low:+.2f} … {tuned.change_high:+.2f}"
    return [
        row(f"{OUT} of {units} units out: latency", less, "≥ 25", less >= 25, unit="% lower", note=times),
        row("validation error before", base.error_percent, "shown beside", True, unit="%", note=seen),
        row("as cut", point.cut.error_percent, "shown beside", True, unit="%"),
        row("norm statistics re-estimated", point.recalibrated.error_percent, "shown beside", True, unit="%"),
        row(f"after {EPOCHS} epoch of fine-tuning", tuned.error_percent, "shown beside", True, unit="%"),
        row("validation error, change", tuned.change, "≤ 1.0", tuned.change <= 1, unit="points", note=interval),
        row("test error before", test.original.error_percent, "shown beside", True, unit="%", note="n = 10,000"),
        row(
            "test error, change",
            test.cut.change,
            "shown beside",
            True,
            unit="points",
            note=f"{test.cut.change_low:+.2f} … {test.cut.change_high:+.2f}; {test.cut.error_percent:.2f} %",
        ),
    ]


def _pair(timing) -> str:
    return f"{timing.quartiles_ms[0]:.2f}–{timing.quartiles_ms[1]:.2f}"


def small(rule: str, seed: int, folder: Path) -> Cut:
    """Return the cut of a network trained on the digits, chosen on validation images and measured on test images."""
    config = TrainConfig(network=SMALL, data="digits", epochs=SMALL_EPOCHS, survival=rule, seed=seed)
    run = open_run(train(config, folder / f"{rule}-{seed}", console=Console(quiet=True)).run)
    data, normalization, host = open_data("digits", seed=seed), run.normalization, torch.device("cpu")
    assert normalization is not None
    calibration, evaluation, training = (
        SplitBatches(data.split(name), normalization, 100, host) for name in ("val", "test", "train")
    )
    images = Images(calibration, evaluation, training)
    units = len(chain := run.chain(print))
    return cut(chain, images, budget=CutBudget(units=units - SMALL_OUT), console=Console(quiet=True))


def _change(found: Cut) -> float:
    """Return the points of error that a cut costs before repair."""
    assert found.choice is not None
    return found.choice.cut.change


def small_rows(found: dict[str, list[Cut]]) -> list[Row]:
    """Return how many points of error the same cut costs, by how the network was trained."""
    changes = {rule: [_change(one) for one in several] for rule, several in found.items()}
    means = {rule: statistics.fmean(values) for rule, values in changes.items()}
    pairs = [one - other for one, other in zip(*(changes[rule] for rule in RULES), strict=True)]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs))
    base = {rule: statistics.fmean(cuts.baseline.error_percent for cuts in several) for rule, several in found.items()}
    less = means[RULES[0]] - means[RULES[1]]
    rows = [
        row(
            f"digits, {SMALL}, {SMALL_OUT} units out, {rule}",
            means[rule],
            "shown beside",
            True,
            unit="points",
            note=f"from {base[rule]:.1f} %; seeds: {', '.join(f'{value:+.1f}' for value in changes[rule])}",
        )
        for rule in RULES
    ]
    note = f"± {error:.1f} over {len(pairs)} seeds, before repair, n = {found[RULES[0]][0].baseline.n} test images each"
    return [*rows, row("stochastic depth loses less by", less, "> 0", less > 0, unit="points", note=note)]


def main() -> None:
    # What was trained and cut there is not done again, so that a benchmark that was stopped goes on.
    folder = Path(tempfile.gettempdir()) / "howdeep-bench-cut"
    folder.mkdir(exist_ok=True)
    found = public(folder)
    digits = {rule: [small(rule, seed, folder) for seed in SEEDS] for rule in RULES}
    report("cut", [*public_rows(found), *small_rows(digits)])


if __name__ == "__main__":
    main()
