"""What a record says, in one sentence that is computed from it: for titles, terminals and reports."""

import statistics

from howdeep.analysis.lesion import Lesion, UnitEffect
from howdeep.analysis.paths import Paths
from howdeep.analysis.signals import Flow


def measured(found: Lesion) -> list[UnitEffect]:
    """Return the units for which there is a number."""
    return [unit for unit in found.units if unit.error_percent is not None]


def lesion_finding(found: Lesion) -> str:
    """Return the sentence of a lesion study."""
    if found.units:
        done = "deleting" if found.kind == "delete" else "running twice"
        changes = {unit.index: unit.change or 0.0 for unit in measured(found)}
        middle, worst = statistics.median(changes.values()), sorted(changes, key=changes.__getitem__)[-1]
        return (
            f"{done} one of {len(found.units)} units costs {_points(middle)} points of error in the median,"
            f" {_points(changes[worst])} at worst (unit {worst})"
        )
    if found.by_k:
        what = "units out" if found.kind == "random" else "exchanges"
        last = found.by_k[-1]
        return f"error grows from {found.baseline.error_percent:.1f} to {last.error_percent:.1f} % with {last.k} {what}"
    errors = [trial.effect.error_percent for trial in found.trials]
    middle = statistics.median(errors)
    return f"two units out: {middle:.1f} % error in the median of {len(errors)} pairs, {max(errors):.1f} % at worst"


def _points(change: float) -> str:
    """Return a change in points with a minus sign that is one, and no minus before zero."""
    return f"{change:z.1f}".replace("-", "−")


def paths_finding(found: Paths) -> str:
    """Return the sentence of a path study."""
    by = found.effective or found.effective_by_sample
    if by is None:
        return f"{len(found.sampled)} lengths of paths were sampled"
    lengths = f"{min(by.lengths)} to {max(by.lengths)}" if len(by.lengths) > 1 else str(min(by.lengths))
    return (
        f"95 % of the gradient takes paths through {lengths} of {found.units} branches:"
        f" {share_text(by.path_fraction)} of all paths"
    )


def flow_finding(found: Flow) -> str:
    """Return the sentence of signal and gradient."""
    first, last = found.units[0].input_gradient, found.units[-1].input_gradient
    ratios = [unit.ratio for unit in found.units if unit.ratio is not None]
    middle = f"; a branch adds {100 * statistics.median(ratios):.0f} % of its shortcut in the median" if ratios else ""
    if not last or not first:
        return f"no gradient arrives at unit {len(found.units) if not last else 1}{middle}"
    grows = first / last
    told = f"grows {grows:.3g}-fold" if grows >= 1 else f"shrinks to {share_text(grows)}"
    return f"from the last unit to the first the gradient {told}{middle}"


def share_text(share: float) -> str:
    """Return a share in percent with two significant digits, however small."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.2g} %"
