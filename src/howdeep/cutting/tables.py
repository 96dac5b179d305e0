"""A cut as a sentence and as a table on a terminal of 80 columns."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.cutting.records import Cut, Point, Size
from howdeep.dissect.effects import Effect
from howdeep.intervals import change_text, percent_text
from howdeep.networks.describe import short

NAMED = 10
"""Units that are named at most."""


def cut_finding(found: Cut) -> str:
    """Return what a cut saved and what it cost, or how far the frontier goes."""
    point = found.choice
    if point is not None:
        effect = found.tuned or point.repaired
        out = f"{point.out} of {found.original.units} units out"
        return f"{out}: {cut_saving(found)}, {effect.change:+.1f} points of error"
    free = [point for point in found.points if point.repaired.change_low <= 0]
    if not free:
        return f"every cut costs error: {_cost(found, found.points[0])}"
    return f"{_cost(found, free[-1])}, no more than noise"


def cut_saving(found: Cut) -> str:
    """Return what the chosen cut saves."""
    assert found.choice is not None
    before, after = found.original, found.choice.size
    return f"{_faster(before, after)}, {_fewer(before.macs, after.macs)} MACs"


def _cost(found: Cut, point: Point) -> str:
    faster = _faster(found.original, point.size)
    return f"{point.out} of {found.original.units} units out: {faster}, {point.repaired.change:+.1f} points of error"


def _faster(original: Size, size: Size) -> str:
    """Return how much less time a network takes."""
    share = 100 * (1 - size.latency.median_ms / original.latency.median_ms)
    return f"{share:.0f} % less time" if share >= 0 else f"{-share:.0f} % more time"


def _fewer(before: int, after: int) -> str:
    return f"{100 * (1 - after / before):.0f} % fewer"


def cut_table(found: Cut) -> RenderableType:
    """Return the finding, the network before, and one row per cut."""
    base = found.baseline
    intact = f"uncut: {percent_text(base.error_percent, base.n)}, n = {base.n:,}"
    lines = [*_tuned(found), *_units(found), *_reading(found), *found.notes]
    return Group(Text(cut_finding(found), style="bold"), Text(intact), _table(found), *(Text(line) for line in lines))


def _table(found: Cut) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("", "units", "MACs", "ms", "quartiles", "error: cut", "repaired", "change, 95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("", *_size(found.original), f"{found.baseline.error_percent:.2f}", "", "")
    for point in found.points:
        mark, low, high = (
            "→" if point.out == found.chosen else "",
            point.repaired.change_low,
            point.repaired.change_high,
        )
        errors = f"{point.cut.error_percent:.2f}", f"{point.repaired.error_percent:.2f}"
        row = (mark, *_size(point.size), *errors, change_text(low, high))
        table.add_row(*row, style="bold" if mark else "")
    return table


def _size(size: Size) -> tuple[str, str, str, str]:
    first, third = size.latency.quartiles_ms
    return str(size.units), short(size.macs), f"{size.latency.median_ms:.3g}", f"{first:.3g}–{third:.3g}"


def _tuned(found: Cut) -> list[str]:
    """Return what fine-tuning made of it, and the test split."""
    lines = []
    if found.tuned is not None:
        lines.append(f"after fine-tuning ({found.epochs:g} epochs): {_effect(found.tuned, found.baseline.n)}")
        if found.choice is not None and found.tuned.change > found.choice.repaired.change:
            lines.append("fine-tuning did not help here; without --epochs the repaired network is kept")
    if found.test is not None:
        original, effect = found.test.original, found.test.cut
        before = f"{percent_text(original.error_percent, original.n)}, n = {original.n:,}"
        lines += [f"test split, uncut: {before}", f"test split, cut: {_effect(effect, original.n)}"]
    return lines


def _effect(effect: Effect, n: int) -> str:
    interval = change_text(effect.change_low, effect.change_high)
    return f"{percent_text(effect.error_percent, n)}, {effect.change:+.2f} points (95 %: {interval})"


def _units(found: Cut) -> list[str]:
    """Return which units went."""
    out = [removal.name for removal in found.order[: found.chosen]]
    more = f" and {len(out) - NAMED} more" if len(out) > NAMED else ""
    return [f"{'out' if found.chosen else 'first out'}: {', '.join(out[:NAMED])}{more}"]


def _reading(found: Cut) -> list[str]:
    count = found.calibration_images
    units = f"units chosen on {count:,} images" if count else "units as named"
    return [
        "error in %, as cut and with norm statistics re-estimated; change in points",
        f"{units}, statistics from {found.statistics_images:,}; ms of one image, threads: {found.threads}",
    ]
