"""The images of a run: what was trained, validated and tested on, kept beside it and compared with other data.

An image is known by its bytes, wherever it lies and whatever it is called; where its bytes are not known, by its name.
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

from howdeep.data.records import Dataset
from howdeep.data.splits import ImageSplit, Plan, counted, stratified

SPLITS = ("train", "validation", "test", "unused", "before")
"""Where an image was: in one of the splits, in none, or among what a network was trained on before this run."""
TRAINED = (SPLITS.index("train"), SPLITS.index("before"))
SAME, COPY, CHANGED, NEW = range(4)
"""How an image relates to the recorded ones: known bytes; known bytes, once more than they were there; a known name
with other bytes; neither."""
SHOWN = 6
"""Classes that are named at most."""
NOBODY = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Recorded:
    """Images with their labels and splits; without any, those of a run that is older than such records."""

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
    """What each image is (see `identity`), int64 of shape (n,)."""

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
        trained = torch.isin(earlier.splits, torch.tensor(TRAINED)) & ~torch.isin(earlier.digests, self._trained())
        rows = torch.nonzero(trained).flatten()
        return replace(
            self,
            names=[*self.names, *(earlier.names[row] for row in rows.tolist())],
            labels=torch.cat([self.labels, torch.full_like(rows, -1)]),
            splits=torch.cat([self.splits, torch.full_like(rows, SPLITS.index("before"))]),
            digests=torch.cat([self.digests, earlier.digests[rows]]),
        )

    def _trained(self) -> Tensor:
        return self.digests[torch.isin(self.splits, torch.tensor(TRAINED))]

    def match(self, names: Sequence[str], digests: Tensor) -> tuple[Tensor, Tensor]:
        """Find images among the recorded ones; each of these is found once, copies apart.

        Returns:
            The recorded row of every image, −1 for none, and how it relates to it; int64 of shape (n,). A new image
            has the row of another that is now elsewhere where it took its name.
        """
        there: defaultdict[int, list[int]] = defaultdict(list)
        # What was trained on comes first: it is what an image must not be taken for another of.
        for row in sorted(range(len(self)), key=lambda row: int(self.splits[row]) not in TRAINED):
            there[int(self.digests[row])].append(row)
        free = {digest: dict.fromkeys(rows) for digest, rows in there.items()}
        named = {name: row for row, name in reversed(list(enumerate(self.names)))}
        found, kinds, asked = [-1] * len(names), [NEW] * len(names), digests.tolist()
        for at, (name, digest) in enumerate(zip(names, asked, strict=True)):
            row = named.get(name, -1)
            if row in free.get(digest, ()):
                found[at], kinds[at] = row, SAME
                del free[digest][row]
        for at, digest in enumerate(asked):
            if found[at] < 0 and digest in there:
                found[at], kinds[at] = next(iter(free[digest]), there[digest][0]), SAME if free[digest] else COPY
                free[digest].pop(found[at], None)
        left = {row for rows in free.values() for row in rows}
        for at, name in enumerate(names):
            if found[at] < 0 and name in named:
                found[at], kinds[at] = named[name], CHANGED if named[name] in left else NEW
        return torch.tensor(found, dtype=torch.int64), torch.tensor(kinds, dtype=torch.int64)

    def to_bytes(self) -> bytes:
        """Return the record as a Parquet file: 0.6 MB for CIFAR-10."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        splits = pa.DictionaryArray.from_arrays(pa.array(self.splits.to(torch.int8).numpy()), list(SPLITS))
        columns = {
            "name": pa.array(list(self.names), pa.string()), "label": pa.array(self.labels.to(torch.int32).numpy()),
            "split": splits, "digest": pa.array(self.digests.numpy()),
        }  # fmt: skip
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
            where = {name: number for number, name in enumerate(SPLITS)}
            return cls(
                classes=tuple(about["classes"]), shape=tuple(about["shape"]), names=table["name"].to_pylist(),
                labels=torch.tensor(table["label"].to_pylist(), dtype=torch.int64),
                splits=torch.tensor([where[name] for name in table["split"].to_pylist()], dtype=torch.int64),
                digests=torch.tensor(table["digest"].to_pylist(), dtype=torch.int64),
            )  # fmt: skip
        except (pa.ArrowException, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


def recorded(dataset: Dataset) -> Recorded:
    """Return the record of data; images whose bytes were not read yet are read now."""
    found = [(number, getattr(dataset, name)) for number, name in enumerate(SPLITS[:4])]
    splits = [(number, split) for number, split in found if split is not None]
    return Recorded(
        classes=dataset.classes,
        shape=(dataset.channels, dataset.height, dataset.width),
        names=[name for _, split in splits for name in split.names],
        labels=torch.cat([split.labels for _, split in splits]),
        splits=torch.cat([torch.full((len(split),), number) for number, split in splits]),
        digests=torch.cat([split.digests_at(torch.arange(len(split))) for _, split in splits]),
    )


def known_splits(
    known: Recorded, classes: Sequence[str], parts: Mapping[str, ImageSplit], plan: Plan, seed: int,
    keys: Mapping[str, Tensor],
) -> tuple[Plan, tuple[str, ...]]:  # fmt: skip
    """Plan the splits of data for a network that was trained on recorded images (see the head of this file).

    Args:
        known: Those images.
        classes: Names of the classes of the data.
        parts: The splits that the data names. Those without digests stay as they are.
        plan: How they would be cut for a network that knows none of the images.
        seed: Which images are held out where none of the recorded ones is there.
        keys: By part, numbers that are equal where images are.

    Returns:
        The plan, with ``unused`` for images that are in no split, and what differs from the record.
    """
    found = _found(known, parts)
    planned: dict[str, tuple[str, Tensor]] = {}
    notes: list[str] = []
    for name, (part, positions) in plan.items():
        if part != name or part == "train" or part not in found:
            continue
        seen = torch.isin(found[part].splits[positions], torch.tensor(TRAINED))
        if seen.any():
            notes.append(f"{name}: {counted(int(seen.sum()), 'image')} left out, trained on")
        planned[name] = (part, positions[~seen])
    drawn = [name for name in ("validation", "test") if plan.get(name, ("train",))[0] == "train" and "train" in parts]
    if "train" in found:
        planned |= _drawn(drawn, parts["train"].labels, keys["train"], found["train"], seed)
    planned = {**plan, **planned}
    ordered = {name: (part, _in_order(at, found.get(part))) for name, (part, at) in planned.items()}
    empty = [name for name, (_, positions) in ordered.items() if not len(positions) and name != "unused"]
    notes += [f"{name}: no image is left" for name in empty]
    notes += _remarks(known, classes, parts, found, planned, drawn)
    return {name: ordered[name] for name in SPLITS if name in ordered and name not in empty}, tuple(notes)


@dataclass(frozen=True)
class _Found:
    """How the images of a part relate to the recorded ones."""

    rows: Tensor
    """Recorded rows, −1 for new images."""
    kinds: Tensor
    """One of ``SAME``, ``COPY``, ``CHANGED``, ``NEW`` each."""
    splits: Tensor
    """Where they were, −1 for new images."""


def _found(known: Recorded, parts: Mapping[str, ImageSplit]) -> dict[str, _Found]:
    """Find the images of all parts whose bytes were read; all at once, since each recorded one is found once."""
    read = {name: part.digests for name, part in parts.items() if part.digests is not None}
    if not read:
        return {}
    rows, kinds = known.match([name for part in read for name in parts[part].names], torch.cat(list(read.values())))
    where = torch.cat([known.splits, torch.tensor([-1])])[rows]
    counts = [len(digests) for digests in read.values()]
    columns = (column.split(counts) for column in (rows, kinds, where))
    return {name: _Found(*found) for name, *found in zip(read, *columns, strict=True)}


def _drawn(names: Sequence[str], labels: Tensor, keys: Tensor, found: _Found, seed: int) -> Plan:
    """Plan train and what is held out from it: what was, or where nothing of that is there, some that are new."""
    side, own = torch.full_like(labels, SPLITS.index("train")), (found.kinds == SAME) | (found.kinds == CHANGED)
    for name in names:
        side[own & (found.splits == SPLITS.index(name))] = SPLITS.index(name)
    held_out = torch.isin(found.splits, torch.tensor([SPLITS.index(name) for name in ("validation", "test")]))
    nowhere = (own & (found.splits == SPLITS.index("unused"))) | (held_out & (found.kinds == COPY))
    side[nowhere] = SPLITS.index("unused")
    absent = [name for name in names if not (side == SPLITS.index(name)).any()]
    if absent:
        new = torch.nonzero(found.rows < 0).flatten()
        for name, positions in zip(absent, stratified(labels[new], len(absent), seed, keys[new])[1:], strict=True):
            side[new[positions]] = SPLITS.index(name)
    # Images that changed may have become equal to training images.
    trained = side == SPLITS.index("train")
    side[~trained & torch.isin(keys, keys[trained])] = SPLITS.index("unused")
    return {
        name: ("train", torch.nonzero(side == SPLITS.index(name)).flatten()) for name in ("train", *names, "unused")
    }


def _in_order(positions: Tensor, found: _Found | None) -> Tensor:
    """Return positions in the order in which the images were recorded, new ones last."""
    if found is None:
        return positions
    rows = found.rows[positions]
    return positions[torch.where(rows < 0, torch.iinfo(torch.int64).max, rows).argsort(stable=True)]


def _remarks(
    known: Recorded, classes: Sequence[str], parts: Mapping[str, ImageSplit], found: Mapping[str, _Found], plan: Plan,
    drawn: Sequence[str],
) -> list[str]:  # fmt: skip
    """Say what is new, a copy, changed, of another class, or gone; nothing where all is new: those are other data."""
    if all((one.rows < 0).all() for one in found.values()):
        return []
    notes = []
    for name, one in found.items():
        part, here = plan.get(name, ("", NOBODY))
        here = torch.arange(len(one.rows)) if name == "train" else here if part == name else NOBODY
        labels, kinds = parts[name].labels[here], one.kinds[here]
        names = [str(parts[name].names[at]) for at in here.tolist()]
        where, there = (f"{name}: ", "") if not drawn else ("", f", in train and not in {' or '.join(drawn)}")
        for kind, what, more in ((NEW, "new", there), (COPY, "copied from others", ""), (CHANGED, "changed", "")):
            if (kinds == kind).any():
                notes.append(f"{where}{_some(kinds == kind, what, names)}{more}")
        if moved := _relabelled(known, classes, names, labels, one.rows[here], kinds):
            notes.append(f"{where}{moved}")
    matched = torch.cat([one.rows for one in found.values()])
    for name in ("validation", "test"):
        mine = torch.nonzero(known.splits == SPLITS.index(name)).flatten()
        gone = int((~torch.isin(mine, matched)).sum())
        if gone:
            notes.append(f"{name}: {gone:,} of {counted(len(mine), 'image')} gone")
    return notes


def _some(mask: Tensor, what: str, names: Sequence[str]) -> str:
    """Return how many images are meant, and the name of the first."""
    return f"{counted(int(mask.sum()), 'image')} {what} (first {names[int(torch.nonzero(mask)[0])]})"


def _relabelled(
    known: Recorded, classes: Sequence[str], names: Sequence[str], labels: Tensor, rows: Tensor, kinds: Tensor
) -> str:
    """Say how many images have another class than they had, or nothing; images of before have none."""
    before = [known.classes[label] if label >= 0 else None for label in known.labels.tolist()]
    other = [
        at
        for at, (row, kind, label) in enumerate(zip(rows.tolist(), kinds.tolist(), labels.tolist(), strict=True))
        if kind == SAME and before[row] not in (None, classes[label])
    ]
    if not other:
        return ""
    first, label = names[other[0]], classes[int(labels[other[0]])]
    return (
        f"{counted(len(other), 'image')} of another class (first {first}: {label}, was {before[int(rows[other[0]])]})"
    )


def difference(known: Recorded, own: Recorded) -> str:
    """Say in a few words what differs between recorded images and others, or nothing."""
    said = [_classes(known.classes, own.classes), _shape(known.shape, own.shape), *_images(known, own)]
    return ", ".join(filter(None, said))


def class_changes(before: Sequence[str], now: Sequence[str]) -> str:
    """Say which classes were added and which are gone, or nothing; their order does not matter."""
    said = [f"class {name!r} added" for name in now if name not in before]
    said += [f"class {name!r} gone" for name in before if name not in now]
    return ", ".join(said[:SHOWN]) + (f", {len(said) - SHOWN} more" if len(said) > SHOWN else "")


def renumbered(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Return data whose labels count the same classes in another order."""
    numbers = torch.tensor([classes.index(name) for name in dataset.classes])
    splits = {name: getattr(dataset, name) for name in SPLITS[:4]}
    changed = {name: replace(split, labels=numbers[split.labels]) for name, split in splits.items() if split}
    said = f"classes in another order than before, matched by name: {', '.join(classes[:SHOWN])}"
    return replace(
        dataset, classes=tuple(classes), notes=(*dataset.notes, said), changes=(*dataset.changes, said), **changed
    )  # fmt: skip


def _classes(before: Sequence[str], now: Sequence[str]) -> str:
    if (said := class_changes(before, now)) or tuple(before) == tuple(now):
        return said
    return f"classes in another order ({', '.join(now[:SHOWN])}; were {', '.join(before[:SHOWN])})"


def _shape(before: tuple[int, int, int], now: tuple[int, int, int]) -> str:
    told = ["×".join(map(str, shape)) for shape in (now, before)]
    return "" if before == now else f"images of {told[0]} (channels, height, width), were {told[1]}"


def _images(known: Recorded, own: Recorded) -> list[str]:
    """Say what is new, gone, changed, of another class or in another split."""
    if not len(known):
        return []
    mine = torch.nonzero(known.splits != SPLITS.index("before")).flatten()
    known = replace(
        known, names=[known.names[row] for row in mine.tolist()], labels=known.labels[mine], splits=known.splits[mine],
        digests=known.digests[mine],
    )  # fmt: skip
    rows, kinds = known.match(own.names, own.digests)
    gone = torch.ones(len(known), dtype=torch.bool)
    gone[rows[(kinds == SAME) | (kinds == CHANGED)]] = False
    new, changed = (kinds == NEW) | (kinds == COPY), kinds == CHANGED
    said = [
        _some(mask, what, names)
        for mask, what, names in ((new, "new", own.names), (gone, "gone", known.names), (changed, "changed", own.names))
        if mask.any()
    ]
    if set(known.classes) == set(own.classes):
        said.append(_relabelled(known, own.classes, own.names, own.labels, rows, kinds))
    moved = (kinds == SAME) & (known.splits[rows.clamp(min=0)] != own.splits)
    if moved.any():
        said.append(f"{counted(int(moved.sum()), 'image')} in another split")
    return said
