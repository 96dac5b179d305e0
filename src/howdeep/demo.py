"""The story in a few minutes, on real handwritten digits: what more layers do to plain and to residual networks."""

import statistics
import textwrap
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from howdeep.analysis.lesion import Lesion, lesion
from howdeep.analysis.options import LesionOptions, PathsOptions, StudyOptions
from howdeep.analysis.paths import Paths, paths
from howdeep.analysis.study import Study, open_study
from howdeep.cutting.options import CutOptions
from howdeep.cutting.run import cut_target
from howdeep.runs.folder import as_json, open_run
from howdeep.runs.target import run_target
from howdeep.runtime.process import stopped
from howdeep.show import figures
from howdeep.show.figures.depth import DepthPoint
from howdeep.show.report.page import write_report
from howdeep.show.sentences import cut_saving, cut_text, measured, paths_finding
from howdeep.training.config import TrainConfig
from howdeep.training.loop import TrainResult, train
from howdeep.util.files import folder_locked, write_whole
from howdeep.util.intervals import of_share

DEPTHS = (20, 56, 110)
EPOCHS = 10
VERY_DEEP, VERY_DEEP_EPOCHS = 1202, 12
STOCHASTIC = "linear:0.5"
DISSECTED, KEPT = 56, 18
REPORT = "report.html"
SAMPLED_LENGTHS, SAMPLED_DRAWS, SAMPLED_IMAGES = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30), 6, 64
LABELS = {"plain": "plain", "resnet": "residual", "stochastic": "residual + stochastic depth"}


@dataclass(frozen=True)
class Row:
    """One trained network of the story."""

    depth: int
    family: str
    error_percent: float
    n: int
    train_error_percent: float
    seconds: float


def demo(out: Path, *, seed: int = 0, console: Console | None = None) -> list[Row]:
    """Train plain and residual networks of three depths and one of 1,202 layers; print a table, draw charts.

    Args:
        out: Folder for the runs, ``degradation.png``/``.svg`` and ``report.html``; what is finished there is not done
            again.
        seed: Seed of everything.
        console: Where to; None is standard output.

    Raises:
        UserError: Another process writes there.
        Stopped: A signal arrived; the same call resumes.
    """
    console = console or Console(highlight=False)
    with folder_locked(out), stopped("the same command resumes"):
        console.print("Does a deeper network do better? On real handwritten digits, 8×8 pixels:\n")
        rows = [_train(out, family, depth, seed, console) for family in ("plain", "resnet") for depth in DEPTHS]
        console.print(f"\nAnd {VERY_DEEP:,} layers? With stochastic depth, which closes a quarter of the units:")
        very_deep = TrainConfig(
            network=f"cifar_resnet{VERY_DEEP}",
            data="digits",
            epochs=VERY_DEEP_EPOCHS,
            survival=STOCHASTIC,
            seed=seed,
            keep="last",
        )
        rows.append(_row("stochastic", VERY_DEEP, train(very_deep, out / very_deep.network, console=console)))
        console.print()
        console.print(_table(rows))
        finding = _finding(rows)
        console.print(f"\n{finding}")
        points = [
            DepthPoint(LABELS[row.family], row.depth, row.error_percent, *of_share(row.error_percent, row.n))
            for row in rows
        ]
        chart = figures.by_depth(points, finding, f"with 95 % intervals (n = {rows[0].n})", "test error (%)")
        for ending in ("png", "svg"):
            figures.save(chart, out / f"degradation.{ending}")
        console.print(f"chart: {out / 'degradation.png'}")
        _dissect(out, seed, console)
        _cut(out, console)
        size, _ = write_report([out], out / REPORT)
        console.print(
            f"\nAll of it on one page: {out / REPORT} ({size / 1000:,.0f} kB, for any browser)", soft_wrap=True
        )
        console.print("\nnext:  howdeep fit --data DATA --train-budget 30m --latency-budget 2ms")
        console.print("or how much of a published network your own photos need:")
        console.print("       howdeep probe timm:tf_efficientnet_lite0 --pretrained --data PHOTOS")
    return rows


def _dissect(out: Path, seed: int, console: Console) -> None:
    """Take the trained networks apart: units out, the gradient by path length."""
    console.print(f"\nWhy? Take one unit out of the trained {DISSECTED}-layer networks, each in turn:")
    for family in ("plain", "resnet"):
        run = out / f"cifar_{family}{DISSECTED}"
        with _study(run, "lesion.json", split="val") as study:
            lesions = lesion(study.chain, study.batches, LesionOptions(seed=seed), journal=study.journal)
            _keep(study, lesions)
        changes = [unit.change or 0.0 for unit in measured(lesions)]
        console.print(
            f"  {LABELS[family]:8} {lesions.baseline.error_percent:5.1f} % at baseline,"
            f" {statistics.median(changes):+5.1f} points in the median, {max(changes):+5.1f} at worst"
        )
    figures.save(figures.lesion(lesions), out / "lesion.png")
    console.print("\nBecause a residual network is many paths, and most of its gradient takes the short ones:")
    with _study(run, "paths.json") as study:
        whole = paths(study.chain, study.batches, PathsOptions(seed=seed), journal=study.journal)
        _keep(study, whole)
    _say(console, DISSECTED, whole)
    figures.save(figures.paths(whole), out / "paths.png")
    deepest = out / f"cifar_resnet{VERY_DEEP}"
    with _study(deepest, "paths.json", limit=SAMPLED_IMAGES) as study, console.status("sampling paths"):
        few = PathsOptions(exact=False, draws=SAMPLED_DRAWS, lengths=SAMPLED_LENGTHS, seed=seed)
        sampled = paths(study.chain, study.batches, few, journal=study.journal)
        _keep(study, sampled)
    _say(console, VERY_DEEP, sampled)
    console.print(f"charts: {out / 'lesion.png'}, {out / 'paths.png'}")


def _say(console: Console, layers: int, found: Paths) -> None:
    """Print what paths of a network carry."""
    line = f"  {layers:5,} layers: {paths_finding(found)}"
    console.print(textwrap.fill(line, console.width, subsequent_indent=" " * len("  1,202 layers: ")))


def _study(run: Path, record: str, limit: int | None = None, split: str = "test") -> AbstractContextManager[Study]:
    """Return a finished run and digits, made ready for a dissection."""
    target = run_target(open_run(run), lambda line: None)
    options = StudyOptions(split=split, batch_size=200, limit=limit, device="cpu")
    return open_study(target, options, asked={}, place=run / record, report=lambda line: None)


def _keep(study: Study, record: Lesion | Paths) -> None:
    """Write a dissection into its run folder, where a report finds it."""
    assert study.journal.path is not None, "the studies of the demo have one"
    write_whole(study.journal.path, as_json(study.record(record)))
    study.journal.remove()


def _cut(out: Path, console: Console) -> None:
    """Cut the trained residual network to two thirds of its units and say what that saved."""
    console.print(f"\nSo units can go. The trained {DISSECTED}-layer residual network with {KEPT} of its 27:")
    target = run_target(open_run(out / f"cifar_resnet{DISSECTED}"), lambda _: None)
    options = CutOptions(data="digits", units=KEPT, out=out / f"cut_to_{KEPT}_units", device="cpu")
    cut, _, journal = cut_target(target, options, report=lambda _: None, console=Console(stderr=True))
    journal.remove()
    console.print(f"  {cut_text(cut)}; {cut_saving(cut)}", soft_wrap=True)


def _train(out: Path, family: str, depth: int, seed: int, console: Console) -> Row:
    name = f"cifar_{family}{depth}"
    config = TrainConfig(network=name, data="digits", epochs=EPOCHS, seed=seed, keep="last")  # equally long
    with console.status(f"training {name} for {EPOCHS} epochs"):
        row = _row(family, depth, train(config, out / name, console=Console(quiet=True)))
    console.print(
        f"  {LABELS[family]:8} {depth:3} layers   training error {row.train_error_percent:5.1f} %"
        f"   test error {row.error_percent:5.1f} %   {row.seconds:4.0f} s"
    )
    return row


def _row(family: str, depth: int, result: TrainResult) -> Row:
    assert result.test is not None, "the digits have a test split"
    last = [record for record in open_run(result.run).metrics() if record["event"] == "epoch"][-1]
    return Row(
        depth=depth,
        family=family,
        error_percent=result.test["error_percent"],
        n=result.test["n"],
        train_error_percent=last["train_error_percent"],
        seconds=result.seconds,
    )


def _table(rows: list[Row]) -> Table:
    table = Table(title=f"test error in %, with its 95 % interval (n = {rows[0].n})", title_justify="left", box=None)
    table.add_column("layers", justify="right")
    for label in LABELS.values():
        table.add_column(label, justify="right")
    errors: dict[tuple[int, str], str] = {}
    for row in rows:
        low, high = of_share(row.error_percent, row.n)
        errors[row.depth, row.family] = f"{row.error_percent:.1f} ({low:.1f} to {high:.1f})"
    for depth in (*DEPTHS, VERY_DEEP):
        table.add_row(f"{depth:,}", *(errors.get((depth, family), "–") for family in LABELS))
    return table


def _finding(rows: list[Row]) -> str:
    """Return what the numbers say, whatever they say."""
    errors = {(row.depth, row.family): row.error_percent for row in rows}
    deepest = errors[VERY_DEEP, "stochastic"]
    few, many = DEPTHS[0], DEPTHS[-1]
    plain = errors[few, "plain"], errors[many, "plain"]
    residual = errors[few, "resnet"], errors[many, "resnet"]
    return (
        f"From {few} to {many} layers: plain {plain[0]:.0f} → {plain[1]:.0f} % error,"
        f" residual {residual[0]:.0f} → {residual[1]:.0f} %;"
        f" {VERY_DEEP:,}: {deepest:.0f} %"
    )
