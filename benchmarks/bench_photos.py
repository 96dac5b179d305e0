"""Photos on their way to a network, against torchvision: ImageFolder, DataLoader and transforms.v2 with the same crops.

Both sides load random resized crops at 224 pixels with two workers and normalise them, in turn, from the same files:
the trash photos, and some of them enlarged to 2,048 pixels, as a telephone takes them. Then: the share of waiting while
tf_efficientnet_lite0 trains from random weights, what decoding at a smaller scale does to pixels, and the start of a
run on 20,000 photos.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from rich.console import Console
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from common import SHARED, report, row
from howdeep.data import NORMALIZATIONS, Normalization, augmentation_of, open_data, training_batches
from howdeep.data.augmentation import STRENGTHS
from howdeep.data.decoding import decode
from howdeep.runtime.device import peak_bytes
from howdeep.runtime.process import StopRequest
from howdeep.runtime.ranks import Ranks
from howdeep.runtime.timing import threads_of
from howdeep.training.beginning import prepare
from howdeep.training.config import TrainConfig
from howdeep.training.images import open_training_data
from howdeep.training.log import Log
from howdeep.training.loop import _one_step, _timed
from howdeep.training.session import Place

SIDE, BATCH, WORKERS, MANY = 224, 32, 2, 20_000
READY, COUNT = 2 * WORKERS, 12
SCALE = STRENGTHS["light"].crop or (1.0, 1.0)
HALF = torch.full((3, 1, 1), 0.5)


def photos() -> Iterator[tuple[str, bytes]]:
    """Yield class and bytes of every training photo."""
    table = pq.read_table(SHARED / "data" / "trash" / "train.parquet")
    labels = table.column("label").to_pylist()
    for image, label in zip(table.column("image"), labels, strict=True):
        yield f"class{label}", image["bytes"].as_py()


def write(folder: Path, *, count: int | None = None, enlarged: int = 1) -> Path:
    """Write photos as a folder of class folders; enlarged ones are encoded again."""
    every = 1 if count is None else 1770 // count
    for number, (label, content) in enumerate(islice(photos(), 0, None, every)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        if enlarged > 1:
            image = Image.open(io.BytesIO(content))
            image = image.resize((enlarged * image.width, enlarged * image.height), Image.Resampling.BICUBIC)
            image.save(folder / label / f"{number:05}.jpg", quality=90)
        else:
            (folder / label / f"{number:05}.jpg").write_bytes(content)
    return folder


class Ours:
    """``training_batches``, as ``howdeep train`` calls it."""

    def __init__(self, folder: Path, batch: int, *, kept: bool) -> None:
        self.dataset = open_data(folder, size=SIDE)
        self.kept = kept
        self.batches = training_batches(
            self.dataset.split("train"),
            normalization=Normalization(HALF, HALF),
            augmentation=augmentation_of(self.dataset, "light", "yes"),
            batch_size=batch,
            seed=0,
            start_step=0,
            stop_step=10**9,
            device="cpu",
            workers=WORKERS,
        )

    def load(self, count: int) -> None:
        """Take so many batches; the first call starts the workers."""
        with nullcontext() if self.kept else mock.patch("howdeep.data.dataset.free_bytes", return_value=0):
            self._load(count)

    def _load(self, count: int) -> None:
        for batch in islice(self.batches, count):
            assert batch.images.shape[1:] == (3, SIDE, SIDE)


class Torchvision:
    """Its tutorial's loader, with the same crops; of one epoch without end, as ours are, so that no worker waits."""

    def __init__(self, folder: Path, batch: int) -> None:
        normalise = v2.Normalize([0.5] * 3, [0.5] * 3)
        crop = v2.RandomResizedCrop(SIDE, scale=SCALE)
        as_floats = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), normalise]
        images = ImageFolder(folder, v2.Compose([crop, v2.RandomHorizontalFlip(), *as_floats]))
        order = RandomSampler(images, replacement=True, num_samples=10**9)
        self.batches = iter(DataLoader(images, batch, sampler=order, num_workers=WORKERS))

    def load(self, count: int) -> None:
        """Take so many batches."""
        for images, _ in islice(self.batches, count):
            assert images.shape[1:] == (3, SIDE, SIDE)


def loading(name: str, folder: Path, batch: int, seconds: float, *, kept: bool) -> dict:
    """Return the line of images per second, both sides in turn, twelve batches after those that lay ready."""
    ours, theirs = Ours(folder, batch, kept=kept), Torchvision(folder, batch)
    rates: list[tuple[float, float]] = []
    if kept:
        ours.load(-(-len(ours.dataset.split("train")) // batch))  # the first epoch, which fills what is kept
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        pair = []
        for side in (ours, theirs):
            side.load(READY)
            started = time.perf_counter()
            side.load(COUNT)
            pair.append(COUNT * batch / (time.perf_counter() - started))
        rates.append((pair[0], pair[1]))
    value = statistics.median(ours / theirs for ours, theirs in rates)
    own, other = (statistics.median(side) for side in zip(*rates, strict=True))
    note = f"{own:.0f} against {other:.0f} images/s, medians of {len(rates)}"
    what = f"{name}, {'kept' if kept else 'decoded every time'}: images/s of howdeep / torchvision"
    return row(what, value, "≥ 1.0", value >= 1.0, note=note)


def draft(folder: Path) -> dict:
    """Return the line of what decoding at a smaller scale does to what the network sees."""
    differences = []
    for path in sorted(folder.glob("*/*.jpg"))[:20]:
        seen = []
        for least in (None, SIDE * SIDE / SCALE[0]):
            with path.open("rb") as stream:
                image = decode(stream, 3, least=least)
            seen.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(int))
        differences.append(np.abs(seen[0] - seen[1]).mean())
    value = statistics.fmean(differences)
    return row("draft decoding: mean difference", value, "—", True, unit="grey levels of 255")


def waiting(steps: int = 8) -> dict:
    """Return the line of waiting while lite0 trains from random weights, in the first epoch, which decodes."""
    config = TrainConfig(
        network="timm:tf_efficientnet_lite0",
        data=str(SHARED / "data" / "trash"),
        size=SIDE,
        batch_size=BATCH,
        precision="fp32",
        memory_format="channels_last",
        workers=WORKERS,
    )
    with tempfile.TemporaryDirectory() as place:
        session = prepare(config, Path(place) / "run", Place(Ranks(), torch.device("cpu"), print))
        journal = Log(session.run, Console(quiet=True), total=1, logger="none", on=True)
        batches = _timed(session.feed.training(0, session.total))
        next(batches)  # for which the workers are started
        with threads_of(session.pace.threads):
            for batch, waited in islice(batches, steps):
                _one_step(session, batch, waited, journal, StopRequest())
        batches.close()
    tally = session.position.tally
    value = 100 * tally.waiting / tally.seconds
    note = f"{BATCH * steps / tally.seconds:.0f} images/s, {session.pace.threads} threads, {steps} steps"
    return row("waiting while lite0 trains", value, "≤ 5 %", value <= 5, unit="%", note=note)


def start(folder: Path) -> None:
    """Open many photos as a run does, take its first batch, and print seconds and peak memory: of this process."""
    begun = time.perf_counter()
    config = TrainConfig(network="resnet18", data=str(folder), size=SIDE)
    dataset = open_training_data(config)
    split = dataset.split("train")
    normalization = NORMALIZATIONS["per_channel"](split)
    batches = training_batches(
        split,
        normalization=normalization,
        augmentation=augmentation_of(dataset),
        batch_size=BATCH,
        seed=0,
        start_step=0,
        stop_step=100,
        device="cpu",
        workers=WORKERS,
    )
    next(batches)
    seconds, peak = time.perf_counter() - begun, peak_bytes(torch.device("cpu"))
    print(json.dumps({"seconds": seconds, "cpu": time.process_time(), "bytes": peak}))


def starting(folder: Path) -> list[dict]:
    """Return the lines of the start on 20,000 photos, crops of the others."""
    every = list(photos())
    for number in range(MANY):
        label, content = every[number % len(every)]
        (folder / label).mkdir(parents=True, exist_ok=True)
        shift = number // len(every)
        image = Image.open(io.BytesIO(content)).crop((shift, shift, 240 + shift, 320 + shift))
        image.save(folder / label / f"{number:05}.jpg", quality=85)
    command = [sys.executable, __file__, "--start", str(folder)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    note = f"{found['cpu']:.1f} s of one core; trials of precision and threads left out"
    seconds, peak = found["seconds"], found["bytes"] / 1e9
    return [
        row(f"start on {MANY:,} photos, to the first batch", seconds, "≤ 20 s", seconds <= 20, unit="s", note=note),
        row("peak memory of the parent", peak, "≤ 1.5 GB", peak <= 1.5, unit="GB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--what", nargs="+", default=["small", "large", "draft", "waiting", "start"])
    parser.add_argument("--start", type=Path, help="measure the start on this folder, in this process, and end")
    options = parser.parse_args()
    if options.start:
        start(options.start)
        return
    rows = []
    with tempfile.TemporaryDirectory() as place:
        if "small" in options.what:
            small = write(Path(place) / "small")
            rows += [loading("256×341", small, BATCH, options.seconds, kept=kept) for kept in (True, False)]
        large = Path(place) / "large"
        if {"large", "draft"} & set(options.what):
            write(large, count=64, enlarged=8)
        if "large" in options.what:
            rows.append(loading("2,048×2,728", large, 8, options.seconds, kept=False))
        if "draft" in options.what:
            rows.append(draft(large))
        if "start" in options.what:
            rows += starting(Path(place) / "many")
    if "waiting" in options.what:
        rows.append(waiting())
    report("photos", rows)


if __name__ == "__main__":
    main()
