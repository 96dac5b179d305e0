"""Does a probe tell which depth is good once the network is fine-tuned? Both, at every depth, over seeds.

``howdeep probe`` gives the error of a linear classifier at every depth of tf_efficientnet_lite0; then, for each depth,

    howdeep cut timm:tf_efficientnet_lite0 --weights FILE --data DATA --first K --out FIRST
    howdeep train timm:tf_efficientnet_lite0 --from FIRST --data DATA --seed SEED --out TUNED

Rank correlation is Kendall's tau-b over the depths, of the probe's validation error and the mean test error of all
seeds. What is in ``reports/depths.cells.json`` is not measured again: the same command resumes.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import kendalltau

from common import REPORTS, SHARED, Row, howdeep, report, row
from howdeep.show.figures.drawing import PLAIN, RESIDUAL, Chart, data, described, heading, save
from howdeep.util.intervals import of_mean

NETWORK = "timm:tf_efficientnet_lite0"
WEIGHTS = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors"
CELLS = REPORTS / "depths.cells.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "depths.svg"
DEPTHS = range(1, 10)
SIZE, LEAST_TAU = 128, 0.6
OBJECTS = {"train": 1500, "validation": 300, "test": 1000}
"""Images of the third set, a stratified part of CIFAR-10: as few as people have."""
ABOUT = {"sign": "hand signs, 10 classes", "trash": "waste, 6 classes", "objects": "CIFAR-10, 1,500 images"}


def objects(folder: Path) -> Path:
    """Write a stratified part of CIFAR-10 and return the folder."""
    folder.mkdir()
    drawn = np.random.default_rng(0)
    for source, splits in (("train", ("train", "validation")), ("test", ("test",))):
        table = pq.read_table(SHARED / "data" / "cifar10" / f"{source}.parquet")
        labels = np.asarray(table.column("label"))
        each = [drawn.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
        taken = 0
        for split in splits:
            count = OBJECTS[split] // len(each)
            rows = np.sort(np.concatenate([one[taken : taken + count] for one in each]))
            pq.write_table(pa.Table.from_batches(table.take(rows).to_batches()), folder / f"{split}.parquet")
            taken += count
    return folder


def main() -> None:
    """Measure what is missing, then report all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="*", default=list(ABOUT))
    asked = parser.parse_args()
    cells: dict[str, Any] = json.loads(CELLS.read_text()) if CELLS.exists() else {}

    def measured(key: str, work: Callable[[], Any]) -> Any:
        if key not in cells:
            cells[key] = work()
            CELLS.write_text(json.dumps(cells) + "\n")
            print(key, cells[key] if isinstance(cells[key], float) else "", flush=True)
        return cells[key]

    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: SHARED / "data" / name for name in ("sign", "trash")}
        folders["objects"] = objects(Path(scratch) / "objects")

        def network(command: str, name: str, *options: object) -> None:
            howdeep(command, NETWORK, "--weights", WEIGHTS, "--size", SIZE, "--data", folders[name], *options)

        def probed(name: str) -> list[dict[str, float]]:
            out = Path(scratch) / f"{name}.json"
            network("probe", name, "--json", out)
            return [
                {
                    "units": one["units"],
                    "error": one["fitted"]["error_percent"],
                    "ms": one["latency"]["median_ms"],
                }
                for one in json.loads(out.read_text())["depths"]
            ]

        def first(name: str, depth: int) -> Path:
            out = Path(scratch) / f"{name}-{depth}"
            if not out.exists():
                network("cut", name, "--first", depth, "--out", out)
            return out

        def classifier(name: str, depth: int) -> float:
            return json.loads((first(name, depth) / "cut.json").read_text())["test"]["cut"]["error_percent"]

        def tuned(name: str, depth: int, seed: int) -> float:
            start = first(name, depth)
            out = start.with_name(f"{start.name}-{seed}")
            howdeep("train", NETWORK, "--from", start, "--data", folders[name], "--seed", seed, "--out", out)
            return json.loads((out / "result.json").read_text())["test"]["error_percent"]

        for name in asked.data:
            measured(f"{name} probe", partial(probed, name))
        for seed in range(asked.seeds):
            for depth in DEPTHS:
                for name in asked.data:
                    measured(f"{name} {depth} classifier", partial(classifier, name, depth))
                    measured(f"{name} {depth} {seed}", partial(tuned, name, depth, seed))
    table = [line for name in asked.data for line in depths(name, asked.seeds, cells)]
    rows = [agreement(name, table) for name in asked.data]
    save(chart(rows, table), FIGURE)
    report("depths", rows, table=[shown(line) for line in table])


def depths(name: str, seeds: int, cells: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was measured at every depth on one set of photos; errors in percent."""
    probe = cells[f"{name} probe"]
    lines = []
    for depth in DEPTHS:
        # Of two heads behind the same units, the one that the cut keeps is the better one.
        best = min((one for one in probe if one["units"] == depth), key=lambda one: one["error"])
        lines.append(
            {
                "data": name,
                "units": depth,
                "ms": best["ms"],
                "probe": best["error"],
                "classifier": cells[f"{name} {depth} classifier"],
                "tuned": [cells[f"{name} {depth} {seed}"] for seed in range(seeds)],
                "whole": [cells[f"{name} {max(DEPTHS)} {seed}"] for seed in range(seeds)],
            }
        )
    return lines


def agreement(name: str, table: list[dict[str, Any]]) -> Row:
    """Return how the probe's order of depths and that of the fine-tuned networks agree."""
    lines = [line for line in table if line["data"] == name]
    probe, tuned = [line["probe"] for line in lines], [line["tuned"] for line in lines]
    tau = rank_correlation(probe, [statistics.fmean(one) for one in tuned])
    alone = [rank_correlation(probe, one) for one in zip(*tuned, strict=True)]
    said = f"{len(lines)} depths, {SIZE} pixels; of single seeds {min(alone):.2f} to {max(alone):.2f}"
    return row(f"{name}: Kendall's tau", tau, f"≥ {LEAST_TAU}", tau >= LEAST_TAU, note=said)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Kendall's tau-b."""
    return float(kendalltau(one, other)[0])  # type: ignore[arg-type]


def shown(line: dict[str, Any]) -> dict[str, object]:
    """Return one line of the table as it is printed."""
    return {
        "data": line["data"],
        "units": line["units"],
        "ms": f"{line['ms']:.2f}",
        "probe, val. error %": f"{line['probe']:.1f}",
        "classifier, test error %": f"{line['classifier']:.1f}",
        "fine-tuned, test error %": f"{statistics.fmean(line['tuned']):.1f}",
        "seeds": ", ".join(f"{one:.1f}" for one in line["tuned"]),
        "over the whole network's": over_whole(line),
    }


def over_whole(line: dict[str, Any]) -> str:
    """Return the difference to the whole network, fine-tuned with the same seeds, with Student's 95 % interval."""
    changes = [error - whole for error, whole in zip(line["tuned"], line["whole"], strict=True)]
    if line["units"] == max(DEPTHS) or len(changes) < 2:
        return "–"
    low, high = of_mean(changes)
    return f"{statistics.fmean(changes):+.1f} ({low:+.1f} … {high:+.1f})"


def chart(rows: list[Row], table: list[dict[str, Any]]) -> Chart:
    """Return test errors against depth, of classifiers alone and of all seeds after fine-tuning, a panel per set."""
    panels = [panel(name, [line for line in table if line["data"] == name]) for name in ABOUT]
    taus = ", ".join(f"{line['value']:.2f}" for line in rows)
    finding = f"Depths before and after fine-tuning are ordered alike: Kendall's tau {taus}"
    if not all(line["met"] for line in rows):
        finding = f"Depths before and after fine-tuning: Kendall's tau of their orders {taus}"
    marks = f"tf_efficientnet_lite0 as published, {SIZE} pixels; a dot per seed, lines through the means"
    return alt.hconcat(*(one for one in panels if one), spacing=18).properties(title=heading(finding, subtitle=marks))


def panel(name: str, lines: list[dict[str, Any]]) -> alt.LayerChart | None:
    """Return the chart of one set of photos; None where it was not measured."""
    if not lines:
        return None
    seeds, means = [], []
    for line in lines:
        for side, errors in (("classifier alone", [line["classifier"]]), ("fine-tuned", line["tuned"])):
            where = {"units": line["units"], "side": side}
            means.append({**where, "error": statistics.fmean(errors)})
            tell = f"{line['units']} units, {side}"
            seeds += [{**where, "error": error, "tell": f"{tell}: {error:.1f} %"} for error in errors]
    scale = alt.Scale(domain=["classifier alone", "fine-tuned"], range=[RESIDUAL, PLAIN])
    colour = alt.Color("side:N", scale=scale, legend=None)
    x = alt.X("units:Q", title="units that are kept", axis=alt.Axis(format="d", grid=False, tickMinStep=1))
    y = alt.Y("error:Q", title="test error (%)", scale=alt.Scale(domainMin=0))
    line = alt.Chart(data(means)).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    dots = alt.Chart(data(seeds)).mark_point(filled=True, size=35, opacity=0.8).encode(x=x, y=y, color=colour)
    ends = alt.Chart(data([one for one in means if one["units"] == max(DEPTHS)]))
    names = ends.mark_text(align="right", dx=4, dy=-20, fontSize=12).encode(x=x, y=y, color=colour, text="side:N")
    return alt.LayerChart(layer=[line, described(dots), names]).properties(width=190, height=240, title=ABOUT[name])


if __name__ == "__main__":
    main()
