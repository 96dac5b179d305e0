"""A cut as a sentence and as a table on a terminal of 80 columns."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.analysis.effects import Effect
from howdeep.cutting.records import Cut, Point, Size
from howdeep.util.text import change_text, percent_text, short

NAMED = 10
"""Units that are named at most."""


def cut_finding(found: Cut) -> str:
    """Return what a cut saved and what it cost, or how far the frontier goes."""
    point = found.choice
    if point is not None:
        assert found.best is not None
        out = f"{point.out} of {found.original.units} units out"
        return f"{out}: {cut_saving(found)}, {found.best.change:+.1f} points of error"
    free = [point for point in found.points if point.best.change_low <= 0]
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
    return f"{point.out} of {found.original.units} units out: {faster}, {point.best.change:+.1f} points of error"


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
            point.best.change_low,
            point.best.change_high,
        )
        errors = (f"{effect.error_percent:.2f}{_mark(effect is point.best)}" for effect in (point.cut, point.repaired))
        row = (mark, *_size(point.size), *errors, change_text(low, high))
        table.add_row(*row, style="bold" if mark else "")
    return table


def _size(size: Size) -> tuple[str, str, str, str]:
    first, third = size.latency.quartiles_ms
    return str(size.units), short(size.macs), f"{size.latency.median_ms:.3g}", f"{first:.3g}–{third:.3g}"


def _mark(counts: bool) -> str:
    return "*" if counts else " "


def _tuned(found: Cut) -> list[str]:
    """Return whether the repair and the fine-tuning are kept, and the test split."""
    lines = []
    if (point := found.choice) is not None:
        lines.append(f"norm statistics re-estimated: {_kept(point.kept == 'repaired', point.repaired, point.cut)}")
        if found.tuned is not None:
            # Steps are whole: the last one may lie behind the epochs that were asked for.
            all_of_them = max(found.epochs, found.tuned_epoch or 0)
            epoch = f", epoch {found.tuned_epoch:.4g} of {all_of_them:.4g}" if found.tuned_epoch else ""
            lines.append(f"fine-tuned{epoch}: {_kept(found.tuned_kept, found.tuned, point.best)}")
            lines.append(f"after fine-tuning: {_effect(found.tuned, found.baseline.n)}")
    if found.test is not None:
        original, effect = found.test.original, found.test.cut
        before = f"{percent_text(original.error_percent, original.n)}, n = {original.n:,}"
        lines += [f"test split, uncut: {before}", f"test split, cut: {_effect(effect, original.n)}"]
    return lines


def _kept(kept: bool, new: Effect, old: Effect) -> str:
    return f"{'kept' if kept else 'discarded'} ({new.error_percent:.2f} % against {old.error_percent:.2f} %)"


def _effect(effect: Effect, n: int) -> str:
    interval = change_text(effect.change_low, effect.change_high)
    return f"{percent_text(effect.error_percent, n)}, {effect.change:+.2f} points (95 %: {interval})"


def _units(found: Cut) -> list[str]:
    """Return which units went."""
    out = [removal.name for removal in found.order[: found.chosen]]
    more = f" and {len(out) - NAMED} more" if len(out) > NAMED else ""
    return [f"{'out' if found.chosen else 'first out'}: {', '.join(out[:NAMED])}{more}"]


def _reading(found: Cut) -> list[str]:
    named = found.chosen is not None and not found.budget.given
    chosen = "units as named" if named else f"units chosen on {found.calibration_images:,} images"
    return [
        "error in %, as cut and with norm statistics re-estimated; change in points",
        f"* counts, the better on {found.calibration_images:,} images: fewer errors, or no more and less cross-entropy",
        f"{chosen}, statistics from {found.statistics_images:,}; ms of one image, threads: {found.threads}",
    ]
