"""``howdeep fit`` against exhaustive training: is the recommended depth as good as the best one?

Every depth that took part is trained alone with the whole budget, by the same command; its test error is what the fit
could have had. ``--part cifar10`` measures what 30 minutes on a CPU bring. ``--part folder`` takes photographs as
somebody might have collected them: a folder without splits, mixed sizes and shapes, JPEG and PNG, few of them.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

from PIL import Image

from common import Row, howdeep, report, row
from howdeep.search.fit import Fit
from howdeep.util.intervals import of_share
from howdeep.util.records import from_json
from howdeep.util.text import percent_text
from subjects import CIFAR10

DIGITS_SECONDS, CIFAR10_SECONDS, FOLDER_SECONDS = 180, 1800, 300
PER_CLASS, SIDES = 300, (28, 60)
WITHIN_POINTS, CIFAR10_BAR, TIME_BAR = 0.5, 20.0, 0.1


def fitted(folder: Path, data: str, seconds: int, seed: int, *more: str) -> Fit:
    """Run the command as a user does and return its answer."""
    howdeep("fit", "--data", data, "--train-budget", f"{seconds}s", "--seed", seed, "--out", folder, *more)
    return from_json(Fit, json.loads((folder / "answer.json").read_text()))


def digits(folder: Path, seeds: int) -> None:
    """Compare fits and exhaustive training over seeds, each of which holds out other images."""
    fits = [fitted(folder / f"fit-{seed}", "digits", DIGITS_SECONDS, seed) for seed in range(seeds)]
    places = {one.costs.network: one.costs for found in fits for one in found.candidates}
    alone = {}
    for name, one in places.items():
        place = ("--depths", str(one.depth), "--widths", str(one.width))
        alone[name] = [
            fitted(folder / f"{name}-{seed}", "digits", DIGITS_SECONDS, seed, *place) for seed in range(seeds)
        ]
    errors = {name: _mean_error(found) for name, found in alone.items()}
    best = min(errors, key=lambda name: errors[name])
    mine, images = _mean_error(fits), _images(fits)
    chosen = ", ".join(found.network for found in fits)
    rows = [
        row(
            "test error of the recommended network − that of the best one",
            mine - errors[best],
            f"≤ {WITHIN_POINTS}",
            mine - errors[best] <= WITHIN_POINTS,
            unit="points",
            note=f"{percent_text(mine, images)}, n = {images}; {chosen} against {best}: {errors[best]:.2f} %",
        ),
        *_on_time(fits, DIGITS_SECONDS),
    ]
    report("fit_digits", rows, table=_table(alone, fits))


def cifar10(folder: Path) -> None:
    """Measure what a CPU finds in half an hour."""
    found = fitted(folder / "cifar10", str(CIFAR10), CIFAR10_SECONDS, 0)
    assert found.test is not None, "CIFAR-10 has a test split"
    error = found.test.error_percent
    tested = f"{percent_text(found.test.error_percent, found.test.n)}, n = {found.test.n:,}"
    note = f"{tested}; {found.network}; {found.verdict.advice}"
    rows = [row("test error on CIFAR-10", error, f"≤ {CIFAR10_BAR:g}", error <= CIFAR10_BAR, unit="%", note=note)]
    report("fit_cifar10", [*rows, *_on_time([found], CIFAR10_SECONDS)], table=_candidates(found))


def folder_of_photographs(place: Path) -> Path:
    """Write some of CIFAR-10's training images as a folder of class folders, each stretched to a size of its own."""
    from howdeep.data import open_data

    dataset, draws = open_data(str(CIFAR10)), random.Random(0)
    train = dataset.split("train")
    for number, name in enumerate(dataset.classes):
        (place / name).mkdir(parents=True)
        positions = (train.labels == number).nonzero().flatten()[:PER_CLASS]
        for position, pixels in zip(positions.tolist(), train.pixels(positions), strict=True):
            size = draws.randint(*SIDES), draws.randint(*SIDES)
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize(size, Image.Resampling.BICUBIC)
            image.save(place / name / f"{name} {position}.{draws.choice(('jpg', 'png'))}")
    (place / "read me.txt").write_text("pictures from the trip")
    return place


def folder(work: Path) -> None:
    """Measure what five minutes bring on a folder of images without splits, with a latency budget."""
    data = work / "photographs"
    found = fitted(
        work / "folder",
        str(data if data.exists() else folder_of_photographs(data)),
        FOLDER_SECONDS,
        0,
        "--latency-budget",
        "2ms",
    )
    assert found.test is not None, "a tenth is held out"
    error, chance = found.test.error_percent, 90.0
    tested = f"{percent_text(found.test.error_percent, found.test.n)}, n = {found.test.n:,}"
    note = f"{tested}; {found.network}; {found.verdict.advice}"
    rows = [
        row("test error, ten classes", error, f"< {chance:g} (chance)", error < chance, unit="%", note=note),
        row("latency", found.latency.median_ms, "≤ 2", found.latency.median_ms <= 2, unit="ms"),
        *_on_time([found], FOLDER_SECONDS),
    ]
    report("fit_folder", rows, table=_candidates(found))


def _candidates(found: Fit) -> list[dict]:
    return [
        {
            "network": one.costs.network,
            "validation error %": round(end.validation_error_percent, 2),
            "epochs": round(end.epochs, 1),
            "training s": round(end.seconds),
            "latency ms": round(one.costs.latency.median_ms, 2),
        }
        for one in found.candidates
        if (end := found.end_of(one)) is not None
    ]


def _mean_error(found: list[Fit]) -> float:
    errors = [one.test.error_percent for one in found if one.test is not None]
    return sum(errors) / len(errors)


def _images(found: list[Fit]) -> int:
    return sum(one.test.n for one in found if one.test is not None)


def _on_time(found: list[Fit], seconds: int) -> list[Row]:
    worst = max((one.spent_seconds / seconds for one in found), key=lambda share: abs(share - 1))
    return [row("time spent / training budget, the worst", worst, "0.9 … 1.1", abs(worst - 1) <= TIME_BAR)]


def _table(alone: dict[str, list[Fit]], fits: list[Fit]) -> list[dict]:
    lines = [_line(name, found) for name, found in alone.items()]
    return [*lines, _line(f"fit ({', '.join(found.network for found in fits)})", fits)]


def _line(network: str, found: list[Fit]) -> dict:
    error, images = _mean_error(found), _images(found)
    return {
        "network": network,
        "test error %": round(error, 2),
        "95 %": "{:.2f} to {:.2f}".format(*of_share(error, images)),
        "n": images,
        "epochs": round(sum(one.final.epochs for one in found) / len(found), 1),
        "latency ms": round(found[0].latency.median_ms, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("digits", "cifar10", "folder"), required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keeps the runs, so that the same command resumes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        place = options.folder or Path(fresh)
        if options.part == "digits":
            digits(place, options.seeds)
        elif options.part == "cifar10":
            cifar10(place)
        else:
            folder(place)


if __name__ == "__main__":
    main()
