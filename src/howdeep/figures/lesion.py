"""Charts of lesion studies: what each unit is good for, units out at random, units that change places, pairs."""

import math
import statistics

import altair as alt

from howdeep.dissect.findings import lesion_finding, measured
from howdeep.dissect.lesion import Lesion, Trial, UnitEffect
from howdeep.figures.base import GREY, INK, RESIDUAL, WIDTH, Chart, data, heading, ticks, told
from howdeep.figures.strip import MARKS, cells, cost_scale, strip_heading, unit_text
from howdeep.intervals import of_share

HEIGHT = 300
GROUPS = 9
"""Orders of similar τ are averaged in so many groups of equal size."""
WHISKERS = 100
"""Units up to which bars have their 95 % intervals."""


def lesion(found: Lesion) -> Chart:
    """Return the strip over error by unit; or error by k, by Kendall's τ, or by pair, with the intact network."""
    if found.units:
        return alt.vconcat(cells(found), _by_unit(found), spacing=16).properties(title=strip_heading(found))
    kinds = {"random": _by_k, "permute": _by_tau, "pairs": _by_pair}
    return kinds[found.kind](found).properties(title=heading(lesion_finding(found)))


def _intact(found: Lesion) -> list[alt.Chart]:
    """Return the line of the intact network, with its name."""
    error = found.baseline.error_percent
    row = data([{"error": error, "text": "intact", "tell": f"intact network: {error:.2f} % error"}])
    line = told(alt.Chart(row).mark_rule(strokeDash=[5, 4], color=GREY, strokeWidth=1.5).encode(y="error:Q"))
    text = alt.Chart(row).mark_text(align="left", dx=WIDTH + 5, color=GREY, fontSize=13)
    return [line, text.encode(y="error:Q", x=alt.value(0), text="text:N")]


def _by_unit(found: Lesion) -> alt.LayerChart:
    last = len(found.units)
    x = alt.X("unit:Q", title="unit", axis=alt.Axis(values=ticks(last), grid=False), scale=alt.Scale(
        domain=[0.5, last + 0.5], nice=False))  # fmt: skip
    without = "error without the unit (%)" if found.kind == "delete" else "error with the unit run twice (%)"
    y = alt.Y("error:Q", title=without, scale=alt.Scale(domainMin=0))
    base = alt.Chart(data([_bar(found, unit) for unit in measured(found)])).encode(x=x)
    bars = base.mark_bar(size=max(1, min(18, 0.7 * WIDTH / last)), color=RESIDUAL).encode(y=y, y2="low:Q")
    layers = [told(bars), *_intact(found)]
    if last <= WHISKERS:
        layers.insert(1, told(base.mark_rule(color=INK).encode(y="bottom:Q", y2="top:Q")))
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=HEIGHT)


def _bar(found: Lesion, unit: UnitEffect) -> dict:
    error, intact = unit.error_percent or 0.0, found.baseline
    bottom, top = of_share(error, intact.n)
    return {
        "unit": unit.index, "error": error, "low": intact.error_percent, "bottom": bottom, "top": top,
        "tell": unit_text(found, unit),
    }  # fmt: skip


def _by_k(found: Lesion) -> alt.LayerChart:
    rows = [_trial(trial) for trial in found.trials]
    intact = found.baseline.error_percent
    means = [{"k": 0, "error": intact, "tell": f"intact network: {intact:.2f} % error"}]
    means += [
        {"k": row.k, "error": row.error_percent, "tell": f"{row.k} units out: {row.error_percent:.2f} % error,"
         f" mean of {row.draws} draws"} for row in found.by_k
    ]  # fmt: skip
    x = alt.X("k:Q", title="units taken out at random", axis=alt.Axis(tickMinStep=1, grid=False))
    return _trials_and_means(found, rows, means, x)


def _by_tau(found: Lesion) -> alt.LayerChart:
    """Return the orders by their τ, and the mean error of orders of similar τ."""
    rows = [_trial(trial) for trial in found.trials if trial.kendall_tau is not None]
    rows.sort(key=lambda row: -row["tau"])
    size = math.ceil(len(rows) / GROUPS)
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]
    means = [{"tau": 1.0, "error": found.baseline.error_percent, "tell": "order as trained"}, *map(_mean, groups)]
    x = alt.X("tau:Q", title="Kendall's τ of the order of the units (1: as trained)", axis=alt.Axis(grid=False),
              scale=alt.Scale(zero=False, reverse=True))  # fmt: skip
    return _trials_and_means(found, rows, means, x)


def _mean(group: list[dict]) -> dict:
    tau, error = (statistics.fmean(row[name] for row in group) for name in ("tau", "error"))
    return {"tau": tau, "error": error, "tell": f"mean of {len(group)} orders: τ {tau:.3f}, {error:.2f} % error"}


def _trials_and_means(found: Lesion, rows: list[dict], means: list[dict], x: alt.X) -> alt.LayerChart:
    y = alt.Y("error:Q", title="error (%)", scale=alt.Scale(domainMin=0))
    points = alt.Chart(data(rows)).mark_point(color=RESIDUAL, opacity=0.4, filled=True, size=45).encode(x=x, y=y)
    base = alt.Chart(data(means)).encode(x=x, y=y)
    line = base.mark_line(color=RESIDUAL, strokeWidth=3)
    dots = base.mark_point(color=RESIDUAL, filled=True, size=55, opacity=1)
    layers = [*_intact(found), told(points), line, told(dots)]
    return alt.LayerChart(layer=layers).properties(width=WIDTH, height=HEIGHT)


def _trial(trial: Trial) -> dict:
    error = trial.effect.error_percent
    tell = f"{trial.k} units out ({', '.join(map(str, trial.units))}): {error:.2f} % error"
    if trial.kendall_tau is not None:
        tell = f"{trial.k} exchanges, τ {trial.kendall_tau:.3f}: {error:.2f} % error"
    return {"k": trial.k, "tau": trial.kendall_tau, "error": error, "tell": tell}


def _by_pair(found: Lesion) -> alt.LayerChart:
    rows = [_pair(trial) for trial in found.trials]
    ordinal = alt.Axis(labelOverlap=True, labelAngle=0)
    legend = alt.Legend(title="points of error", values=list(MARKS), format="d", gradientLength=200)
    encoded = alt.Chart(data(rows)).mark_rect().encode(
        x=alt.X("first:O", title="unit", axis=ordinal), y=alt.Y("second:O", title="and unit", axis=ordinal),
        color=alt.Color("change:Q", scale=cost_scale(), legend=legend),
    )  # fmt: skip
    return alt.LayerChart(layer=[told(encoded)]).properties(width=420, height=420)


def _pair(trial: Trial) -> dict:
    first, second = trial.units
    error, change = trial.effect.error_percent, trial.effect.change
    tell = f"units {first} and {second} out: {change:+.2f} points of error, {error:.2f} % in all"
    return {"first": first, "second": second, "change": change, "tell": tell}
