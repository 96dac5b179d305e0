"""Costs as tables on a terminal of 80 columns, the finding first."""

import statistics
from collections.abc import Sequence
from dataclasses import astuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.costs.cost import Ladder, Rung
from howdeep.costs.predicting import PEAKS, TIMES, Costs
from howdeep.costs.scaling import Paper

HEADS = ("latency\nms", "inference\nms/image", "training\nms/image", "memory\nMB", "memory\nckpt MB")


def cost_table(found: Ladder) -> RenderableType:
    """Return the finding, what is counted, and what is measured and predicted."""
    return Group(
        Text(cost_finding(found), style="bold"), _counted(found), Text(), _measured(found), *map(Text, _notes(found))
    )


def cost_finding(found: Ladder) -> str:
    """Return the sentence of a ladder."""
    checked = [rung for rung in found.rungs if rung.error_percent and not rung.fitted]
    if checked:
        depths = _listed([str(rung.depth) for rung in checked])
        errors = [_middle(checked, names) for names in (TIMES, PEAKS)]
        said = [f"{what} within {error:.1f} %" for what, error in zip(("time", "memory"), errors, strict=True) if error]
        return f"{found.title}: predicted {' and '.join(said)} of what {depths} layers took (median)"
    deepest = found.rungs[-1]
    costs = deepest.measured or deepest.predicted
    word = "costs" if deepest.measured else "is predicted to cost"
    training = costs and costs.training_ms
    return f"{deepest.network} {word} {_digits(training)} ms of training per image"


def scaling_table(found: Paper) -> RenderableType:
    """Return the formula with its numbers, and one row per number of nodes."""
    length, unit = (60.0, "minutes") if found.rows[0].seconds[0] < 36_000 else (3600.0, "hours")
    table = _table("nodes", "batch", "sent MB", "reduce ms", "step ms", "efficiency %", unit)
    for row in found.rows:
        step, whole = _range(row.step_seconds, 1000.0), _range(row.seconds, 1 / length)
        table.add_row(
            f"{row.nodes:,}×{row.devices // row.nodes}", f"{row.batch_size:,}", f"{row.traffic_bytes / 1e6:.0f}",
            _digits(1000 * row.reduce_seconds), step, _percent(row.efficiency), whole,
        )  # fmt: skip
    last, job = found.rows[-1], found.job
    headline = (
        f"{found.network}, {job.images:,} images, {job.epochs:g} epochs: {_range(last.seconds, 1 / length)} {unit} on"
        f" {last.devices:,} devices, efficiency {_percent(last.efficiency)} % (on paper)"
    )
    return Group(Text(headline, style="bold"), Text(found.formula), Text(), table)


def _counted(found: Ladder) -> Table:
    """Return what needs no measurement, to the last digit where that fits."""
    expects = found.survival != "constant"
    expected = ["expected\nMACs"] if expects else []
    table = _table("layers", "units", "parameters", "MACs", "FLOPs", "training\nMACs", *expected)
    for rung in found.rungs:
        counts = rung.counts
        more = [_short(counts.expected_training_macs)] if expects else []
        table.add_row(
            f"{rung.depth:,}", f"{counts.units:,}", f"{counts.parameters:,}", f"{counts.macs:,}", _short(counts.flops),
            _short(counts.training_macs), *more,
        )  # fmt: skip
    one = found.one_more
    more = [f"+{_short(one.expected_training_macs)}"] if expects else []
    table.add_row(
        "one more*", f"+{one.units}", f"+{one.parameters:,}", f"+{one.macs:,}", f"+{_short(one.flops)}",
        f"+{_short(one.training_macs)}", *more,
    )  # fmt: skip
    return table


def _measured(found: Ladder) -> Table:
    expects = found.survival != "constant"
    table = _table("layers", "", *HEADS, *(["expected\nms/image"] if expects else []), text=2)
    for rung in found.rungs:
        depth, expected = f"{rung.depth:,}", [_digits(rung.expected_training_ms)] if expects else []
        if rung.measured:
            table.add_row(depth, "measured", *_numbers(rung.measured), *expected)
            depth, expected = "", [""] * len(expected)
        if rung.predicted:
            table.add_row(depth, "fitted" if rung.fitted else "predicted", *_numbers(rung.predicted), *expected)
        if rung.error_percent:
            # Adding 0.0 makes a rounded −0.0 a 0.0.
            errors = [
                "–" if value is None else f"{round(value, 1) + 0.0:+.1f} %" for value in astuple(rung.error_percent)
            ]
            table.add_row("", "error", *errors, style="dim")
    if found.one_more_costs:
        table.add_row("one more*", "predicted", *(_more(number) for number in _numbers(found.one_more_costs)))
    return table


def _notes(found: Ladder) -> list[str]:
    lines = [
        "* a unit in each stage of the deepest; FLOPs = 2 · MACs; training = 3 forward passes",
        f"latency: one image, threads: {found.threads}, fp32; inference: batch of {found.batch_size}, fp32;"
        f" {found.size}×{found.size} pixels",
        f"training: batch of {found.batch_size}, {found.precision}, {found.memory_format}; medians of the quietest of"
        f" {found.rounds} rounds",
        "memory: peak of training: weights, gradients, momentum, maps; not torch itself;",
        "ckpt: the same with --checkpointing",
    ]
    if found.fitted_on:
        lines.append(f"fitted on {_listed(found.fitted_on)}")
    if found.survival != "constant":
        lines.append(f"expected: of training under survival {found.survival}; time in proportion to MACs")
    return lines


def _middle(checked: Sequence[Rung], names: Sequence[str]) -> float | None:
    errors = [getattr(rung.error_percent, name) for rung in checked for name in names]
    kept = [abs(error) for error in errors if error is not None]
    return statistics.median(kept) if kept else None


def _numbers(costs: Costs) -> list[str]:
    times = [_digits(getattr(costs, name)) for name in TIMES]
    return [*times, *("–" if (peak := getattr(costs, name)) is None else f"{peak / 1e6:,.0f}" for name in PEAKS)]


def _more(number: str) -> str:
    return number if number == "–" else f"+{number}"


def _digits(value: float | None) -> str:
    """Return three digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _range(ends: tuple[float, float], factor: float) -> str:
    first, last = (_digits(factor * end) for end in ends)
    return first if first == last else f"{first}–{last}"


def _percent(ends: tuple[float, float]) -> str:
    high, low = (f"{100 * end:.0f}" for end in ends)
    return high if high == low else f"{low}–{high}"


def _short(count: float) -> str:
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:#.3g}".rstrip(".") + f" {sign}"
    return f"{count:.0f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _table(*columns: str, text: int = 0) -> Table:
    """Return an empty table: the first columns hold text, the others numbers."""
    table = Table(box=None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < text else "right", no_wrap=True)
    return table
