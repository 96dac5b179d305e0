"""The contact sheet: what the network sees, one row per class."""

import io
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from howdeep.data.augmentation import Augmentation, augmentation_of, described, draw_epoch, shift_and_flip
from howdeep.data.dataset import Dataset, Split
from howdeep.data.normalization import per_channel
from howdeep.data.workers import Request, fetch
from howdeep.util.files import write_whole

MAX_ROWS = 40
MAX_COLUMNS = 12
CELL = 96
WIDTH = 1200
GAP = 6
TITLE, TEXT = 22, 16
INK, QUIET, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"


def contact_sheet(dataset: Dataset, path: Path, *, seed: int = 0) -> None:
    """Draw images of every class as the network sees them in training, and save them as PNG.

    The images are those that come first in the first epoch of this seed, after the size policy and the
    default augmentation, with the normalisation undone: what a shift uncovers is zero for the network and is
    shown as the mean colour. Without a train split they are the first of the file, as the evaluation sees
    them. Of more than 40 classes every n-th is drawn.

    Args:
        dataset: The images.
        path: The file to write.
        seed: Decides which images, and their augmentation.

    Raises:
        SaveError: It cannot be written.
    """
    picture = io.BytesIO()
    draw_sheet(dataset, seed=seed).save(picture, format="PNG")
    write_whole(path, picture.getvalue())


def draw_sheet(dataset: Dataset, *, seed: int) -> Image.Image:
    """Return the contact sheet as an image; see `contact_sheet`."""
    every = -(-len(dataset.classes) // MAX_ROWS)
    labels = range(0, len(dataset.classes), every)
    # Tiny images are enlarged by whole factors, none is reduced.
    factor = max(1, CELL // max(dataset.height, dataset.width))
    height, width = factor * dataset.height, factor * dataset.width
    columns = max(4, min(MAX_COLUMNS, WIDTH // (width + GAP)))
    font = ImageFont.load_default(TEXT)
    names = [_fit(dataset.classes[label], font) for label in labels]
    left, top = int(max(map(font.getlength, names))) + 4 * GAP, TITLE + TEXT + 5 * GAP
    size = (left + columns * (width + GAP) + GAP, top + len(labels) * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((2 * GAP, 2 * GAP), dataset.name, fill=INK, font=ImageFont.load_default(TITLE))
    pen.text((2 * GAP, TITLE + 3 * GAP), _caption(dataset, every), fill=QUIET, font=font)
    for row, images in enumerate(_samples(dataset, labels, columns, seed)):
        y = top + row * (height + GAP)
        pen.text((2 * GAP, y + height // 2), names[row], fill=INK, font=font, anchor="lm")
        for column, image in enumerate(images):
            tile = image.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (left + column * (width + GAP), y))
    return sheet


def _fit(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a name to 200 pixels."""
    shown = name
    while font.getlength(shown) > 200:
        name = name[:-1]
        shown = f"{name}..."
    return shown


def _shown(dataset: Dataset) -> tuple[str, Split, Augmentation]:
    """Return the split that is drawn, and what happens to its images."""
    if dataset.train is not None:
        return "train", dataset.train, augmentation_of(dataset)
    name = "test" if dataset.test is not None else "validation"
    return name, dataset.split(name), Augmentation()


def _caption(dataset: Dataset, every: int) -> str:
    name, split, augmentation = _shown(dataset)
    drawn = [*described(augmentation), *(["uncovered: mean colour"] if augmentation.padding else [])]
    # Pillow's built-in font has no multiplication sign and no ellipsis.
    colour = "grayscale" if dataset.channels == 1 else "colour"
    parts = [f"{name}: {len(split):,} images", f"{dataset.height} x {dataset.width} {colour}"]
    parts += [", ".join(drawn) or "no augmentation"]
    parts += [f"every {every}th of {len(dataset.classes):,} classes"] if every > 1 else []
    return "  ·  ".join(parts)


def _samples(dataset: Dataset, labels: range, columns: int, seed: int) -> list[list[Image.Image]]:
    """Return up to `columns` images of each class, in the order and augmentation of the first epoch."""
    name, split, augmentation = _shown(dataset)
    draws = draw_epoch(len(split), augmentation, seed=seed, epoch=0)
    order = draws.order if name == "train" else torch.arange(len(split))
    ordered = split.labels[order]
    # Only shifts need the mean; large images have none, and decoding thousands of them for it would take
    # minutes.
    mean = per_channel(split).mean * 255 if augmentation.padding else torch.zeros(1)
    rows = []
    for label in labels:
        positions = torch.nonzero(ordered == label).flatten()[:columns]
        chosen = draws.at(positions)
        pixels = fetch(split, Request(order[positions], augmentation, chosen))
        seen = shift_and_flip(pixels - mean, augmentation, chosen) + mean
        arrays = seen.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        rows.append([Image.fromarray(array.copy()) for array in arrays])
    return rows
