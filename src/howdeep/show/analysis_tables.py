"""Dissections as tables on a terminal of 80 columns, the finding first."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from howdeep.analysis.lesion import Lesion, UnitEffect
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow
from howdeep.show.sentences import flow_finding, lesion_finding, measured, paths_finding, share_text
from howdeep.util.text import change_text, percent_text

SHOWN = 40
"""Rows that a table shows at most."""
BAR = 24


def lesion_table(found: Lesion) -> RenderableType:
    """Return the finding, the intact network, and one row per unit, per k, or for the worst pairs."""
    base = found.baseline
    intact = f"intact: {percent_text(base.error_percent, base.n)}, n = {base.n:,}"
    if found.units:
        return Group(Text(lesion_finding(found), style="bold"), Text(intact), *_units(found))
    table = _by_k(found) if found.by_k else _pairs(found)
    return Group(Text(lesion_finding(found), style="bold"), Text(intact), table)


def _units(found: Lesion) -> list[RenderableType]:
    units = list(found.units)
    if len(units) > SHOWN:
        units = sorted(measured(found), key=lambda unit: -(unit.change or 0.0))[:SHOWN]
    top = max((unit.change or 0.0 for unit in units), default=0.0)
    table = _table("unit", "name", "error %", "change", "95 % interval", "")
    for unit in units:
        table.add_row(str(unit.index), unit.name, *_numbers(unit, top))
    hidden = len(found.units) - len(units)
    return [table, *([Text(f"… and {hidden} units that cost less")] if hidden else [])]


def _numbers(unit: UnitEffect, top: float) -> tuple[str, str, str, str]:
    if unit.error_percent is None or unit.change is None:
        return "–", "–", "", "changes the shape, and has no shortcut"
    bar = "▇" * round(BAR * unit.change / top) if top > 0 else ""
    note = f" {unit.not_finite} scores not finite" if unit.not_finite else ""
    interval = change_text(unit.change_low or 0.0, unit.change_high or 0.0)
    return f"{unit.error_percent:.2f}", f"{unit.change:+.2f}", interval, bar + note


def _by_k(found: Lesion) -> Table:
    table = _table("k", "draws", "error %", "± over draws", "")
    top = max(row.error_percent for row in found.by_k)
    for row in found.by_k:
        error = "" if row.standard_error is None else f"{row.standard_error:.2f}"
        bar = "▇" * round(BAR * row.error_percent / top) if top else ""
        table.add_row(str(row.k), str(row.draws), f"{row.error_percent:.2f}", error, bar)
    return table


def _pairs(found: Lesion) -> Table:
    worst = sorted(found.trials, key=lambda trial: -trial.effect.error_percent)[: SHOWN // 2]
    table = _table("units", "error %", "change", "95 % interval")
    for trial in worst:
        effect, names = trial.effect, " and ".join(str(unit) for unit in trial.units)
        interval = change_text(effect.change_low, effect.change_high)
        table.add_row(names, f"{effect.error_percent:.2f}", f"{effect.change:+.2f}", interval)
    return table


def paths_table(found: Paths) -> RenderableType:
    """Return the finding, and one row per length: paths, exact gradient, mean gradient of a sampled path."""
    sampled = {one.length: one for one in found.sampled}
    exact = dict(zip(found.lengths, found.gradient_norm or (), strict=False))
    total, whole = sum(int(count) for count in found.path_count), sum(exact.values())
    inside = set(found.effective.lengths if found.effective else ())
    table = _table("length", "paths", "of all", "gradient", "of it", "per path", "")
    for length, count in _shown(list(zip(found.lengths, found.path_count, strict=True)), sampled if not exact else {}):
        one, norm = sampled.get(length), exact.get(length)
        table.add_row(
            str(length), count_text(count), share_text(int(count) / total),
            "" if norm is None else f"{norm:.3g}", "" if norm is None or not whole else share_text(norm / whole),
            "" if one is None else _with_error(one.mean, one.standard_error),
            "│" if length in inside else "",
        )  # fmt: skip
    check = found.sum_check_relative_error
    notes = "" if check is None else f"; lengths add up to autograd's gradient within {check:.1e}"
    return Group(Text(paths_finding(found), style="bold"), Text(f"n = {found.n:,} images{notes}"), table)


def _shown(rows: list[tuple[int, str]], only: dict) -> list[tuple[int, str]]:
    """Return all rows, or those that were sampled, or as many as a terminal holds, evenly spaced."""
    chosen = [row for row in rows if row[0] in only] if only else rows
    return _thinned(chosen)


def _thinned(rows: Sequence) -> list:
    if len(rows) <= SHOWN:
        return list(rows)
    places = sorted({round(position * (len(rows) - 1) / (SHOWN - 1)) for position in range(SHOWN)})
    return [rows[place] for place in places]


def _with_error(mean: float, error: float | None) -> str:
    return f"{mean:.2g}" + ("" if error is None else f" ± {error:.1g}")


def count_text(digits: str) -> str:
    """Return a count of any size: exact up to nine digits, then with three."""
    return f"{int(digits):,}" if len(digits) <= 9 else f"{digits[0]}.{digits[1:3]}e{len(digits) - 1}"


def flow_table(found: Flow) -> RenderableType:
    """Return the finding, and one row per unit: what goes in, what its branch adds, what gradient arrives."""
    table = _table("unit", "name", "stream σ", "branch σ", "ratio", "gradient", "weights'")
    for unit in _thinned(found.units):
        numbers = (unit.stream_std, unit.branch_std, unit.ratio, unit.input_gradient, unit.weight_gradient)
        table.add_row(str(unit.index), unit.name, *("–" if one is None else f"{one:.3g}" for one in numbers))
    what = "of each mini-batch" if found.statistics == "batch" else "the running ones"
    head = f"n = {found.n:,} images, loss {found.loss:.4f}, statistics of norms: {what}"
    return Group(Text(flow_finding(found), style="bold"), Text(head), table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        left = name in ("name", "", "units")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "name", overflow="fold")
    return table
