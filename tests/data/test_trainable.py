"""Data from which nothing can be learnt is refused before training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from howdeep.data import open_data
from howdeep.data.sampling import sample, trainable
from howdeep.util.errors import UserError


def folder(root: Path, counts: dict[str, int]) -> Path:
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng([index, *str(root / label).encode()]).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{index}.png")
    return root


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one class, 'cat'"):
        trainable(open_data(str(folder(tmp_path / "cats", {"cat": 30}))))


def test_fewer_images_than_classes_are_refused_and_as_many_are_not() -> None:
    digits = open_data("digits")
    with pytest.raises(UserError, match="9 training images of digits are fewer than its 10 classes"):
        trainable(digits, 9)
    assert len(trainable(digits, 10).split("train")) == 10


def test_images_of_one_class_alone_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        folder(tmp_path / "pets" / name, {"cat": 5, "dog": 0 if name == "train" else 5})
    (tmp_path / "pets" / "train" / "dog" / "broken.png").write_bytes(b"")
    data = open_data(str(tmp_path / "pets"), skip_broken=True)
    with pytest.raises(UserError, match="the 5 training images of pets are all of one class, 'cat'"):
        trainable(data)


def test_the_limit_is_a_sample_by_seed_that_is_noted_and_keeps_the_other_splits() -> None:
    digits = open_data("digits")
    limited = trainable(digits, 100, seed=3)
    assert list(limited.split("train").names) == list(sample(digits.split("train"), 100, seed=3).names)
    assert limited.validation is digits.validation
    assert limited.notes[-1] == ("100 of 1,439 train images: a stratified sample by seed 3, of 10 of 10 classes")


def test_without_a_train_split_there_is_nothing_to_train_on() -> None:
    with pytest.raises(UserError, match="no train split"):
        trainable(replace(open_data("digits"), train=None))


def test_classes_too_small_to_hold_anything_out_open_and_are_not_trained_on(tmp_path: Path) -> None:
    data = open_data(str(folder(tmp_path / "pairs", {"cat": 2, "dog": 1})))
    assert len(data.split("train")) == 3
    assert "no validation or test images: that needs a class of at least 3 in train" in data.notes
    with pytest.raises(UserError, match="no validation images, and no class is large enough"):
        trainable(data)
