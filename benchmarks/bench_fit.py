"""``howdeep fit`` against exhaustive training: is the recommended network as good as the best one?

Every network that took part is trained alone with the whole budget, by the same command; its test error is what the fit
could have had. ``--part cifar10 --minutes 10`` measures what ten minutes on a CPU bring, beside every network alone;
``--minutes 30``, by default, what half an hour brings; ``bench_budgets.py`` with the same ``--folder`` has the first
seed of both among its answers. ``--part folder`` takes photographs as somebody might have
collected them: a folder without splits, mixed sizes and shapes, JPEG and PNG, few of them.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path

from PIL import Image

from common import Row, howdeep, product_rate, report, row
from howdeep.search.fit import Fit
from howdeep.util.intervals import of_share
from howdeep.util.records import from_json
from howdeep.util.text import percent_text
from subjects import CIFAR10

DIGITS_SECONDS, FOLDER_SECONDS = 180, 300
PER_CLASS, SIDES = 300, (28, 60)
WITHIN_POINTS = {"digits": 0.5, "cifar10": 1.0}
TIME_BAR = 0.1
CIFAR10_BARS = {10: 10.5, 30: 7.5}
"""Minutes → highest test error in percent."""
ALONE_MINUTES = 10
"""Those for which every network is trained alone as well."""


def fitted(folder: Path, data: str, seconds: int, seed: int, *more: str) -> Fit:
    """Run the command as a user does and return its answer."""
    howdeep("fit", "--data", data, "--train-budget", f"{seconds}s", "--seed", seed, "--out", folder, *more)
    return from_json(Fit, json.loads((folder / "answer.json").read_text()))


def digits(folder: Path, seeds: int) -> None:
    """Compare fits and exhaustive training over seeds, each of which holds out other images."""
    fits = [fitted(folder / f"fit-{seed}", "digits", DIGITS_SECONDS, seed) for seed in range(seeds)]
    alone = trained_alone(folder, "digits", DIGITS_SECONDS, fits, seeds)
    report("fit_digits", [behind("digits", fits, alone), *_on_time(fits, DIGITS_SECONDS)], table=_table(alone, fits))


def trained_alone(folder: Path, data: str, seconds: int, fits: list[Fit], seeds: int) -> dict[str, list[Fit]]:
    """Return every network that took part, trained alone with the whole budget, once per seed."""
    places = {one.costs.network: one.costs for found in fits for one in found.candidates}

    def alone(name: str, seed: int) -> Fit:
        place = ("--depths", str(places[name].depth), "--widths", str(places[name].width))
        return fitted(folder / f"{name}-{seed}", data, seconds, seed, *place)

    return {name: [alone(name, seed) for seed in range(seeds)] for name in places}


def behind(data: str, fits: list[Fit], alone: dict[str, list[Fit]]) -> Row:
    """Return how far the recommended networks are behind the one that is best alone, on the same seeds."""
    seeds, bar = len(next(iter(alone.values()))), WITHIN_POINTS[data]
    mine, errors = fits[:seeds], {name: _mean_error(found) for name, found in alone.items()}
    best = min(errors, key=lambda name: errors[name])
    change, chosen = _mean_error(mine) - errors[best], ", ".join(found.network for found in mine)
    images = _images(mine)
    said = f"{percent_text(_mean_error(mine), images)}, n = {images:,}; {chosen} against {best}: {errors[best]:.2f} %"
    what = f"test error of the recommended network − that of the best of {len(alone)}"
    return row(what, change, f"≤ {bar}", change <= bar, unit="points", note=said)


def cifar10(folder: Path, seeds: int, minutes: int) -> None:
    """Measure what a CPU finds in some minutes; in ten also beside every network alone, for the first seed."""
    seconds, bar = 60 * minutes, CIFAR10_BARS[minutes]
    places = [f"cifar10-{minutes}", *(f"cifar10-{minutes}-seed{seed}" for seed in range(1, seeds))]
    fits = [fitted(folder / place, str(CIFAR10), seconds, seed) for seed, place in enumerate(places)]
    error, images = _mean_error(fits), _images(fits)
    each = ", ".join(f"{found.network} {found.test.error_percent:.1f}" for found in fits if found.test is not None)
    product = f"product {product_rate() / 1e9:.0f} GFLOP/s in bf16"
    note = f"{percent_text(error, images)}, n = {images:,}; {each} %; {product}; {fits[0].verdict.advice}"
    rows = [row(f"{minutes} minutes: test error", error, f"≤ {bar}", error <= bar, unit="%", note=note)]
    name = f"fit_cifar10_{minutes}m"
    if minutes != ALONE_MINUTES:
        report(name, [*rows, *_on_time(fits, seconds)], table=_candidates(fits[0]))
        return
    alone = trained_alone(folder, str(CIFAR10), seconds, fits[:1], 1)
    report(name, [*rows, behind("cifar10", fits, alone), *_on_time(fits, seconds)], table=_table(alone, fits))


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
    parser.add_argument("--minutes", type=int, choices=list(CIFAR10_BARS), default=30, help="on CIFAR-10")
    parser.add_argument("--folder", type=Path, help="keeps the runs, so that the same command resumes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        place = options.folder or Path(fresh)
        if options.part == "digits":
            digits(place, options.seeds)
        elif options.part == "cifar10":
            cifar10(place, options.seeds, options.minutes)
        else:
            folder(place)


if __name__ == "__main__":
    main()
