"""Splits that are read many times decode every image once, as far as it fits."""

import io
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image

from howdeep.data import held, open_data
from howdeep.data.dataset import Split
from howdeep.data.images import Images
from howdeep.data.storage import Encoded
from howdeep.data.view import View


@dataclass(frozen=True)
class Opened(Images):
    """Encoded images of one colour each, and which of them were opened."""

    count: int
    opened: list[int] = field(default_factory=list)

    def stream(self, index: int) -> BinaryIO:
        self.opened.append(index)
        stream = io.BytesIO()
        Image.fromarray(np.full((4, 4, 3), 10 * index, np.uint8)).save(stream, "PNG")
        return io.BytesIO(stream.getvalue())


def split_of(images: Opened) -> Split:
    names = [f"{index}.png" for index in range(images.count)]
    encoded, rows = Encoded(images, View(3, 4, 4, "crop"), names), torch.arange(images.count)
    return Split(encoded, rows, rows, names)


def test_every_image_is_opened_once_whoever_takes_it() -> None:
    images = Opened(6)
    split, whole = split_of(images), split_of(Opened(6)).pixels(torch.arange(6))
    kept = held(split)
    some = kept.take(torch.tensor([4, 1, 4]))
    assert (len(some), some.labels.tolist(), list(some.names)) == (3, [4, 1, 4], ["4.png", "1.png", "4.png"])
    for _ in range(2):
        assert torch.equal(some.pixels(torch.arange(3)), whole[[4, 1, 4]])
        assert torch.equal(kept.pixels(torch.arange(6)), whole)
        assert torch.equal(some.take(torch.tensor([1])).pixels(torch.tensor([0])), whole[[1]])
    assert sorted(images.opened) == list(range(6))
    assert kept.pixels(torch.arange(0)).shape == (0, 3, 4, 4)


def test_what_does_not_fit_is_decoded_again() -> None:
    images = Opened(4)
    kept, whole = held(split_of(images), limit=2 * 4 * 4 * 3), split_of(Opened(4)).pixels(torch.arange(4))
    for _ in range(3):
        assert torch.equal(kept.pixels(torch.arange(4)), whole)
    assert [images.opened.count(index) for index in range(4)] == [1, 1, 3, 3]


def test_images_in_memory_stay_as_they_are() -> None:
    train = open_data("digits").split("train")
    assert held(train) is train
