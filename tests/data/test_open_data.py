import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from howdeep.data import Dataset, open_data, view
from howdeep.data.dataset import decodes
from howdeep.data.decoding import read_header
from howdeep.data.splits import stratified
from howdeep.data.view import RESIZE
from howdeep.util.errors import UserError


def everything(dataset: Dataset) -> list[str]:
    return [name for split in ("train", "val", "test") for name in dataset.split(split).names]


def test_digits_are_all_images_once_with_their_own_pixels_and_labels(digits: Dataset) -> None:
    values, targets = load_digits(return_X_y=True)
    assert sorted(everything(digits)) == sorted(f"digits#{row}" for row in range(1797))
    for name in ("train", "validation", "test"):
        split = digits.split(name)
        rows = [int(where.removeprefix("digits#")) for where in split.names]
        pixels = split.pixels(torch.arange(len(split)))
        assert pixels.shape == (len(split), 1, 8, 8)
        assert pixels.dtype == torch.uint8
        assert torch.equal(split.labels, torch.tensor(targets[rows]))
        assert torch.equal(pixels.reshape(-1, 64).double(), torch.tensor(values[rows] * 255 / 16).round())


def test_cifar_has_the_published_counts_and_names_its_rows(cifar10: Path) -> None:
    """Asked for as large images and the test split alone, nothing is decoded and no header of train is read."""
    whole = open_data(cifar10, size=224, channels=3, splits=["test"])
    sizes = {name: len(whole.split(name)) for name in ("train", "validation", "test")}
    assert sizes == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert whole.classes[0] == "airplane"
    assert whole.classes[9] == "truck"
    for name, count in (("train", 4500), ("validation", 500), ("test", 1000)):
        assert whole.split(name).labels.bincount().tolist() == [count] * 10
    assert whole.split("test").names[17] == "test.parquet#17"
    assert len(set(everything(whole))) == 60_000


def test_images_of_cifar_are_32_pixels_and_in_colour(cifar: Dataset) -> None:
    assert (cifar.channels, cifar.height, cifar.width) == (3, 32, 32)
    assert cifar.notes == ("validation: stratified 10 % of train, seed 0",)


def test_train_and_validation_of_cifar_share_one_tensor(cifar: Dataset) -> None:
    assert cifar.train is not None
    assert cifar.train.images is cifar.validation.images  # type: ignore[union-attr]


def test_seed_decides_the_held_out_images() -> None:
    first, again, other = (open_data("digits", seed=seed).split("val").names for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_stratified_takes_ten_percent_of_each_class_and_leaves_one_of_the_rarest() -> None:
    labels = torch.tensor([0] * 100 + [1] * 3 + [2] * 2 + [3])
    rest, validation, test = stratified(labels, 2, seed=3)
    assert labels[validation].bincount(minlength=4).tolist() == [10, 1, 0, 0]
    assert labels[test].bincount(minlength=4).tolist() == [10, 1, 0, 0]
    assert torch.cat([rest, validation, test]).sort().values.tolist() == list(range(106))


def test_missing_split_is_refused_and_says_which_exist(tmp_path: Path, write_classes) -> None:
    write_classes(tmp_path / "set" / "test")
    dataset = open_data(str(tmp_path / "set"))
    assert dataset.train is None
    assert len(dataset.split("test")) == 30
    with pytest.raises(UserError, match="set has no validation split; it has test"):
        dataset.split("val")
    with pytest.raises(UserError, match="unknown split 'tset'; did you mean test"):
        dataset.split("tset")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"size": 0}, "size is 0; it is a number of pixels, at least 1"),
        ({"resize": "corp"}, "unknown resize policy 'corp'; did you mean crop"),
        ({"channels": 2}, r"channels is 2; allowed are 1 \(grayscale\) and 3 \(colour\)"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict, line: str) -> None:
    with pytest.raises(UserError, match=line):
        open_data("digits", **options)


@pytest.mark.parametrize("data", ["", "digit", "nowhere/at/all", "a\0b", "hf:", "hf:noowner", "hf:a/b/c"])
def test_unknown_data_is_refused_in_one_line(data: str) -> None:
    with pytest.raises(UserError) as caught:
        open_data(data)
    assert "\n" not in str(caught.value)


def test_unknown_data_names_the_nearest_that_exists(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    with pytest.raises(UserError, match=r"did you mean .*/flowers\?"):
        open_data(str(tmp_path / "flwers"))
    with pytest.raises(UserError, match=r"did you mean digits\?"):
        open_data("digts")


def test_size_and_channels_can_be_forced() -> None:
    dataset = open_data("digits", size=16, channels=3)
    assert dataset.split("test").pixels(torch.arange(2)).shape == (2, 3, 16, 16)
    assert "resize: crop to 16×16" in dataset.notes
    assert "grayscale images: converted to colour" in dataset.notes


@pytest.mark.parametrize("policy", RESIZE)
def test_large_images_stay_encoded_and_come_in_one_shape(photo_folder: Path, policy: str) -> None:
    dataset = open_data(str(photo_folder), resize=policy)
    assert decodes(dataset.split("train"))
    assert (dataset.height, dataset.width) == (224, 224)
    assert f"resize: {policy} to 224×224" in dataset.notes
    assert dataset.split("train").pixels(torch.tensor([0, 5])).shape == (2, 3, 224, 224)


def test_large_images_asked_for_small_are_decoded_into_memory(photo_folder: Path) -> None:
    dataset = open_data(str(photo_folder), size=32)
    assert not decodes(dataset.split("train"))
    assert dataset.split("train").pixels(torch.tensor([0])).shape == (1, 3, 32, 32)


def test_importing_the_data_layer_loads_no_heavy_library() -> None:
    command = (
        "import sys, howdeep.data; "
        "print([name for name in ('datasets', 'sklearn', 'torchvision', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_classes_without_images_in_a_split_are_noted(tmp_path: Path, write_classes) -> None:
    write_classes(tmp_path / "train", each=20)
    write_classes(tmp_path / "test", skip=20)
    for path in (tmp_path / "test" / "1").iterdir():
        path.unlink()
    assert "test: no images of class '1'" in open_data(str(tmp_path)).notes


@pytest.mark.parametrize(("own", "headers"), [("test", 4), ("train", 20)])
def test_a_split_asked_for_reads_no_headers_of_others_and_is_the_same(
    tmp_path: Path, photo_folder: Path, own: str, headers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ["train"] * 8 + ["val"] * 2 + [own] * 2
    for photo in sorted(photo_folder.glob("*/*.jpg")):
        place = tmp_path / "set" / parts[int(photo.stem)] / photo.parent.name / photo.name
        place.parent.mkdir(parents=True, exist_ok=True)
        photo.rename(place)
    read: list[object] = []
    monkeypatch.setattr(view, "read_header", lambda stream: read.append(stream) or read_header(stream))
    options = {"size": 224, "channels": 3, "skip_broken": True}
    whole = open_data(str(tmp_path / "set"), **options)  # type: ignore[arg-type]
    assert len(read) == 24
    read.clear()
    some = open_data(str(tmp_path / "set"), splits=["test"], **options)  # type: ignore[arg-type]
    assert len(read) == headers
    assert list(some.split("test").names) == list(whole.split("test").names)
    every = torch.arange(len(whole.split("test")))
    assert torch.equal(some.split("test").pixels(every), whole.split("test").pixels(every))
