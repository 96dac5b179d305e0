"""Photos on their way to a network, against torchvision: ImageFolder, DataLoader and transforms.v2 with the same crops.

Both sides load random resized crops at 224 pixels with two workers and normalise them, in turn, from the same files:
the trash photos, and some of them enlarged to 2,048 pixels, as a telephone takes them. Then: the share of waiting while
tf_efficientnet_lite0 trains from random weights, what decoding at a smaller scale does to pixels, and the start of a
run on 20,000 photos.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from common import SHARED, report, row
from howdeep.data import Normalization, augmentation_of, open_data, training_batches
from howdeep.data.augmentation import STRENGTHS
from howdeep.data.decoding import decode

SIDE, BATCH, WORKERS = 224, 32, 2
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

    def __init__(self, folder: Path) -> None:
        self.dataset = open_data(folder, size=SIDE)
        self.batches = training_batches(
            self.dataset.split("train"),
            normalization=Normalization(HALF, HALF),
            augmentation=augmentation_of(self.dataset, "light", "yes"),
            batch_size=BATCH,
            seed=0,
            start_step=0,
            stop_step=10**9,
            device="cpu",
            workers=WORKERS,
        )

    def load(self, count: int) -> None:
        """Take so many batches."""
        for batch in islice(self.batches, count):
            assert batch.images.shape[1:] == (3, SIDE, SIDE)


class Torchvision:
    """Its tutorial's loader, with the same crops."""

    def __init__(self, folder: Path) -> None:
        normalise = v2.Normalize([0.5] * 3, [0.5] * 3)
        crop = v2.RandomResizedCrop(SIDE, scale=SCALE)
        as_floats = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), normalise]
        images = ImageFolder(folder, v2.Compose([crop, v2.RandomHorizontalFlip(), *as_floats]))
        self.loader = DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
        self.batches = self._endless()

    def _endless(self) -> Iterator[torch.Tensor]:
        while True:
            for images, _ in self.loader:
                yield images

    def load(self, count: int) -> None:
        """Take so many batches."""
        for images in islice(self.batches, count):
            assert images.shape[1:] == (3, SIDE, SIDE)


def loading(name: str, folder: Path, count: int, seconds: float) -> dict:
    """Return the line of images per second, both sides in turn, so many batches each."""
    ours, theirs = Ours(folder), Torchvision(folder)
    rates: list[tuple[float, float]] = []
    epoch = -(-len(ours.dataset.split("train")) // BATCH)
    ours.load(epoch)  # the first epoch, which fills what is kept
    theirs.load(count)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rates) < 3:
        pair = []
        for side in (ours, theirs):
            started = time.perf_counter()
            side.load(count)
            pair.append(count * BATCH / (time.perf_counter() - started))
        rates.append((pair[0], pair[1]))
    value = statistics.median(ours / theirs for ours, theirs in rates)
    own, other = (statistics.median(side) for side in zip(*rates, strict=True))
    note = f"{own:.0f} against {other:.0f} images/s, medians of {len(rates)}"
    return row(f"{name}: images/s of howdeep / torchvision", value, "≥ 1.0", value >= 1.0, note=note)


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--what", nargs="+", default=["small", "large", "draft"])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        if "small" in options.what:
            rows.append(loading("photos of 256×341", write(Path(place) / "small"), 12, options.seconds))
        large = Path(place) / "large"
        if {"large", "draft"} & set(options.what):
            write(large, count=96, enlarged=8)
        if "large" in options.what:
            rows.append(loading("photos of 2,048×2,728", large, 2, options.seconds))
        if "draft" in options.what:
            rows.append(draft(large))
    report("photos", rows)


if __name__ == "__main__":
    main()
