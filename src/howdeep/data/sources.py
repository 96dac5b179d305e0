"""From a name to labelled images in up to three splits: what lies there, decoded as far as it fits in memory."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import numpy as np
import torch

from howdeep.data.decoding import (
    BadImage,
    Header,
    Survey,
    View,
    check_options,
    choose_view,
    decode,
    decoding_threads,
    quiet_pillow,
    refuse,
    render,
    spread,
    survey,
)
from howdeep.data.folder import read_folder
from howdeep.data.hub import read_hub
from howdeep.data.images import BytesImages, content_keys, digest_of
from howdeep.data.parquet import find_parquet, read_parquet
from howdeep.data.recorded import Recorded, known_splits
from howdeep.data.records import SPLIT_NAMES, Dataset, Listing, Problem, Source
from howdeep.data.splits import Decoded, Encoded, ImageSplit, three_splits
from howdeep.util.errors import UserError


@cache
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


KINDS = "DATA is digits, a folder of class folders, a Parquet file or a folder of them, or hf:owner/name"


def find_source(data: str) -> Source:
    """List what lies at the place that a user named.

    Raises:
        UserError: There is nothing of a known kind, or it has fewer than two classes.
    """
    source = _told_apart(_read(data))
    if len(source.classes) < 2:
        names = ", ".join(map(repr, source.classes))
        raise UserError(f"{data} has only one class, {names}; a classifier needs at least two")
    return source


def _told_apart(source: Source) -> Source:
    """Give every class a name of its own: counts and predictions are by name."""
    times = Counter(source.classes)
    if len(times) == len(source.classes):
        return source
    names = tuple(f"{name} (label {i})" if times[name] > 1 else name for i, name in enumerate(source.classes))
    twice = ", ".join(repr(name) for name, count in times.items() if count > 1)
    note = f"several classes are called {twice}: their labels tell them apart"
    return replace(source, classes=names, notes=(*source.notes, note))


def _read(data: str) -> Source:
    if data == "digits":
        return read_digits()
    if data.startswith("hf:"):
        return read_hub(data.removeprefix("hf:"))
    path = Path(data).expanduser()
    if not data or "\0" in data or not path.exists():
        raise UserError(f"there is no data at {data!r}; {_nearest(data)}{KINDS}")
    if path.is_dir():
        return read_parquet(path) if find_parquet(path) else read_folder(path)
    if path.suffix.lower() == ".parquet":
        return read_parquet(path)
    raise UserError(f"{data} is neither a folder nor a Parquet file; {KINDS}")


def _nearest(data: str) -> str:
    """Return the question whether a name beside the missing one was meant, or nothing."""
    missing = Path(data).expanduser()
    if not data or "\0" in data:
        return ""
    while not missing.parent.is_dir():
        missing = missing.parent
    beside = {path.name: str(path) for path in missing.parent.iterdir() if path.is_dir() or path.suffix == ".parquet"}
    known = {"digits": "digits", **beside}
    match = get_close_matches(missing.name, known, n=1, cutoff=0.5)
    return f"did you mean {known[match[0]]}? " if match else ""


MEMORY_SIDE = 64
MEMORY_BYTES = 2 * 2**30


def open_data(
    data: str | Path,
    *,
    size: int | None = None,
    resize: str = "crop",
    channels: int | None = None,
    bits: int | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    known: Recorded | None = None,
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
        size: Height and width of what the network sees; see `survey.choose_view` for the default.
        resize: What to do with images of another shape: `crop`, `pad` or `squash`.
        channels: 1 or 3; by default 1 if all images are grayscale, else 3.
        bits: How many bits the values of 16-bit grayscale images use; by default the fewest that hold them all.
        seed: Decides which images are held out.
        skip_broken: Leave out images that cannot be used, instead of stopping with their names.
        known: Images that a network was trained, validated and tested on; they keep their splits (see `recorded`).
        identify: Read the bytes of every image now, so that all digests are known.
        splits: Those that will be used. Of large images in others no header is read, where that is not needed to know
            which images these are, and no note or refusal speaks of them; damage in them shows when they are decoded.

    Raises:
        UserError: There is no such data, an option is out of range, or images cannot be used.
    """
    check_options(size, resize, channels)
    data = str(data)
    source = find_source(data)
    decided = size is not None and size > MEMORY_SIDE and channels is not None
    parts = _parts_of(source, splits) if splits is not None and decided else set(source.parts)
    surveys = _survey_digits() if data == "digits" else _survey(source, parts)
    if not skip_broken:
        refuse(data, [problem for found in surveys.values() for problem in found.problems.values()])
    headers = [header for found in surveys.values() for header in found.headers.values()]
    if not headers:
        raise UserError(f"{data} holds no usable image")
    view, notes = choose_view(headers, size=size, resize=resize, channels=channels, bits=bits)
    cuts, problems = _load_digits(view) if data == "digits" else _load(source, surveys, view)
    if not skip_broken:
        refuse(data, problems)
    return _dataset(source, view, _identified(cuts, known, identify), problems, notes, seed, known)


def _parts_of(source: Source, splits: Collection[str]) -> set[str]:
    """Return the parts that splits are, or are held out from."""
    wanted = {SPLIT_NAMES.get(name, "") for name in splits}
    return {split if split in source.parts else "train" for split in wanted} & set(source.parts) or set(source.parts)


def _survey(source: Source, parts: Collection[str]) -> dict[str, Survey]:
    return {part: survey(listing, part) for part, listing in source.parts.items() if part in parts}


@cache
def _survey_digits() -> dict[str, Survey]:
    """Read the digits' headers once in a process: a search, a demo or a notebook opens them for every network."""
    return _survey(read_digits(), ["train"])


@cache
def _load_digits(view: View) -> tuple[dict[str, ImageSplit], list[Problem]]:
    """Decode the digits once in a process, which takes as long as an epoch of a small network on a few of them."""
    return _load(read_digits(), _survey_digits(), view)


def _load(source: Source, surveys: Mapping[str, Survey], view: View) -> tuple[dict[str, ImageSplit], list[Problem]]:
    """Make a split of every part, in memory where all of them fit; return with them every image found unusable."""
    count = sum(len(found.headers) for found in surveys.values())
    fits = max(view.height, view.width) <= MEMORY_SIDE
    fits = fits and count * view.channels * view.height * view.width <= MEMORY_BYTES
    cuts: dict[str, ImageSplit] = {}
    problems: list[Problem] = []
    for part, listing in source.parts.items():
        images, names = Encoded(listing.images, view, listing.names), listing.names
        whole = ImageSplit(images, torch.arange(len(names)), listing.labels, names)
        if part not in surveys:
            cuts[part] = whole
            continue
        problems += surveys[part].problems.values()
        if fits:
            cuts[part], damaged = _decode_part(listing, surveys[part].headers, view, part)
            problems += damaged
        else:
            cuts[part] = whole.take(torch.tensor(surveys[part].good, dtype=torch.int64))
    return cuts, problems


def _identified(cuts: Mapping[str, ImageSplit], known: Recorded | None, everything: bool) -> dict[str, ImageSplit]:
    """Return parts whose digests are known as far as they are needed.

    To be compared with recorded images, a train split needs them only where others are drawn from it.
    """
    needed = set(cuts) if everything or len(cuts) < 3 else {"validation", "test"}
    if known is None and not everything:
        return dict(cuts)
    return {part: cut.identified() if part in needed else cut for part, cut in cuts.items()}


def _decode_part(
    listing: Listing, headers: Mapping[int, Header], view: View, part: str
) -> tuple[ImageSplit, list[Problem]]:
    """Decode the surveyed rows of a listing into one tensor; return with it what turned out to be damaged."""
    rows = list(headers)
    pixels = np.zeros((len(listing.names), view.channels, view.height, view.width), np.uint8)
    digests = np.zeros(len(listing.names), np.int64)

    def fill(row: int) -> BadImage | None:
        try:
            with listing.images.stream(row) as stream:
                digests[row] = digest_of(stream)
                pixels[row] = render(decode(stream, view.channels, view.bits), view)
        except BadImage as error:
            return error
        return None

    problems: dict[int, Problem] = {}
    with quiet_pillow():
        threads = decoding_threads(list(headers.values())) if rows else 1
        for row, error in zip(rows, spread(fill, rows, threads=threads), strict=True):
            if error is not None:
                problems[row] = Problem(listing.names[row], part, error.kind, error.reason)
    rows_of, read = torch.arange(len(pixels)), torch.from_numpy(digests)
    whole = ImageSplit(Decoded(torch.from_numpy(pixels)), rows_of, listing.labels, listing.names, read)
    good = torch.tensor([row for row in rows if row not in problems], dtype=torch.int64)
    return whole.take(good), list(problems.values())


def _dataset(
    source: Source,
    view: View,
    cuts: Mapping[str, ImageSplit],
    problems: Sequence[Problem],
    notes: Sequence[str],
    seed: int,
    known: Recorded | None,
) -> Dataset:
    """Cut what was loaded into three splits.

    Raises:
        UserError: A split would be empty.
    """
    keys, changes = content_keys(cuts), ()
    plan, held_out = three_splits({part: cut.labels for part, cut in cuts.items()}, keys, seed)
    if known is not None:
        plan, changes = known_splits(known, source.classes, cuts, plan, seed, keys)
    splits = {name: cuts[part].take(positions) for name, (part, positions) in plan.items()}
    unused = splits.pop("unused", None)
    for name, split in splits.items():
        if not len(split):
            raise UserError(f"{source.name}: no usable image is left for {name}")
    absent = [_absent(source.classes, name, split) for name, split in splits.items()]
    skipped = (f"skipped broken images: {len(problems)}",) if problems else ()
    return Dataset(
        name=source.name,
        classes=source.classes,
        channels=view.channels,
        bits=view.bits,
        height=view.height,
        width=view.width,
        train=splits.get("train"),
        validation=splits.get("validation"),
        test=splits.get("test"),
        notes=(*source.notes, *notes, *held_out, *changes, *filter(None, absent), *skipped),
        skipped=tuple(problems),
        unused=unused,
        changes=changes,
    )


def _absent(classes: Sequence[str], name: str, split: ImageSplit) -> str:
    """Say which classes have no image in a split, or nothing."""
    present = set(split.labels.unique().tolist())
    missing = [repr(label) for index, label in enumerate(classes) if index not in present]
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"{name}: no images of class {', '.join(missing[:3])}{more}" if missing else ""
