"""What is in a data set, before anything is trained: a report on every image."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import torch

from howdeep.data.decoding import WHOLE_BITS, decode
from howdeep.data.images import Listing, Problem, digest_of, visit
from howdeep.data.sources import find_source
from howdeep.data.splits import three_splits
from howdeep.data.view import Headers, check_options, choose_view, read_headers


@dataclass(frozen=True)
class Group:
    """Images with exactly the same pixels."""

    names: tuple[str, ...]
    """Where they are."""
    splits: tuple[str, ...]
    """The split of each."""
    classes: tuple[str, ...]
    """The class of each."""


@dataclass(frozen=True)
class DataReport:
    """What `check` found; `dataclasses.asdict` makes it JSON."""

    name: str
    """What the data is called."""
    shape: tuple[int, int, int] | None
    """Channels, height and width of what the network sees; `None` where no image can be used."""
    notes: tuple[str, ...]
    """What was ignored, resized or held out."""
    counts: dict[str, dict[str, int]]
    """Usable images by split and class."""
    sizes: dict[str, int]
    """Images by `width×height`, the most frequent first."""
    modes: dict[str, int]
    """Images by Pillow's pixel format, the most frequent first."""
    problems: tuple[Problem, ...]
    """Images that cannot be used: broken, truncated, oversized, empty, …"""
    duplicates: tuple[Group, ...]
    """All groups of equal images."""
    shared: tuple[Group, ...]
    """The groups that lie in more than one split: training has seen what it is tested on."""
    conflicts: tuple[Group, ...]
    """The groups that have more than one class: at least one label is wrong."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    label: int
    digest: bytes
    """Of the pixels: the same picture in another file format is the same."""
    key: int
    """Of the encoded bytes, which decide what may lie in two splits."""


def check(data: str, *, size: int | None = None, resize: str = "crop", seed: int = 0) -> DataReport:
    """Decode every image and report on all of them; broken ones are named, not raised.

    Args:
        data: As for `open_data`.
        size: As for `open_data`.
        resize: As for `open_data`.
        seed: As for `open_data`.

    Raises:
        UserError: There is no such data, or an option is out of range.
    """
    check_options(size, resize, None)
    source = find_source(data)
    read = {part: read_headers(listing, part) for part, listing in source.parts.items()}
    headers = [header for one in read.values() for header in one.good.values()]
    view, notes = None, ()
    if headers:
        view, notes = choose_view(headers, size=size, resize=resize, channels=None)
    bits = view.bits if view else WHOLE_BITS
    examined = {part: _examine(listing, read[part], part, bits) for part, listing in source.parts.items()}
    parts = {part: entries for part, (entries, _) in examined.items()}
    # The sound images are sorted into the splits that `open_data` would make of them.
    labels = {part: torch.tensor([entry.label for entry in entries]) for part, entries in parts.items()}
    keys = {part: torch.tensor([entry.key for entry in entries]) for part, entries in parts.items()}
    plan, held_out = three_splits(labels, keys, seed)
    splits = {name: [parts[part][i] for i in positions.tolist()] for name, (part, positions) in plan.items()}
    counts = {split: Counter(entry.label for entry in entries) for split, entries in splits.items()}
    groups = _groups(parts, splits, source.classes)
    return DataReport(
        name=source.name,
        shape=(view.channels, view.height, view.width) if view else None,
        notes=(*source.notes, *notes, *held_out),
        counts={split: {name: own[i] for i, name in enumerate(source.classes)} for split, own in counts.items()},
        sizes=dict(Counter(f"{header.width}×{header.height}" for header in headers).most_common()),
        modes=dict(Counter(header.mode for header in headers).most_common()),
        problems=tuple(problem for _, problems in examined.values() for problem in problems),
        duplicates=groups,
        shared=tuple(group for group in groups if len(set(group.splits)) > 1),
        conflicts=tuple(group for group in groups if len(set(group.classes)) > 1),
    )


def _examine(listing: Listing, headers: Headers, part: str, bits: int) -> tuple[list[_Entry], list[Problem]]:
    """Decode every image of a listing whose header is good; return the sound ones, and all problems in file order."""

    def examined(row: int, stream: BinaryIO) -> _Entry:
        key, image = digest_of(stream), decode(stream, 3, bits)
        digest = hashlib.blake2b(image.tobytes(), digest_size=16, key=repr(image.size).encode()).digest()
        return _Entry(listing.names[row], int(listing.labels[row]), digest, key)

    entries, damaged = visit(listing, part, list(headers.good), examined, threads=headers.threads)
    problems = headers.problems | damaged
    return list(entries.values()), [problems[row] for row in sorted(problems)]


def _groups(
    parts: Mapping[str, Sequence[_Entry]], splits: Mapping[str, Sequence[_Entry]], classes: Sequence[str]
) -> tuple[Group, ...]:
    """Find equal images; one that is left out of its split, being a training image too, is named with that split."""
    sides = {id(entry): split for split, entries in splits.items() for entry in entries}
    by_digest: defaultdict[bytes, list[tuple[str, str, str]]] = defaultdict(list)
    for part, entries in parts.items():
        for entry in entries:
            by_digest[entry.digest].append((entry.name, sides.get(id(entry), part), classes[entry.label]))
    return tuple(Group(*zip(*members, strict=True)) for members in by_digest.values() if len(members) > 1)
