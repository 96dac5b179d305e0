"""Costs predicted from a few shallow networks against what deeper ones turn out to cost, on this machine."""

import statistics

from common import Row, report, rounds_option, row
from howdeep.costs.cost import Ladder, cost
from howdeep.costs.options import CostOptions
from howdeep.costs.predicting import PEAKS, TIMES
from howdeep.runtime.process import keep_freed_memory
from howdeep.util.records import to_json

TIME_BAR, PEAK_BAR, DEEPEST, DEEPEST_BAR = 8.0, 10.0, 1202, 12.0
CASES = {
    "cifar_resnet": ("cifar_resnet", (8, 20, 32), (44, 56, 110), CostOptions(seconds=1e6)),
    "cifar_resnet, width 4": (
        "cifar_resnet_w4",
        (8, 14, 20),
        (32, 44),
        CostOptions(seconds=1e6, batch_size=32),
    ),
    "cifar_densenet_bc, k = 12": (
        "cifar_densenet_bc_k12",
        (10, 22, 40),
        (58, 76, 100),
        CostOptions(seconds=1e6, batch_size=64),
    ),
    "cifar_resnet, 8×8": (
        "cifar_resnet",
        (8, 20, 56),
        (110, 434, 1202),
        CostOptions(seconds=1e6, size=8, channels=1),
    ),
}
"""Name → network, depths of the fit, held-out depths, setting."""


def held_out(ladder: Ladder, names: tuple[str, ...]) -> dict[str, list[float]]:
    """Return the absolute errors of the depths that were not fitted on, by cost."""
    checked = [one.error_percent for one in ladder.depths if one.error_percent and not one.fitted]
    return {name: [abs(value) for one in checked if (value := getattr(one, name)) is not None] for name in names}


def compare(case: str, ladder: Ladder) -> list[Row]:
    """Return the errors of times and of peaks, medians over the held-out depths and all costs of that kind."""
    depths = ", ".join(str(one.depth) for one in ladder.depths if not one.fitted)
    fitted = ", ".join(str(one.depth) for one in ladder.depths if one.fitted)
    rows = []
    for what, names, bar in (("time", TIMES, TIME_BAR), ("peak memory", PEAKS, PEAK_BAR)):
        errors = held_out(ladder, names)
        middle = statistics.median(value for values in errors.values() for value in values)
        each = "; ".join(f"{name} {' '.join(f'{value:.1f}' for value in values)}" for name, values in errors.items())
        note = f"fitted on {fitted}; {depths}: {each}"
        rows.append(row(f"{case}: error of {what}", middle, f"≤ {bar:g} %", middle <= bar, unit="%", note=note))
    return rows


def overall(ladders: list[Ladder]) -> list[Row]:
    """Return the error of times over all held-out depths and widths, and of the deepest network: of its worst time."""
    each = [held_out(ladder, TIMES) for ladder in ladders]
    errors = [value for one in each for values in one.values() for value in values]
    middle = statistics.median(errors)
    rows = [row("error of time, all together", middle, f"≤ {TIME_BAR:g} %", middle <= TIME_BAR, unit="%")]
    deepest = [
        (abs(getattr(one.error_percent, name)), name)
        for ladder in ladders
        for one in ladder.depths
        if one.depth == DEEPEST and one.error_percent
        for name in TIMES
    ]
    worst, name = max(deepest)
    what, note = f"{DEEPEST:,} layers: error of its worst time", f"{name}; of {len(deepest)}"
    return [*rows, row(what, worst, f"≤ {DEEPEST_BAR:g} %", worst <= DEEPEST_BAR, unit="%", note=note)]


def main() -> None:
    rounds = rounds_option(5)
    keep_freed_memory()
    rows, details, ladders = [], {}, []
    for case, (network, fitted, others, options) in CASES.items():
        chosen = CostOptions(**{**vars(options), "rounds": rounds})
        (ladder,) = cost(network, (*fitted, *others), fitted, chosen, report=print).ladders
        ladders.append(ladder)
        rows += compare(case, ladder)
        record = to_json(ladder)
        for one in record["depths"]:
            del one["counts"]
        details[case] = record
    report("cost", [*overall(ladders), *rows], ladders=details)


if __name__ == "__main__":
    main()
