"""Decoded images that are kept are those that would be decoded again, in every process."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.conftest import write_photos

from howdeep.data import Normalization, Split, augmentation_of, open_data, training_batches
from howdeep.data.storage import SHELF_BYTES, Encoded, Shelf, free_bytes

PLAIN = Normalization(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def images_of(split: Split) -> Encoded:
    assert isinstance(split.images, Encoded)
    return split.images


@pytest.fixture(scope="module")
def large(photos: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of which some are decoded at half of the scale, upright and turned, JPEG and PNG."""
    folder = write_photos(tmp_path_factory.mktemp("large"), photos)
    for number, path in enumerate(sorted(folder.glob("*/*.jpg"))):
        with Image.open(path) as opened:
            image = opened.copy()
        if number % 3 == 1:
            turned = Image.Exif()
            turned[0x0112] = 6
            image.resize((901, 601)).save(path, exif=turned)
        if number % 3 == 2:
            image.resize((900, 601)).save(path.with_suffix(".png"))
            path.unlink()
    return folder


def epochs_of(split: Split, workers: int) -> torch.Tensor:
    batches = training_batches(
        split,
        normalization=PLAIN,
        augmentation=augmentation_of(open_data(split_folder(split), size=96), "light"),
        batch_size=8,
        seed=0,
        start_step=0,
        stop_step=9,
        device="cpu",
        workers=workers,
    )
    return torch.cat([batch.images for batch in batches])


def split_folder(split: Split) -> Path:
    return images_of(split).images.paths[0].parents[1]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_the_same_kept_or_not_and_nothing_is_decoded_twice(
    large: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = open_data(large, size=96).split("train")
    kept = epochs_of(split, workers)
    (shelf,) = images_of(split).shelves.values()
    places = [shelf.get(row) for row in split.rows.tolist()]
    assert all(place is not None for place in places)
    monkeypatch.setattr(Encoded, "_opened", lambda *_: pytest.fail("is decoded again"))
    assert torch.equal(kept, epochs_of(split, 0))
    monkeypatch.undo()
    with monkeypatch.context() as patched:
        patched.setattr("howdeep.data.dataset.free_bytes", lambda: 1000)
        without = open_data(large, size=96).split("train")
        assert torch.equal(kept, epochs_of(without, workers))
    assert not images_of(without).shelves


def test_a_kept_image_is_the_decoded_one_reduced_while_its_crops_have_enough_pixels(large: Path) -> None:
    split = open_data(large, size=96).split("train")
    least = 96 * 96 / 0.4
    for _ in range(2):
        split.keep(least)
        for position, name in enumerate(split.names):
            image = split.whole(position, least)
            assert image.shape[1:].numel() >= least
            if name.endswith(".png"):
                with Image.open(large / name) as opened:
                    whole = opened.convert("RGB")
                factor = 4 if whole.width * whole.height >= 16 * least else 2
                expected = np.array(whole.reduce(factor))
                assert torch.equal(image, torch.from_numpy(expected).permute(2, 0, 1))
            elif image.shape[1] > image.shape[2]:  # turned upright
                assert image.shape == (3, 226, 151)


def test_evaluation_sees_every_pixel_decoded_at_full_scale(large: Path) -> None:
    split = open_data(large, size=96).split("train")
    before = split.pixels(torch.arange(len(split)))
    epochs_of(split, 0)
    assert torch.equal(before, split.pixels(torch.arange(len(split))))


def test_a_process_that_is_not_forked_gets_no_memory() -> None:
    shelf = Shelf({3: (2, 2, 1)})
    shelf.put(3, np.ones((2, 3, 1), np.uint8))
    assert shelf.get(3) is None, "another shape than declared"
    shelf.put(3, np.ones((2, 2, 1), np.uint8))
    assert shelf.get(3) is not None
    assert shelf.get(4) is None
    assert 3 not in pickle.loads(pickle.dumps(shelf))
    assert 0 < free_bytes() <= SHELF_BYTES
