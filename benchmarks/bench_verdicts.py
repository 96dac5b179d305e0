"""Do the verdicts of ``howdeep fit`` come true? Each is followed for real, on the test images, paired.

For every setting of data and minutes the command is asked, and then, as the only candidate of a fit of its own:

    time      the chosen network, for three times as long
    deeper    the next deeper network of its family, with the same time; likewise wider
    cheaper   the cheapest that it could not be told from, where it costs less, with the same time

A verdict comes true where

    train     three times the time has fewer errors, beyond chance
    data, nothing     neither more time nor more size has fewer errors that are beyond chance and worth a word
    ladder    a larger network has fewer errors, beyond chance
    alike     the cheaper network cannot be told from the chosen one, or is better

and it does not where the measured change says the opposite; else nobody can tell (an interval that holds both).
``unknown`` says that the evidence is missing: it is counted apart. What is in ``reports/verdicts.cells.json`` is not
measured again: the same command resumes.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common import REPORTS, SHARED, Row, howdeep, report, row
from howdeep.analysis.evaluation import add_up
from howdeep.analysis.study import SplitBatches
from howdeep.runs.folder import open_run
from howdeep.runs.prepared import Prepared
from howdeep.runtime.precision import FP32
from howdeep.search.answer import MORE_TIME, WORTH_POINTS, WORTH_SHARE
from howdeep.search.families import WIDTHS, usual_depths
from howdeep.search.fit import Fit
from howdeep.util.intervals import of_change
from howdeep.util.records import from_json
from subjects import CIFAR10

CELLS = REPORTS / "verdicts.cells.json"
TRASH = SHARED / "data" / "trash"
SHARE_TRUE, FEWEST = 11 / 12, 12
SEED = 0


@dataclass(frozen=True)
class Setting:
    """Data as a command reads them, and how long it may take."""

    name: str
    data: str | Path
    minutes: float
    more: tuple[str, ...] = ()

    def fitted(self, folder: Path, minutes: float, *place: str) -> Fit:
        """Run the command as a user does and return its answer."""
        given = ("--data", self.data, "--seed", SEED, "--train-budget", f"{60 * minutes:g}s", *self.more, *place)
        howdeep("fit", *given, "--out", folder)
        return from_json(Fit, json.loads((folder / "answer.json").read_text()))

    def alone(self, folder: Path, minutes: float, family: str, depth: int, width: int) -> Fit:
        """Return the same with one network to choose from."""
        return self.fitted(folder, minutes, "--families", family, "--depths", str(depth), "--widths", str(width))

    def wrong(self, found: Fit) -> Tensor:
        """Return which test images the network of an answer gets wrong."""
        run = open_run(found.run)
        dataset = Prepared.of_run(run).open(str(self.data), seed=SEED, skip_broken=False, known=run.images())
        assert run.normalization is not None
        batches = SplitBatches(dataset.split("test"), run.normalization, 100, torch.device("cpu"))
        which = add_up(run.chain(print), batches, autocast=FP32.autocast(torch.device("cpu"))).which
        assert which is not None
        return which


SETTINGS = [
    *(Setting(f"digits, {minutes} min", "digits", minutes) for minutes in (1, 2, 3)),
    *(Setting(f"CIFAR-10, {minutes} min", CIFAR10, minutes) for minutes in (5, 10)),
    *(
        Setting(f"{count:,} of CIFAR-10, {minutes} min", CIFAR10, minutes, ("--limit", str(count)))
        for count, minutes in ((1000, 1), (1000, 2), (5000, 1), (5000, 3), (20_000, 2), (20_000, 4))
    ),
    *(Setting(f"trash, 32 pixels, {minutes} min", TRASH, minutes, ("--size", "32")) for minutes in (1, 2, 4)),
]


def followed(setting: Setting, folder: Path) -> dict:
    """Return what was said of a setting, and what came of it."""
    found = setting.fitted(folder / "asked", setting.minutes)
    before, said, changes = setting.wrong(found), found.verdict, {}

    def changed(name: str, minutes: float, depth: int, width: int) -> dict:
        other = setting.alone(folder / name, minutes, found.family, depth, width)
        after = setting.wrong(other)
        newly, right = int((after & ~before).sum()), int((before & ~after).sum())
        low, high = of_change(newly, right, len(before))
        return {"network": other.network, "change": 100 * (newly - right) / len(before), "low": low, "high": high}

    if said.limit != "unknown":
        changes["time"] = changed("time", MORE_TIME * setting.minutes, found.depth, found.width)
    if said.limit in ("nothing", "data", "ladder"):
        deeper = [depth for depth in usual_depths(found.family, large=False) if depth > found.depth]
        wider = [width for width in WIDTHS if width > found.width]
        if deeper:
            changes["deeper"] = changed("deeper", setting.minutes, deeper[0], found.width)
        if wider:
            changes["wider"] = changed("wider", setting.minutes, found.depth, wider[0])
    named = (found.network, *said.alike)
    costs = [one.costs for one in found.candidates if one.costs.network in named]
    cheapest = min(costs, key=lambda one: one.seconds_per_step)
    if cheapest.network != found.network:
        changes["cheaper"] = changed("cheaper", setting.minutes, cheapest.depth, cheapest.width)
    return {
        "network": found.network,
        "error": 100 * float(before.double().mean()),
        "images": len(before),
        "limit": said.limit,
        "advice": said.advice,
        "alike": said.alike,
        "changes": changes,
    }


def came_true(cell: dict) -> dict[str, str]:
    """Return for each thing that was said whether it came true: yes, no, or open where nobody can tell."""
    changes, limit, outcomes = cell["changes"], cell["limit"], {}
    worth = max(WORTH_POINTS, WORTH_SHARE * cell["error"])
    larger = [changes[name] for name in ("deeper", "wider") if name in changes]
    if limit == "train":
        time = changes["time"]
        outcomes["train"] = "yes" if time["high"] < 0 else "no" if time["change"] >= 0 else "open"
    elif limit in ("nothing", "data"):
        better = [one for one in (changes["time"], *larger) if one["high"] < 0 and -one["change"] > worth]
        outcomes[limit] = "no" if better else "yes"
    elif limit == "ladder":
        better = [one["high"] < 0 for one in larger]
        outcomes[limit] = "yes" if any(better) else "open" if any(one["low"] <= 0 for one in larger) else "no"
    if "cheaper" in changes:
        outcomes["alike"] = "yes" if changes["cheaper"]["low"] <= 0 else "no"
    return outcomes


def shown(name: str, cell: dict) -> dict[str, object]:
    """Return one line of the table."""
    outcomes = came_true(cell)
    said = "; ".join(
        f"{what} {one['network']}: {one['change']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})"
        for what, one in cell["changes"].items()
    )
    return {
        "setting": name,
        "take": cell["network"],
        "error %": f"{cell['error']:.1f}",
        "n": cell["images"],
        "limit": cell["limit"],
        "followed: change in points, 95 %": said or "–",
        "came true": "; ".join(f"{what}: {outcome}" for what, outcome in outcomes.items()) or "nothing was said",
    }


def counted(cells: Sequence[dict]) -> list[Row]:
    """Return how many verdicts came true."""
    outcomes = [outcome for cell in cells for outcome in came_true(cell).values()]
    true, said = outcomes.count("yes"), len(outcomes)
    note = f"{outcomes.count('no')} did not, {outcomes.count('open')} nobody can tell"
    note += f"; of {len(cells)} settings {sum(cell['limit'] == 'unknown' for cell in cells)} cannot say"
    enough = said >= FEWEST and true >= SHARE_TRUE * said
    return [row(f"verdicts that came true, of {said}", true, "≥ 11 of 12, 12 at least", enough, note=note)]


def main() -> None:
    """Follow what was not followed yet, then report all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", nargs="*", help="parts of names; all without it")
    asked = parser.parse_args().settings
    cells: dict[str, dict] = json.loads(CELLS.read_text()) if CELLS.exists() else {}
    for setting in SETTINGS:
        if setting.name in cells or (asked and not any(part in setting.name for part in asked)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            cells[setting.name] = followed(setting, Path(folder))
        CELLS.write_text(json.dumps(cells) + "\n")
        print(shown(setting.name, cells[setting.name]), flush=True)
    table = [shown(setting.name, cells[setting.name]) for setting in SETTINGS if setting.name in cells]
    report("verdicts", counted([cells[line["setting"]] for line in table]), table=table)  # type: ignore[index]


if __name__ == "__main__":
    main()
