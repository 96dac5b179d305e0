"""What a network was trained on is never a measure of it, whatever happens to the images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from howdeep.data import open_data
from howdeep.data.dataset import Decoded, Split, decodes
from howdeep.data.recorded import SPLITS, Recorded, difference, recorded, recorded_splits
from howdeep.data.splits import three_splits

CLASSES = ("a", "b", "c")


def images(root: Path, *where: str, seed: int = 0, side: int = 8) -> Path:
    """Write different images at relative paths."""
    random = np.random.default_rng(seed)
    for name in where:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)
    return root


def classes(root: Path, each: int = 20, seed: int = 0) -> Path:
    return images(root, *(f"{name}/{number:02}.png" for name in CLASSES for number in range(each)), seed=seed)


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def contents(split) -> set[int]:
    return set(split.digests_at(torch.arange(len(split))).tolist())


@pytest.mark.parametrize("side", [8, 80])
def test_equal_images_are_on_one_side_of_splits_that_are_drawn(side: int, tmp_path: Path) -> None:
    root = images(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(20)), side=side)
    for number in range(20):
        copy(root / f"a/{number}.png", root / f"{'ab'[number % 2]}/copy{number}.png")
    dataset = open_data(str(root))
    assert decodes(dataset.split("train")) == (side != 8)
    train, validation, test = (contents(dataset.split(name)) for name in ("train", "val", "test"))
    assert len(validation) > 2
    assert not train & (validation | test)
    assert not validation & test
    assert sum(len(dataset.split(name)) for name in ("train", "val", "test")) == 60


def test_splits_without_equal_images_are_those_of_ever(digits) -> None:
    labels = torch.cat([digits.split(name).labels for name in ("train", "val", "test")])
    assert [len(digits.split(name)) for name in ("train", "val", "test")] == [1439, 179, 179]
    keys = torch.arange(len(labels))
    plans = [three_splits({"train": labels}, {"train": key}, 0)[0] for key in (keys, -keys)]
    assert all(torch.equal(plans[0][name][1], plans[1][name][1]) for name in plans[0])


@pytest.mark.parametrize("side", [8, 80])
def test_a_test_image_that_is_a_training_image_too_is_left_out_and_counted(side: int, tmp_path: Path) -> None:
    where = [f"{split}/{name}/{number}.png" for split in ("train", "test") for name in "ab" for number in range(9)]
    root = images(tmp_path, *where, side=side)
    copy(root / "train/a/3.png", root / "test/b/other.png")
    dataset = open_data(str(root))
    assert "test: 1 image left out, found in train as well" in dataset.notes
    assert "test/b/other.png" not in dataset.split("test").names
    assert len(dataset.split("test")) == 18


def test_a_grown_folder_keeps_every_image_in_its_split(tmp_path: Path) -> None:
    root = classes(tmp_path)
    before = open_data(str(root))
    known = recorded(before)
    images(root, "a/00new.png", "b/zz.png", seed=1)
    for split, number in (("train", 0), ("test", 0), ("val", 1)):
        name = before.split(split).names[number]
        copy(root / name, root / name.replace(".png", "copy.png"))
    after = open_data(str(root), recorded=known)
    for split in ("val", "test"):
        assert list(after.split(split).names) == list(before.split(split).names)
    assert set(after.split("train").names) >= set(before.split("train").names) | {"a/00new.png", "b/zz.png"}
    assert after.unused is not None
    assert len(after.unused) == 2
    told = " ".join(after.changes)
    assert "2 images new (first a/00new.png), in train and not in validation or test" in told
    assert "3 images copied from others" in told


def test_images_that_were_renamed_or_renumbered_keep_split_and_order(tmp_path: Path) -> None:
    root = classes(tmp_path / "one")
    before = open_data(str(root))
    for number, path in enumerate(sorted(root.glob("*/*.png"))):
        moved = tmp_path / "two" / path.parent.name / f"{number * 7 % 60:03}.png"
        moved.parent.mkdir(parents=True, exist_ok=True)
        path.rename(moved)
    after = open_data(str(tmp_path / "two"), recorded=recorded(before))
    for split in ("train", "val", "test"):
        every = torch.arange(len(before.split(split)))
        assert torch.equal(after.split(split).pixels(every), before.split(split).pixels(every))
    assert difference(recorded(before), recorded(after)) == ""
    assert after.changes == ()


def test_changed_images_are_known_by_their_names(tmp_path: Path) -> None:
    root = classes(tmp_path)
    before = open_data(str(root))
    for path in root.glob("*/*.png"):
        Image.open(path).convert("L").save(path)
    after = open_data(str(root), channels=3, recorded=recorded(before), seed=5)
    assert list(after.split("test").names) == list(before.split("test").names)
    assert "60 images changed (first a/00.png)" in after.changes


def test_other_data_are_cut_as_ever(tmp_path: Path) -> None:
    known = recorded(
        open_data(str(images(tmp_path / "one", *(f"{name}/{number}.png" for name in "xy" for number in range(4)))))
    )
    other = str(classes(tmp_path / "two", seed=3))
    assert list(open_data(other, recorded=known).split("test").names) == list(open_data(other).split("test").names)
    assert open_data(other, recorded=known).notes == open_data(other).notes


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_trained_image_is_held_out_by_any_change_of_names_contents_and_splits(data: st.DataObject) -> None:
    count = data.draw(st.integers(6, 16))
    known = _record(data, count)
    trained = {int(digest) for digest, split in zip(known.digests, known.splits, strict=True) if split in (0, 4)}
    names = {name: int(digest) for name, digest in zip(known.names, known.digests, strict=True)}
    parts = {}
    for part in data.draw(st.sampled_from([("train",), ("train", "test"), ("train", "validation", "test"), ("test",)])):
        size = data.draw(st.integers(3, 16))
        pool = st.one_of(st.sampled_from(known.digests.tolist()), st.integers(10**6, 10**6 + 20))
        digests = data.draw(st.lists(pool, min_size=size, max_size=size))
        called_so = st.sampled_from([*known.names, *(f"new{n}" for n in range(20))])
        called = data.draw(st.lists(called_so, min_size=size, max_size=size, unique=True))
        labels = torch.tensor([digest % 3 for digest in digests])
        parts[part] = Split(Decoded(torch.empty(0)), torch.arange(size), labels, called, torch.tensor(digests))
    keys = {part: split.digests for part, split in parts.items()}
    plan, _ = three_splits({part: split.labels for part, split in parts.items()}, keys, 0)
    planned, _ = recorded_splits(known, CLASSES, parts, plan, 0, keys)
    sides = {name: parts[part].take(positions) for name, (part, positions) in planned.items()}
    for name in {"validation", "test"} & set(sides):
        held_out = sides[name]
        assert not set(held_out.digests.tolist()) & trained
        for where, digest in zip(held_out.names, held_out.digests.tolist(), strict=True):
            unknown = digest not in known.digests.tolist()
            assert not (unknown and names.get(where) in trained), "a trained image with other contents"
        if "train" in sides:
            assert not set(held_out.digests.tolist()) & set(sides["train"].digests.tolist())
    every = sum(len(split) for split in sides.values())
    assert every <= sum(len(split) for split in parts.values())


def _record(data: st.DataObject, count: int) -> Recorded:
    splits = torch.tensor(data.draw(st.lists(st.sampled_from(range(len(SPLITS))), min_size=count, max_size=count)))
    names = [f"image {number}" for number in range(count)]
    return Recorded(CLASSES, (3, 8, 8), names, torch.arange(count) % 3, splits, 1000 + torch.arange(count))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": (*CLASSES, "e")}, "class 'e' added"),
        ({"classes": ("0c", "a", "b")}, "class '0c' added, class 'c' gone"),
        ({"classes": ("b", "a", "c")}, "classes in another order (b, a, c; were a, b, c), 4 images of another class"),
        ({"shape": (1, 8, 8)}, "images of 1×8×8 (channels, height, width), were 3×8×8"),
        ({"labels": torch.tensor([1, 1, 2, 0, 1, 2])}, "1 image of another class (first image 0: b, was a)"),
        ({"splits": torch.tensor([1, 0, 0, 0, 1, 2])}, "1 image in another split"),
        ({"digests": torch.tensor([7, 1001, 1002, 1003, 1004, 1005])}, "1 image changed (first image 0)"),
        ({"names": [f"other {n}" for n in range(6)]}, ""),
        ({}, ""),
    ],
)
def test_what_differs_is_said_in_a_few_words(change: dict, said: str) -> None:
    labels, splits = torch.arange(6) % 3, torch.tensor([0, 0, 0, 0, 1, 2])
    known = Recorded(CLASSES, (3, 8, 8), [f"image {n}" for n in range(6)], labels, splits, 1000 + torch.arange(6))
    assert difference(known, replace(known, **change)).startswith(said)
    assert bool(difference(known, replace(known, **change))) == bool(said)
    fewer = replace(known, names=known.names[1:], labels=labels[1:], splits=splits[1:], digests=known.digests[1:])
    assert difference(known, fewer) == "1 image gone (first image 0)"
    assert difference(fewer, known) == "1 image new (first image 0)"


def test_the_record_of_sixty_thousand_images_is_whole_and_below_a_megabyte() -> None:
    count = 60_000
    names = [f"train.parquet#{number}" for number in range(count)]
    random = torch.Generator().manual_seed(0)
    digests = torch.randint(-(2**63), 2**63 - 1, (count,), generator=random)
    labels, splits = (torch.randint(size, (count,), generator=random) for size in (10, 5))
    known = Recorded(tuple("0123456789"), (3, 32, 32), names, labels, splits, digests)
    written = known.to_bytes()
    assert len(written) < 1_000_000
    found = Recorded.from_bytes(written)
    assert (found.classes, found.shape, found.names) == (known.classes, known.shape, names)
    assert all(torch.equal(getattr(found, name), getattr(known, name)) for name in ("labels", "splits", "digests"))
    assert found.fingerprint == known.fingerprint
    with pytest.raises(ValueError, match="Arrow"):
        Recorded.from_bytes(written[:1000])


def test_what_was_trained_on_before_is_carried_along(tmp_path: Path) -> None:
    first, second = (
        recorded(open_data(str(classes(tmp_path / name, seed=seed)))) for name, seed in (("1", 1), ("2", 2))
    )
    both = second.after(first)
    trained = set(first.digests[first.splits == 0].tolist())
    assert trained <= set(both.digests.tolist())
    again = open_data(str(tmp_path / "1"), recorded=both, seed=9)
    assert not contents(again.split("test")) & trained
