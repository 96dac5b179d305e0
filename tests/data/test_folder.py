import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from howdeep.data import open_data
from howdeep.util.errors import UserError


def test_class_folders_alone_are_cut_into_three_splits(tmp_path: Path, write_classes) -> None:
    dataset = open_data(str(write_classes(tmp_path / "set", each=20)))
    sizes = [len(dataset.split(name)) for name in ("train", "val", "test")]
    assert sizes == [48, 6, 6]
    assert dataset.classes == ("0", "1", "2")
    assert dataset.name == "set"
    for name in ("train", "val", "test"):
        split = dataset.split(name)
        assert [where.split("/")[0] for where in split.names] == [dataset.classes[i] for i in split.labels]


@pytest.mark.parametrize("word", ["val", "valid", "validation"])
def test_split_folders_are_taken_as_they_are(tmp_path: Path, write_classes, word: str) -> None:
    for number, part in enumerate(("train", word, "test")):
        write_classes(tmp_path / part, skip=10 * number)
    dataset = open_data(str(tmp_path))
    assert dataset.notes == ()
    for part, name in (("train", "train"), (word, "val"), ("test", "test")):
        assert [where.split("/")[0] for where in dataset.split(name).names] == [part] * 30


def test_missing_test_split_is_held_out_of_train_and_the_given_validation_stays(tmp_path, write_classes) -> None:
    write_classes(tmp_path / "train", each=20)
    write_classes(tmp_path / "val", skip=20)
    dataset = open_data(str(tmp_path))
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [54, 30, 6]
    assert dataset.notes == ("test: stratified 10 % of train, seed 0",)


@pytest.mark.parametrize(
    ("train", "test", "extra"), [("012", "01", "'2' is in train"), ("01", "012", "'2' is in test")]
)
def test_classes_that_differ_between_splits_are_refused_by_name(tmp_path, write_classes, train, test, extra) -> None:
    write_classes(tmp_path / "train", classes=train)
    write_classes(tmp_path / "test", classes=test)
    with pytest.raises(UserError, match=extra):
        open_data(str(tmp_path))


def test_hidden_files_and_other_kinds_are_ignored_with_a_note(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    for name in (".DS_Store", "readme.txt", "labels.csv", "more.txt"):
        (root / "0" / name).write_text("no image")
    (root / ".git").mkdir()
    dataset = open_data(str(root))
    assert sum(len(dataset.split(name)) for name in ("train", "val", "test")) == 30
    assert "ignored files that are not images: 2 .txt, 1 hidden, 1 .csv" in dataset.notes


def test_broken_files_stop_with_their_names_unless_skipped(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    whole = (root / "0" / "0000.png").read_bytes()
    (root / "0" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "1" / "empty.jpg").touch()
    (root / "1" / "text.jpg").write_text("this is no image")
    (root / "2" / "dangling.png").symlink_to(root / "nowhere")
    with pytest.raises(UserError) as caught:
        open_data(str(root))
    line = str(caught.value)
    assert "4 images cannot be used" in line
    assert "0/cut.png (broken" in line
    assert "1/empty.jpg (empty: zero bytes)" in line
    assert "1/text.jpg (not an image" in line
    assert "and 1 more" in line
    dataset = open_data(str(root), skip_broken=True)
    assert sum(len(dataset.split(name)) for name in ("train", "val", "test")) == 30
    assert "skipped broken images: 4" in dataset.notes
    assert {problem.name for problem in dataset.skipped} == {
        "0/cut.png",
        "1/empty.jpg",
        "1/text.jpg",
        "2/dangling.png",
    }


def test_damage_in_the_middle_of_a_small_file_is_found_when_opened(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    path = root / "0" / "0000.png"
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 8] = b"\0" * 8
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"1 image cannot be used: 0/0000\.png \(broken"):
        open_data(str(root))
    dataset = open_data(str(root), skip_broken=True)
    names = [name for split in ("train", "val", "test") for name in dataset.split(split).names]
    assert len(names) == 29
    assert "0/0000.png" not in names


def test_image_bomb_is_refused_before_it_is_decoded(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    Image.new("1", (20_000, 20_000)).save(root / "0" / "bomb.png")
    Image.new("1", (9_000, 9_000)).save(root / "0" / "big.png")
    with pytest.raises(UserError) as caught:
        open_data(str(root))
    assert "0/bomb.png (oversized" in str(caught.value)
    assert "0/big.png (oversized: declares 9000×9000 pixels, the limit is 64 megapixels)" in str(caught.value)


def test_loops_of_links_and_odd_names_do_not_crash(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    (root / "0" / "again").symlink_to(root / "0")
    (root / "1" / "self.png").symlink_to(root / "1" / "self.png")
    image = (root / "0" / "0000.png").read_bytes()
    odd = os.fsencode(root / "2") + b"/\xff two\nlines \xc3\xa9.png"
    with open(odd, "wb") as file:
        file.write(image)
    dataset = open_data(str(root), skip_broken=True)
    names = [name for split in ("train", "val", "test") for name in dataset.split(split).names]
    assert len(names) == 31
    assert r"2/\xff two\nlines é.png" in names
    assert [problem.name for problem in dataset.skipped] == ["1/self.png"]


def test_named_pipe_is_reported_and_not_waited_for(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    os.mkfifo(root / "0" / "pipe.png")
    with pytest.raises(UserError, match=r"0/pipe\.png \(unreadable: not a regular file\)"):
        open_data(str(root))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda root: None, "has no class folders; expected"),
        (lambda root: (root / "cat").mkdir(), "no images of class 'cat' in train"),
        (lambda root: (root / "photo.zip").write_bytes(b"PK"), "has no class folders; expected"),
    ],
)
def test_empty_folders_get_one_clear_line(tmp_path: Path, make, line: str) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=line):
        open_data(str(tmp_path))


def test_single_class_is_refused(tmp_path: Path, write_classes) -> None:
    with pytest.raises(UserError, match="only one class, '0'; a classifier needs at least two"):
        open_data(str(write_classes(tmp_path / "set", classes="0")))


def test_file_that_is_neither_folder_nor_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="neither a folder nor a Parquet file"):
        open_data(str(tmp_path / "set.zip"))


def test_images_in_nested_folders_belong_to_their_class(tmp_path: Path, write_classes) -> None:
    root = write_classes(tmp_path / "set")
    (root / "0" / "scans").mkdir()
    (root / "0" / "0000.png").rename(root / "0" / "scans" / "0000.png")
    dataset = open_data(str(root))
    labels = torch.cat([dataset.split(name).labels for name in ("train", "val", "test")])
    assert labels.bincount().tolist() == [10, 10, 10]
