"""From a name to labelled images in up to three splits: what lies there, decoded as far as it fits in memory."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from howdeep.data.dataset import Dataset, Split, content_keys
from howdeep.data.folder import read_folder
from howdeep.data.hub import read_hub
from howdeep.data.images import BytesImages, Listing, Problem, Source, digest_of, refuse, visit
from howdeep.data.parquet import find_parquet, read_parquet
from howdeep.data.recorded import Recorded, recorded_splits
from howdeep.data.splits import three_splits
from howdeep.data.storage import Decoded, Encoded
from howdeep.data.view import Crop, Headers, View, check_options, choose_view, read_headers
from howdeep.util.errors import UserError
from howdeep.util.options import SPLIT_NAMES
from howdeep.util.text import first_few

KINDS = "DATA is digits, a folder of class folders, a Parquet file or a folder of them, or hf:owner/name"
MEMORY_SIDE = 64
MEMORY_BYTES = 2 * 2**30


def read_digits() -> Source:
    """Return the embedded default: 1,797 handwritten digits, 8×8 and gray; the values 0 … 16 are scaled to 0 … 255.

    They are real scans, of the test part of the UCI set "Optical Recognition of Handwritten Digits", and come with
    scikit-learn (`load_digits`), so nothing is downloaded.
    """
    from sklearn.datasets import load_digits  # costs a second, and only this source needs it

    values, targets = load_digits(return_X_y=True)
    pixels = np.rint(np.asarray(values) * (255 / 16)).astype(np.uint8)
    # A PGM file is a header before the bare bytes, so the digits take the same way as every other image.
    images = BytesImages([b"P5 8 8 255\n" + row.tobytes() for row in pixels])
    labels = torch.from_numpy(np.asarray(targets).astype(np.int64))
    names = [f"digits#{row}" for row in range(len(pixels))]
    return Source("digits", tuple("0123456789"), {"train": Listing(images, labels, names)})


def find_source(data: str) -> Source:
    """List what lies where a user said; classes that are called the same get names of their own.

    Raises:
        UserError: There is nothing of a known kind, or it has fewer than two classes.
    """
    source = _read(data)
    times = Counter(source.classes)
    if len(times) < len(source.classes):  # counts and predictions are by name
        names = tuple(f"{name} (label {i})" if times[name] > 1 else name for i, name in enumerate(source.classes))
        twice = ", ".join(repr(name) for name, count in times.items() if count > 1)
        note = f"several classes are called {twice}: their labels tell them apart"
        source = replace(source, classes=names, notes=(*source.notes, note))
    if len(source.classes) < 2:
        names = ", ".join(map(repr, source.classes))
        raise UserError(f"{data} has only one class, {names}; a classifier needs at least two")
    return source


def _read(data: str) -> Source:
    if data == "digits":
        return read_digits()
    if data.startswith("hf:"):
        return read_hub(data.removeprefix("hf:"))
    path = Path(data).expanduser()
    if not data or "\0" in data:
        raise UserError(f"there is no data at {data!r}; {KINDS}")
    if not path.exists():
        missing = path
        while not missing.parent.is_dir():
            missing = missing.parent
        beside = {one.name: str(one) for one in missing.parent.iterdir() if one.is_dir() or one.suffix == ".parquet"}
        names = {"digits": "digits", **beside}
        meant = "".join(
            f"did you mean {names[name]}? " for name in get_close_matches(missing.name, names, n=1, cutoff=0.5)
        )
        raise UserError(f"there is no data at {data!r}; {meant}{KINDS}")
    if path.is_dir():
        return read_parquet(path) if find_parquet(path) else read_folder(path)
    if path.suffix.lower() == ".parquet":
        return read_parquet(path)
    raise UserError(f"{data} is neither a folder nor a Parquet file; {KINDS}")


def open_data(
    data: str | Path,
    *,
    size: int | None = None,
    resize: str = "crop",
    channels: int | None = None,
    bits: int | None = None,
    crop: Crop | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    recorded: Recorded | None = None,
    identify: bool = False,
    splits: Collection[str] | None = None,
) -> Dataset:
    """Open labelled images as train, validation and test splits.

    Images of up to 64 pixels a side, 2 GiB in all, are decoded now and held in memory as uint8. Larger ones
    are decoded whenever they are used; of these only headers and endings are read now, and damage in the
    middle of a file shows when it is decoded.

    Where there is a train split but no validation or no test split, 10 % of train are held out for each,
    stratified by class. Where there is none, or its classes are too small for that, nothing is made up and only what
    is there can be used. An image that is equal to a training image, byte by byte, is in no other split.

    Args:
        data: `digits`, a folder of class folders (with or without split folders above them), a Parquet file
            or a folder of them, or `hf:owner/name`.
        size: Height and width of what the network sees; see `view.choose_view` for the default.
        resize: What to do with images of another shape: `crop`, `pad` or `squash`.
        channels: 1 or 3; by default 1 if all images are grayscale, else 3.
        bits: How many bits the values of 16-bit grayscale images use; by default the fewest that hold them all.
        crop: Instead of `resize="crop"`, what published weights were evaluated with.
        seed: Decides which images are held out.
        skip_broken: Leave out images that cannot be used, instead of stopping with their names.
        recorded: Images that a network was trained, validated and tested on; they keep their splits.
        identify: Read the bytes of every image now, so that all digests are known.
        splits: Those that will be used. Of large images in others no header is read, where that is not needed to know
            which images these are, and no note or refusal speaks of them; damage in them shows when they are decoded.

    Raises:
        UserError: There is no such data, an option is out of range, or images cannot be used.
    """
    check_options(size, resize, channels)
    data = str(data)
    source = find_source(data)
    sized = size is not None and size > MEMORY_SIDE and channels is not None
    needed = source.parts if splits is None or not sized else _parts_of(splits, source)
    read = {part: read_headers(source.parts[part], part) for part in needed}
    if not skip_broken:
        refuse(data, [problem for one in read.values() for problem in one.problems.values()])
    headers = [header for one in read.values() for header in one.good.values()]
    if not headers:
        raise UserError(f"{data} holds no usable image")
    view, notes = choose_view(headers, size=size, resize=resize, channels=channels, bits=bits, crop=crop)
    parts, problems = _load(source, read, view)
    if not skip_broken:
        refuse(data, problems)
    if identify or recorded is not None:
        # To be compared with recorded images, a train split needs digests only where others are drawn from it.
        compared = parts if identify or len(parts) < 3 else ("validation", "test")
        digests = {part: parts[part].digests_at(torch.arange(len(parts[part]))) for part in compared}
        parts |= {part: replace(parts[part], digests=own) for part, own in digests.items()}
    ready, held_out, changes = _splits(source, parts, recorded, seed)
    skipped = [f"skipped broken images: {len(problems)}"] if problems else []
    return Dataset(
        name=source.name,
        classes=source.classes,
        channels=view.channels,
        bits=view.bits,
        height=view.height,
        width=view.width,
        notes=(*source.notes, *notes, *held_out, *skipped),
        skipped=tuple(problems),
        changes=changes,
        train=ready.get("train"),
        validation=ready.get("validation"),
        test=ready.get("test"),
        unused=ready.get("unused"),
    )


def _parts_of(splits: Collection[str], source: Source) -> Collection[str]:
    """Return the parts that splits are, or are held out from; all parts where the source has none of them."""
    fields = [SPLIT_NAMES.get(name, "") for name in splits]
    named = {name if name in source.parts else "train" for name in fields}
    return [part for part in source.parts if part in named] or source.parts


def _load(source: Source, read: Mapping[str, Headers], view: View) -> tuple[dict[str, Split], list[Problem]]:
    """Make a split of every part, in memory where all of them fit; return with them every image found unusable."""
    count = sum(len(one.good) for one in read.values())
    fits = max(view.height, view.width) <= MEMORY_SIDE
    fits = fits and count * view.channels * view.height * view.width <= MEMORY_BYTES
    parts: dict[str, Split] = {}
    problems: list[Problem] = []
    for part, listing in source.parts.items():
        names = listing.names
        sizes = np.zeros((len(names), 2), np.int32)  # zeros where they are not known
        encoded = Encoded(listing.images, view, names, sizes)
        parts[part] = Split(encoded, torch.arange(len(names)), listing.labels, names)
        if part not in read:
            continue
        own = read[part]
        for row, header in own.good.items():
            sizes[row] = header.height, header.width
        problems += own.problems.values()
        good = list(own.good)
        if fits:
            images, digests, damaged = _decoded(listing, own, view, part)
            parts[part] = replace(parts[part], images=images, digests=digests)
            problems += damaged.values()
            good = [row for row in good if row not in damaged]
        parts[part] = parts[part].take(torch.tensor(good, dtype=torch.int64))
    return parts, problems


def _decoded(listing: Listing, headers: Headers, view: View, part: str) -> tuple[Decoded, Tensor, dict[int, Problem]]:
    """Decode the rows with good headers into one tensor; return it, all digests, and what is damaged, by row."""
    pixels = np.zeros((len(listing.names), view.channels, view.height, view.width), np.uint8)
    digests = np.zeros(len(listing.names), np.int64)

    def fill(row: int, stream: BinaryIO) -> None:
        digests[row] = digest_of(stream)
        pixels[row] = view.read(stream)

    _, damaged = visit(listing, part, list(headers.good), fill, threads=headers.threads)
    return Decoded(torch.from_numpy(pixels)), torch.from_numpy(digests), damaged


def _splits(
    source: Source, parts: Mapping[str, Split], recorded: Recorded | None, seed: int
) -> tuple[dict[str, Split], list[str], tuple[str, ...]]:
    """Cut what was loaded into train, validation, test and unused images.

    Returns:
        The splits, the notes on them, and those of the notes that say what differs from recorded images.

    Raises:
        UserError: A split would be empty.
    """
    keys, changes = content_keys(parts), ()
    plan, notes = three_splits({part: split.labels for part, split in parts.items()}, keys, seed)
    if recorded is not None:
        plan, changes = recorded_splits(recorded, source.classes, parts, plan, seed, keys)
    notes += changes
    splits = {name: parts[part].take(positions) for name, (part, positions) in plan.items()}
    for name, split in splits.items():
        if name == "unused":
            continue
        if not len(split):
            raise UserError(f"{source.name}: no usable image is left for {name}")
        present = set(split.labels.unique().tolist())
        missing = [repr(label) for index, label in enumerate(source.classes) if index not in present]
        if missing:
            notes.append(f"{name}: no images of class {first_few(missing)}")
    return splits, notes, changes
