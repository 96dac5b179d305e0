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

SHOWN = 5
SHOWN_CLASSES = 24


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


def lines(report: DataReport) -> list[str]:
    """Return the report as text of at most 80 columns; long lists are cut and say by how much."""
    shape = "×".join(map(str, report.shape)) if report.shape else "nothing"
    total = sum(sum(counts.values()) for counts in report.counts.values())
    return [
        _cut(f"{report.name}: {total:,} usable images; the network sees {shape}", 80),
        *(_cut(f"  {note}", 80) for note in report.notes),
        "",
        *_table(report.counts),
        "",
        _cut(f"sizes   {_shares(report.sizes)}", 80),
        _cut(f"modes   {_shares(report.modes)}", 80),
        "",
        *_listed("broken", [f"{each.name} ({each.kind}: {each.reason})" for each in report.problems]),
        *_listed("duplicates", [_members(group, group.splits) for group in report.duplicates]),
        *_listed("shared between splits", [_members(group, group.splits) for group in report.shared]),
        *_listed("same image, other class", [_members(group, group.classes) for group in report.conflicts]),
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _table(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return one row per class with a column per split, and the totals."""
    classes = list(next(iter(counts.values())))
    width = min(40, max(len(name) for name in ("class", "all", *classes)))
    rows = [["class", *counts]]
    rows += [[name, *(f"{own[name]:,}" for own in counts.values())] for name in classes[:SHOWN_CLASSES]]
    rows += [["all", *(f"{sum(own.values()):,}" for own in counts.values())]]
    text = [f"{_cut(name, width):<{width}}" + "".join(f"{cell:>12}" for cell in cells) for name, *cells in rows]
    more = len(classes) - SHOWN_CLASSES
    return [*text[:-1], *([f"… and {more:,} more classes"] if more > 0 else []), text[-1]]


def _shares(histogram: Mapping[str, int]) -> str:
    shown = [f"{value} ({count:,})" for value, count in list(histogram.items())[:SHOWN]]
    return ", ".join(shown) + (f", and {len(histogram) - SHOWN:,} more" if len(histogram) > SHOWN else "")


def _listed(title: str, items: Sequence[str]) -> list[str]:
    """Return a heading with the count, and the first few items below it."""
    more = [f"  … and {len(items) - SHOWN:,} more"] if len(items) > SHOWN else []
    return [f"{title}: {len(items) or 'none'}", *(_cut(f"  {item}", 80) for item in items[:SHOWN]), *more]


def _members(group: Group, remarks: Sequence[str]) -> str:
    return " = ".join(f"{name} [{remark}]" for name, remark in zip(group.names, remarks, strict=True))
