"""How the answer of ``howdeep fit`` moves with what training and inference may cost, on the digits and on CIFAR-10.

    howdeep fit --data DATA --train-budget MINUTESm                            # 3, 10 and 30; with --long 120 as well
    howdeep fit --data DATA --train-budget 10m --latency-budget MILLISECONDSms # three sizes

One training each, of one seed. Answers that are in the folder are not looked for again: the same command resumes, also
from those of ``bench_fit.py --part cifar10 --folder``.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import altair as alt

from common import Row, howdeep, report, row
from howdeep.search.fit import Fit
from howdeep.show.figures.drawing import GREY, RESIDUAL, Chart, data, described, heading, save
from howdeep.util.intervals import of_share
from howdeep.util.records import from_json
from subjects import CIFAR10

MINUTES, LONG, BESIDE_LATENCY = (3, 10, 30), 120, 10
MILLISECONDS = {"digits": (0.05, 0.1, 0.3), "cifar10": (0.3, 1.0, 3.0)}
DATA = {"digits": "digits", "cifar10": CIFAR10}
ABOUT = {"digits": "digits, 8×8", "cifar10": "CIFAR-10, 32×32"}
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "budgets.svg"


@dataclass(frozen=True)
class Asked:
    """What was allowed, and the answer."""

    data: str
    minutes: int
    milliseconds: float | None
    fit: Fit

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval of the test error."""
        assert self.fit.test is not None
        return of_share(self.fit.test.error_percent, self.fit.test.n)

    @property
    def shown(self) -> dict[str, object]:
        """One line of the table."""
        assert self.fit.test is not None
        low, high = self.interval
        return {
            "data": self.data,
            "training": f"{self.minutes} min",
            "ms at most": "" if self.milliseconds is None else f"{self.milliseconds:g}",
            "layers": self.fit.depth,
            "width": self.fit.width,
            "test error %": f"{self.fit.test.error_percent:.2f}",
            "95 %": f"{low:.2f} to {high:.2f}",
            "ms": f"{self.fit.latency.median_ms:.2f}",
            "epochs": f"{self.fit.final.epochs:.1f}",
            "limit": self.fit.verdict.limit,
        }


def answered(folder: Path, name: str, minutes: int, milliseconds: float | None) -> Asked:
    """Run the command as a user does and return its answer."""
    limits = [] if milliseconds is None else ["--latency-budget", f"{milliseconds}ms"]
    out = folder / "-".join([name, str(minutes), *limits[1:]])
    howdeep("fit", "--data", DATA[name], "--train-budget", f"{minutes}m", "--out", out, *limits)
    return Asked(name, minutes, milliseconds, from_json(Fit, json.loads((out / "answer.json").read_text())))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data", nargs="*", default=list(DATA))
    parser.add_argument("--long", action="store_true", help=f"{LONG} minutes of training as well")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    found: list[Asked] = []
    for name in given.data:
        asked = [(minutes, None) for minutes in (*MINUTES, *[LONG] * given.long)]
        asked += [(BESIDE_LATENCY, most) for most in MILLISECONDS[name]]
        found += [answered(given.folder, name, *one) for one in asked]
    save(chart(found), FIGURE)
    report("budgets", moved(found), table=[one.shown for one in found], figure="budgets")


def moved(found: list[Asked]) -> list[Row]:
    """Return, for every set, from which answer to which the shortest and the longest training lead."""
    rows = []
    for name in dict.fromkeys(one.data for one in found):
        free = [one for one in found if one.data == name and one.milliseconds is None]
        first, last = free[0], free[-1]
        assert first.fit.test is not None
        assert last.fit.test is not None
        what = f"{name}: test error after {last.minutes} minutes − after {first.minutes}"
        note = f"{first.fit.size} in {first.minutes} minutes, {last.fit.size} in {last.minutes}"
        change = last.fit.test.error_percent - first.fit.test.error_percent
        rows.append(row(what, change, "shown beside", True, unit="points", note=note))
    return rows


def chart(found: list[Asked]) -> Chart:
    """Return test error against training time and against the latency that is allowed; a mark tells depth × width."""
    rows = []
    for name in dict.fromkeys(one.data for one in found):
        own = [one for one in found if one.data == name]
        free = [one for one in own if one.milliseconds is None]
        limited = [one for one in own if one.milliseconds is not None]
        by_time = panel([(one.minutes, one) for one in free], f"{ABOUT[name]}: training time (min)")
        by_latency = panel([(one.milliseconds, one) for one in limited], f"{ABOUT[name]}: time of an image (ms)")
        rows.append(alt.hconcat(by_time, by_latency, spacing=24))
    marks = "test error with its 95 % interval, one training each; beside each mark layers × width"
    finding = "; ".join(f"{str(row['what']).partition(':')[0]}: {row['note']}" for row in moved(found))
    return alt.vconcat(*rows, spacing=24).properties(title=heading(finding, subtitle=marks))


def panel(answers: list[tuple[float | None, Asked]], title: str) -> alt.LayerChart:
    """Return the chart of answers that differ in one budget."""
    rows = []
    for x, one in answers:
        assert one.fit.test is not None
        low, high = one.interval
        name = f"{one.fit.depth} × {one.fit.width}"
        tell = f"{title}, {x:g}: {one.fit.size}, {one.fit.test.error_percent:.2f} % ({low:.2f} to {high:.2f})"
        rows.append({"x": x, "error": one.fit.test.error_percent, "low": low, "high": high, "name": name, "tell": tell})
    at = alt.X("x:Q", title=title, scale=alt.Scale(type="log", padding=24), axis=alt.Axis(grid=False, tickCount=4))
    y = alt.Y("error:Q", title="test error (%)", scale=alt.Scale(domainMin=0))
    base = alt.Chart(data(rows))
    spread = base.mark_rule(color=GREY).encode(x=at, y=alt.Y("low:Q"), y2="high:Q")
    dots = base.mark_point(filled=True, size=60, color=RESIDUAL).encode(x=at, y=y)
    names = base.mark_text(align="left", dx=7, dy=-7).encode(x=at, y=y, text="name:N")
    return alt.LayerChart(layer=[spread, described(dots), names]).properties(width=290, height=200)


if __name__ == "__main__":
    main()
