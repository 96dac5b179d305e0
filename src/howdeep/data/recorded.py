"""The images of a run: what was trained, validated and tested on, kept beside it and compared with other data.

An image is found by its bytes, wherever it lies and whatever it is called; where none has its bytes, by its name.
So that whatever is trained on is never a measure:

| image | in a train split that others are drawn from | in a validation or test split that the data names |
| --- | --- | --- |
| trained on | train | left out |
| held out | where it was | stays |
| new | train | stays |
| a copy of one that was held out | nowhere | stays |

Where none of the images that were held out is there, others are held out by seed, among those that are new.
"""

import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import torch
from torch import Tensor

from howdeep.data.dataset import Dataset, Split
from howdeep.data.splits import Plan, stratified
from howdeep.util.text import counted

SPLITS = ("train", "validation", "test", "unused", "before")
"""Where an image was: in one of the splits, in none, or among what a network was trained on before this run."""
TRAIN, VALIDATION, TEST, UNUSED, BEFORE = range(5)
"""Their positions."""
SAME, COPY, CHANGED, NEW = range(4)
"""How an image relates to the recorded ones: recorded bytes; recorded bytes, once more than they were there; a recorded
name with other bytes; neither."""
SHOWN = 6
"""Classes that are named at most."""
NOBODY = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Recorded:
    """Images with their labels and splits; none where a run knows only classes and shape, as imported weights do."""

    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    shape: tuple[int, int, int]
    """Channels, height and width of what the network sees."""
    names: Sequence[str] = ()
    """Where each image was."""
    labels: Tensor = field(default=NOBODY)
    """Class indices, int64 of shape (n,)."""
    splits: Tensor = field(default=NOBODY)
    """Positions in :data:`SPLITS`, int64 of shape (n,)."""
    digests: Tensor = field(default=NOBODY)
    """What each image is (see `dataset.Split`), int64 of shape (n,)."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that numbers depend on: classes, shape, which image with which label is where.

        Names do not count, and order within a split neither.
        """
        rows = sorted(zip(self.splits.tolist(), self.labels.tolist(), self.digests.tolist(), strict=True))
        return blake2b(repr((self.classes, self.shape, rows)).encode(), digest_size=16).hexdigest()

    def after(self, earlier: "Recorded | None") -> "Recorded":
        """Return the record of a network that was trained on these images, and before on those of another run."""
        if earlier is None:
            return self
        more = _trained(earlier.splits) & ~torch.isin(earlier.digests, self.digests[_trained(self.splits)])
        rows = torch.nonzero(more).flatten()
        return replace(
            self,
            names=[*self.names, *(earlier.names[row] for row in rows.tolist())],
            labels=torch.cat([self.labels, torch.full_like(rows, -1)]),
            splits=torch.cat([self.splits, torch.full_like(rows, BEFORE)]),
            digests=torch.cat([self.digests, earlier.digests[rows]]),
        )

    def match(self, names: Sequence[str], digests: Tensor) -> tuple[Tensor, Tensor]:
        """Find images among the recorded ones; each of these is found once, copies apart.

        Returns:
            The recorded row of every image, −1 for none, and how it relates to it; int64 of shape (n,). A new image
            has the row of another that is now elsewhere where it took its name.
        """
        rows_of: defaultdict[int, list[int]] = defaultdict(list)
        # What was trained on comes first: it is what an image must not be taken for another of.
        for row in (~_trained(self.splits)).int().argsort(stable=True).tolist():
            rows_of[int(self.digests[row])].append(row)
        free = {digest: dict.fromkeys(rows) for digest, rows in rows_of.items()}
        named = {name: row for row, name in reversed(list(enumerate(self.names)))}
        matched, kinds, asked = [-1] * len(names), [NEW] * len(names), digests.tolist()
        for at, (name, digest) in enumerate(zip(names, asked, strict=True)):
            row = named.get(name, -1)
            if row in free.get(digest, ()):
                matched[at], kinds[at] = row, SAME
                del free[digest][row]
        for at, digest in enumerate(asked):
            if matched[at] < 0 and digest in rows_of:
                matched[at], kinds[at] = next(iter(free[digest]), rows_of[digest][0]), SAME if free[digest] else COPY
                free[digest].pop(matched[at], None)
        left = {row for rows in free.values() for row in rows}
        for at, name in enumerate(names):
            if matched[at] < 0 and name in named:
                matched[at], kinds[at] = named[name], CHANGED if named[name] in left else NEW
        return torch.tensor(matched, dtype=torch.int64), torch.tensor(kinds, dtype=torch.int64)

    def to_bytes(self) -> bytes:
        """Return the record as a Parquet file: 0.6 MB for CIFAR-10."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "name": pa.array(list(self.names), pa.string()),
            "label": pa.array(self.labels.to(torch.int32).numpy()),
            "split": pa.DictionaryArray.from_arrays(pa.array(self.splits.to(torch.int8).numpy()), list(SPLITS)),
            "digest": pa.array(self.digests.numpy()),
        }
        about = json.dumps({"classes": self.classes, "shape": self.shape})
        table, file = pa.table(columns).replace_schema_metadata({"howdeep": about}), io.BytesIO()
        pq.write_table(
            table, file, compression="zstd", use_dictionary=False, column_encoding={"name": "DELTA_BYTE_ARRAY"}
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Recorded":
        """Return the record of a file.

        Raises:
            ValueError: It is none.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(io.BytesIO(content))
            about = json.loads((table.schema.metadata or {})[b"howdeep"])
            numbers = {name: number for number, name in enumerate(SPLITS)}
            return cls(
                classes=tuple(about["classes"]),
                shape=tuple(about["shape"]),
                names=table["name"].to_pylist(),
                labels=torch.tensor(table["label"].to_pylist(), dtype=torch.int64),
                splits=torch.tensor([numbers[name] for name in table["split"].to_pylist()], dtype=torch.int64),
                digests=torch.tensor(table["digest"].to_pylist(), dtype=torch.int64),
            )
        except (pa.ArrowException, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


def _trained(splits: Tensor) -> Tensor:
    """Return which images a network was trained on."""
    return torch.isin(splits, torch.tensor((TRAIN, BEFORE)))


def recorded(dataset: Dataset) -> Recorded:
    """Return the record of data; images whose bytes were not read yet are read now."""
    splits = {number: split for number, name in enumerate(SPLITS[:4]) if (split := getattr(dataset, name)) is not None}
    return Recorded(
        classes=dataset.classes,
        shape=dataset.shape,
        names=[name for split in splits.values() for name in split.names],
        labels=torch.cat([split.labels for split in splits.values()]),
        splits=torch.cat([torch.full((len(split),), number) for number, split in splits.items()]),
        digests=torch.cat([split.digests_at(torch.arange(len(split))) for split in splits.values()]),
    )


@dataclass(frozen=True)
class _Matches:
    """How the images of one part relate to the recorded ones."""

    rows: Tensor
    """Recorded rows, −1 for new images."""
    kinds: Tensor
    """One of ``SAME``, ``COPY``, ``CHANGED``, ``NEW`` each."""
    splits: Tensor
    """The splits that they were in, −1 for new images."""


def recorded_splits(
    record: Recorded,
    classes: Sequence[str],
    parts: Mapping[str, Split],
    plan: Plan,
    seed: int,
    keys: Mapping[str, Tensor],
) -> tuple[Plan, tuple[str, ...]]:
    """Plan the splits of data for a network that was trained on recorded images (see the head of this file).

    Args:
        record: Those images.
        classes: Names of the classes of the data.
        parts: The splits that the data names. Those without digests stay as they are.
        plan: How they would be cut for a network that knows none of the images.
        seed: Which images are held out where none of the recorded ones is there.
        keys: By part, numbers that are equal where images are.

    Returns:
        The plan, with ``unused`` for images that are in no split, and what differs from the record.
    """
    matches: dict[str, _Matches] = {}
    digests = {name: part.digests for name, part in parts.items() if part.digests is not None}
    if digests:  # of all parts at once, since each recorded image is found once
        names = [name for part in digests for name in parts[part].names]
        rows, kinds = record.match(names, torch.cat(list(digests.values())))
        splits = torch.cat([record.splits, torch.tensor([-1])])[rows]
        columns = (column.split([len(one) for one in digests.values()]) for column in (rows, kinds, splits))
        matches = {part: _Matches(*of_part) for part, *of_part in zip(digests, *columns, strict=True)}
    planned, notes = dict(plan), []
    for name, (part, positions) in plan.items():
        if part == name != "train" and part in matches:
            seen = _trained(matches[part].splits[positions])
            if seen.any():
                notes.append(f"{name}: {counted(int(seen.sum()), 'image')} left out, trained on")
            planned[name] = (part, positions[~seen])
    drawn = [name for name in ("validation", "test") if plan.get(name, ("train",))[0] == "train" and "train" in parts]
    if "train" in matches:
        planned |= _drawn(drawn, parts["train"].labels, keys["train"], matches["train"], seed)
    for name, (part, positions) in planned.items():
        if part in matches:  # in the order in which the images were recorded, new ones last
            rows = matches[part].rows[positions]
            order = torch.where(rows < 0, torch.iinfo(torch.int64).max, rows).argsort(stable=True)
            planned[name] = (part, positions[order])
    empty = [name for name, (_, positions) in planned.items() if not len(positions) and name != "unused"]
    notes += [f"{name}: no image is left" for name in empty]
    notes += _remarks(record, classes, parts, matches, planned, drawn)
    return {name: planned[name] for name in SPLITS if name in planned and name not in empty}, tuple(notes)


def _drawn(names: Sequence[str], labels: Tensor, keys: Tensor, matches: _Matches, seed: int) -> Plan:
    """Plan train and what is held out from it: what was, or where nothing of that is there, some that are new."""
    side, own = torch.full_like(labels, TRAIN), (matches.kinds == SAME) | (matches.kinds == CHANGED)
    numbers = {name: SPLITS.index(name) for name in names}
    for number in numbers.values():
        side[own & (matches.splits == number)] = number
    held_out = (matches.splits == VALIDATION) | (matches.splits == TEST)
    side[(own & (matches.splits == UNUSED)) | (held_out & (matches.kinds == COPY))] = UNUSED
    absent = [number for number in numbers.values() if not (side == number).any()]
    if absent:
        new = torch.nonzero(matches.rows < 0).flatten()
        for number, positions in zip(absent, stratified(labels[new], len(absent), seed, keys[new])[1:], strict=True):
            side[new[positions]] = number
    # Images that changed may have become equal to training images.
    side[(side != TRAIN) & torch.isin(keys, keys[side == TRAIN])] = UNUSED
    numbers = {"train": TRAIN, **numbers, "unused": UNUSED}
    return {name: ("train", torch.nonzero(side == number).flatten()) for name, number in numbers.items()}


def _remarks(
    record: Recorded,
    classes: Sequence[str],
    parts: Mapping[str, Split],
    matches: Mapping[str, _Matches],
    plan: Plan,
    drawn: Sequence[str],
) -> list[str]:
    """Say what is new, a copy, changed, of another class, or gone; nothing where all is new: those are other data."""
    if all((one.rows < 0).all() for one in matches.values()):
        return []
    notes = []
    for name, one in matches.items():
        part, planned = plan.get(name, ("", NOBODY))
        used = torch.arange(len(one.rows)) if name == "train" else planned if part == name else NOBODY
        images, kinds = parts[name].take(used), one.kinds[used]
        head, tail = (f"{name}: ", "") if not drawn else ("", f", in train and not in {' or '.join(drawn)}")
        for kind, what, more in ((NEW, "new", tail), (COPY, "copied from others", ""), (CHANGED, "changed", "")):
            if (kinds == kind).any():
                notes.append(f"{head}{_some(kinds == kind, what, images.names)}{more}")
        if relabelled := _relabelled(record, classes, images, one.rows[used], kinds):
            notes.append(f"{head}{relabelled}")
    matched = torch.cat([one.rows for one in matches.values()])
    for name in ("validation", "test"):
        rows = torch.nonzero(record.splits == SPLITS.index(name)).flatten()
        gone = int((~torch.isin(rows, matched)).sum())
        if gone:
            notes.append(f"{name}: {gone:,} of {counted(len(rows), 'image')} gone")
    return notes


def _some(mask: Tensor, what: str, names: Sequence[str]) -> str:
    """Return how many images are meant, and the name of the first."""
    return f"{counted(int(mask.sum()), 'image')} {what} (first {names[int(torch.nonzero(mask)[0])]})"


def _relabelled(record: Recorded, classes: Sequence[str], images: Split | Recorded, rows: Tensor, kinds: Tensor) -> str:
    """Say how many images have another class than they had, or nothing; images of before have none."""
    before = [record.classes[label] if label >= 0 else None for label in record.labels.tolist()]
    now = [classes[label] for label in images.labels.tolist()]
    was = [before[row] if kind == SAME else None for row, kind in zip(rows.tolist(), kinds.tolist(), strict=True)]
    others = [at for at, label in enumerate(now) if was[at] not in (None, label)]
    if not others:
        return ""
    first = f"first {images.names[others[0]]}: {now[others[0]]}, was {was[others[0]]}"
    return f"{counted(len(others), 'image')} of another class ({first})"


def difference(record: Recorded, own: Recorded) -> str:
    """Say in a few words what differs between recorded images and others, or nothing."""
    notes = [class_changes(record.classes, own.classes)]
    if not notes[0] and record.classes != own.classes:
        now, before = (", ".join(one.classes[:SHOWN]) for one in (own, record))
        notes.append(f"classes in another order ({now}; were {before})")
    if record.shape != own.shape:
        now, before = ("×".join(map(str, one.shape)) for one in (own, record))
        notes.append(f"images of {now} (channels, height, width), were {before}")
    if len(record):
        notes += _image_changes(record, own)
    return ", ".join(filter(None, notes))


def _image_changes(record: Recorded, own: Recorded) -> list[str]:
    """Say what is new, gone, changed, of another class or in another split."""
    rows = torch.nonzero(record.splits != BEFORE).flatten()
    record = replace(
        record,
        names=[record.names[row] for row in rows.tolist()],
        labels=record.labels[rows],
        splits=record.splits[rows],
        digests=record.digests[rows],
    )
    rows, kinds = record.match(own.names, own.digests)
    gone = torch.ones(len(record), dtype=torch.bool)
    gone[rows[(kinds == SAME) | (kinds == CHANGED)]] = False
    new = (kinds == NEW) | (kinds == COPY)
    groups = (new, "new", own.names), (gone, "gone", record.names), (kinds == CHANGED, "changed", own.names)
    notes = [_some(mask, what, names) for mask, what, names in groups if mask.any()]
    if set(record.classes) == set(own.classes):
        notes.append(_relabelled(record, own.classes, own, rows, kinds))
    moved = (kinds == SAME) & (record.splits[rows.clamp(min=0)] != own.splits)
    if moved.any():
        notes.append(f"{counted(int(moved.sum()), 'image')} in another split")
    return notes


def class_changes(before: Sequence[str], now: Sequence[str]) -> str:
    """Say which classes were added and which are gone, or nothing; their order does not matter."""
    changes = [f"class {name!r} added" for name in now if name not in before]
    changes += [f"class {name!r} gone" for name in before if name not in now]
    return ", ".join(changes[:SHOWN]) + (f", {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


def renumbered(dataset: Dataset, classes: Sequence[str], order: Sequence[int] | None = None) -> Dataset:
    """Return data whose labels count classes in another order: the same, or at given positions among more."""
    numbers = torch.tensor([classes.index(name) for name in dataset.classes] if order is None else order)
    splits = {name: split for name in SPLITS[:4] if (split := getattr(dataset, name))}
    changed = {name: replace(split, labels=numbers[split.labels]) for name, split in splits.items()}
    note = f"classes in another order than before, matched by name: {', '.join(classes[:SHOWN])}"
    if order is not None:
        note = f"classes found by name among the network's {len(classes):,}: {', '.join(dataset.classes[:SHOWN])}"
    notes, changes = (*dataset.notes, note), (*dataset.changes, note)
    return replace(dataset, classes=tuple(classes), notes=notes, changes=changes, **changed)
