"""Splits and labels as people have them: by the words in names of files and folders, with hidden labels."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from howdeep.data import Dataset, open_data
from howdeep.data.check import check
from howdeep.data.splits import splits_in
from howdeep.util.errors import UserError

Lay = Callable[[Path], object]


def sizes(dataset: Dataset) -> dict[str, int]:
    found = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: len(split) for name, split in found.items() if split is not None}


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train TRAINING xTrain x_train-00000-of-00002 cifar10.train trainset partial-train train2017"),
        ("validation", "val valid dev validation dev-set VALDATA my.validation"),
        ("test", "mnist_test testing eval evaluation testset MNISTTest test-0001"),
    ],
)
def test_the_word_of_a_split_is_found_anywhere_in_a_name(split: str, names: str) -> None:
    assert {name: splits_in(name) for name in names.split()} == {name: [split] for name in names.split()}


def test_other_words_that_contain_one_are_no_splits() -> None:
    names = ("strain", "latest", "contest", "developed", "retrieval", "trainer", "interval", "tests", "0", "", "träin")
    assert [name for name in names if splits_in(name)] == []
    assert splits_in("train-val") == ["train", "validation"]


@pytest.mark.parametrize(
    ("folders", "expected", "note"),
    [
        # What is laid out: folder → number of the layout (c: class folders, f: flat images).
        ({"training": "c", "testing": "c", "dev": "c"}, {"train": 30, "validation": 30, "test": 30}, "read from dev"),
        ({"x_train": "c", "x_test": "c"}, {"train": 27, "validation": 3, "test": 30}, "test: read from x_test"),
        ({"train": "c", "stray": "c"}, {"train": 24, "validation": 3, "test": 3}, "left out stray: its name"),
        ({"train": "c", "test": "f"}, {"train": 24, "validation": 3, "test": 3}, "left out test: it has no class"),
        ({"test": "c", "train": "f"}, {"test": 30}, "left out train: it has no class folders"),
        ({"testing": "c"}, {"test": 30}, "test: read from testing"),
        ({"train": "c", "__MACOSX": "c"}, {"train": 24, "validation": 3, "test": 3}, "validation: stratified"),
        # Classes, whatever words are in their names.
        ({"test tube": "f", "beaker": "f"}, {"train": 16, "validation": 2, "test": 2}, "validation: stratified"),
        ({"training_shoes": "f", "boots": "f"}, {"train": 16, "validation": 2, "test": 2}, "validation: stratified"),
        ({"test tube": "c", "beaker": "c"}, {"train": 48, "validation": 6, "test": 6}, "validation: stratified"),
        ({"train": "f", "bus": "f"}, {"train": 16, "validation": 2, "test": 2}, "train is taken for a class"),
    ],
)
def test_folders_are_splits_or_classes_or_left_out_by_name(
    tmp_path: Path, write_classes, folders: dict[str, str], expected: dict[str, int], note: str
) -> None:
    for number, (name, kind) in enumerate(folders.items()):
        lay(tmp_path / "set" / name, kind, write_classes, tmp_path, skip=10 * number)
    dataset = open_data(str(tmp_path / "set"))
    assert sizes(dataset) == expected
    assert any(note in line for line in dataset.notes), dataset.notes
    assert {split: sum(each.values()) for split, each in check(str(tmp_path / "set")).counts.items()} == expected


def lay(folder: Path, kind: str, write_classes, scratch: Path, skip: int = 0) -> None:
    """Write class folders (c), or the same images without them (f)."""
    if kind == "c":
        write_classes(folder, skip=skip)
        return
    images = write_classes(scratch / f"flat-{folder.name}", classes="0", skip=skip) / "0"
    folder.parent.mkdir(exist_ok=True)
    images.rename(folder)


@pytest.mark.parametrize(
    ("folders", "line"),
    [
        ({"train": "f", "test": "f"}, "called like splits, where a class or its images should be: test, train"),
        ({"cat": "f", "dog": "f", "test": "f"}, "called like splits, .*: test; a split is a folder of class folders"),
        ({"mnist/train": "c", "mnist/test": "c"}, "set/mnist is the data, name that"),
        ({"a/train": "c", "b/train": "c"}, "set/a is the data, name that"),
        ({"cat/train": "f", "cat/test": "f", "dog/train": "f", "dog/test": "f"}, "set/cat holds folders that are"),
        ({"train_test": "c"}, "train_test could mean train or test"),
        ({"train": "c", "test": "c", "eval": "c"}, "has 2 test folders: eval, test"),
        ({"train/train": "f", "train/test": "f"}, "set/train holds folders that are called like splits"),
    ],
)
def test_classes_that_are_splits_are_refused_in_one_line(tmp_path: Path, write_classes, folders, line: str) -> None:
    for number, (name, kind) in enumerate(folders.items()):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        lay(tmp_path / "set" / name, kind, write_classes, tmp_path / f"scratch{number}")
    with pytest.raises(UserError, match=line) as caught:
        open_data(str(tmp_path / "set"))
    assert "\n" not in str(caught.value)


def test_images_outside_the_class_folders_are_counted(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    (root / "0" / "0000.png").rename(root / "stray.png")
    assert "left out images outside the class folders: 1" in open_data(str(root)).notes


def test_a_split_folder_without_images_is_left_out(tmp_path: Path, write_classes) -> None:
    write_classes(tmp_path / "train", each=20)
    for name in "012":
        (tmp_path / "test" / name).mkdir(parents=True)
    dataset = open_data(str(tmp_path))
    assert sizes(dataset) == {"train": 48, "validation": 6, "test": 6}
    assert "left out test: it holds no images" in dataset.notes


@pytest.mark.parametrize(
    ("files", "expected", "notes"),
    [
        ("mnist_train mnist_test", {"train": 27, "validation": 3, "test": 30}, ["test: read from mnist_test"]),
        ("mnist_test", {"test": 30}, ["test: read from mnist_test"]),
        ("train/0000 train/0001 test/0000", {"train": 54, "validation": 6, "test": 30}, []),
        ("mnist/train/0000 mnist/test/0000", {"train": 27, "validation": 3, "test": 30}, []),
        ("plain/train-00000-of-00001 plain/test-00000-of-00001", {"train": 27, "validation": 3, "test": 30}, []),
        ("data/train-0 data/dev", {"train": 27, "validation": 30, "test": 3}, ["validation: read from dev"]),
        ("train old/train", {"train": 24, "validation": 3, "test": 3}, ["left out folder old"]),
        ("left right", {"train": 48, "validation": 6, "test": 6}, ["train: read from left, right, as no name"]),
        ("train test extra", {"train": 27, "validation": 3, "test": 30}, ["left out extra.parquet: its name"]),
    ],
)
def test_parquet_files_are_sorted_into_splits_by_their_names_and_folders(
    tmp_path: Path, write_parquet, files: str, expected: dict[str, int], notes: list[str]
) -> None:
    for number, name in enumerate(files.split()):
        write_parquet(tmp_path / "set" / f"{name}.parquet", skip=10 * number)
    dataset = open_data(str(tmp_path / "set"))
    assert sizes(dataset) == expected
    left = [line for line in dataset.notes if "stratified" not in line]
    assert len(left) >= len(notes)
    assert all(any(note in line for line in left) for note in notes), left
    assert left == [] or notes != []
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split is None or len(set(split.names)) == len(split.names)


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ("mnist/train/0000 cifar/train/0000", "holds several data sets: cifar, mnist; name one, such as .*set/cifar"),
        ("train_test", "train_test could mean train or test"),
        ("train test eval", "has 2 test splits: eval, test"),
    ],
)
def test_parquet_files_that_may_not_belong_together_are_refused_by_name(
    tmp_path: Path, write_parquet, files: str, line: str
) -> None:
    for name in files.split():
        write_parquet(tmp_path / "set" / f"{name}.parquet")
    with pytest.raises(UserError, match=line):
        open_data(str(tmp_path / "set"))


def test_parquet_files_below_an_image_folder_are_refused_by_name(tmp_path: Path, write_classes, write_parquet) -> None:
    write_classes(tmp_path / "set")
    write_parquet(tmp_path / "set" / "embeddings" / "part.parquet")
    with pytest.raises(UserError, match="Parquet files in embeddings, and other folders: 0, 1, 2"):
        open_data(str(tmp_path / "set"))


def relabel(path: Path, change: Callable[[int, int], object]) -> None:
    table = pq.read_table(path)
    labels = [change(row, label) for row, label in enumerate(table.column("label").to_pylist())]
    pq.write_table(table.set_column(1, "label", pa.array(labels)), path)


@pytest.mark.parametrize("hidden", [-1, None, float("nan")])
def test_a_split_of_hidden_labels_is_left_out_and_the_others_stay(tmp_path: Path, write_parquet, hidden) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", each=20)
    relabel(write_parquet(tmp_path / "set" / "test.parquet"), lambda row, label: hidden)
    dataset = open_data(str(tmp_path / "set"))
    assert sizes(dataset) == {"train": 48, "validation": 6, "test": 6}
    assert "left out test: none of its 30 images has a label" in dataset.notes


def test_a_split_without_a_label_column_is_left_out(tmp_path: Path, write_parquet) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", each=20)
    path = write_parquet(tmp_path / "set" / "test.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["label"]), path)
    assert "left out test: it has no label column" in open_data(str(tmp_path / "set")).notes


@pytest.mark.parametrize("hidden", [-1, None, float("nan")])
def test_single_hidden_labels_are_left_out_and_the_others_keep_their_images(
    tmp_path: Path, write_parquet, hidden
) -> None:
    path = write_parquet(tmp_path / "test.parquet")
    whole = open_data(str(path)).split("test")
    relabel(path, lambda row, label: hidden if row in (0, 7, 29) else label)
    dataset = open_data(str(path))
    test, kept = dataset.split("test"), [row for row in range(30) if row not in (0, 7, 29)]
    assert "test: left out 3 of 30 images, which have no label" in dataset.notes
    assert list(test.names) == [whole.names[row] for row in kept]
    rows = whole.labels.new_tensor(kept)
    assert (test.labels == whole.labels[rows]).all()
    assert (test.pixels(rows.new_tensor(range(27))) == whole.pixels(rows)).all()


def test_minus_one_beside_one_is_a_class(tmp_path: Path, write_parquet) -> None:
    path = write_parquet(tmp_path / "train.parquet", classes="12")
    relabel(path, lambda row, label: -1 if label == 2 else 1)
    assert open_data(str(path)).classes == ("-1", "1")


def test_classes_of_one_name_are_told_apart(tmp_path: Path, write_parquet) -> None:
    declared = b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog", "cat"]}}}}'
    path = write_parquet(tmp_path / "train.parquet", declared)
    assert open_data(str(path)).classes == ("cat (label 0)", "dog", "cat (label 2)")
    report = check(str(path))
    assert sum(sum(each.values()) for each in report.counts.values()) == 30
    assert "several classes are called 'cat': their labels tell them apart" in report.notes


def test_files_of_one_split_that_number_classes_differently_are_refused(tmp_path: Path, write_parquet) -> None:
    for name, classes in (("train-0", '["a", "b", "c"]'), ("train-1", '["b", "a", "c"]')):
        declared = f'{{"info": {{"features": {{"label": {{"_type": "ClassLabel", "names": {classes}}}}}}}}}'
        write_parquet(tmp_path / "set" / f"{name}.parquet", declared.encode())
    with pytest.raises(UserError, match="are of one split and differ in their classes"):
        open_data(str(tmp_path / "set"))
