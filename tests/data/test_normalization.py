from dataclasses import replace
from pathlib import Path

import pytest
import torch

from howdeep.data import NORMALIZATIONS, Dataset, Split, open_data
from howdeep.data import normalization as module
from howdeep.data.dataset import Decoded
from howdeep.data.normalization import normalization_of
from howdeep.util.errors import UserError


def train_pixels(split: Split) -> torch.Tensor:
    return split.pixels(torch.arange(len(split))).double() / 255


def test_per_channel_makes_mean_zero_and_variance_one(cifar: Dataset) -> None:
    split = cifar.split("train")
    pixels = train_pixels(split)
    constants = NORMALIZATIONS["per_channel"](split)
    assert constants.mean.shape == constants.std.shape == (3, 1, 1)
    torch.testing.assert_close(constants.mean.flatten().double(), pixels.mean((0, 2, 3)), rtol=0, atol=1e-7)
    torch.testing.assert_close(constants.std.flatten().double(), pixels.std((0, 2, 3), correction=0), rtol=0, atol=1e-7)


@pytest.mark.slow
def test_the_mean_of_cifar_is_the_published_one(cifar10: Path) -> None:
    constants = NORMALIZATIONS["per_channel"](open_data(cifar10).split("train"))
    published = torch.tensor([125.3, 123.0, 113.9]) / 255  # Zagoruyko's constants of the lossless set
    torch.testing.assert_close(constants.mean.flatten(), published, rtol=0, atol=1e-3)


def test_per_pixel_mean_subtracts_the_mean_image_and_nothing_else(digits: Dataset) -> None:
    split = digits.split("train")
    constants = NORMALIZATIONS["per_pixel_mean"](split)
    seen = constants(split.pixels(torch.arange(len(split))))
    torch.testing.assert_close(seen.mean(0), torch.zeros(1, 8, 8), rtol=0, atol=1e-6)
    torch.testing.assert_close(seen, (train_pixels(split) - train_pixels(split).mean(0)).float(), rtol=0, atol=1e-6)


def test_scalar_std_is_that_of_all_values_before_the_mean_is_subtracted(digits: Dataset) -> None:
    split = digits.split("train")
    constants = NORMALIZATIONS["per_pixel_mean_scalar_std"](split)
    assert constants.std.shape == (1, 1, 1)
    assert constants.std.item() == pytest.approx(train_pixels(split).std(correction=0).item(), abs=1e-7)
    torch.testing.assert_close(constants.mean.double(), train_pixels(split).mean(0), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_constants_do_not_depend_on_the_chunks(digits: Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = NORMALIZATIONS[name](digits.split("train"))
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    pieces = NORMALIZATIONS[name](digits.split("train"))
    assert torch.equal(whole.mean, pieces.mean)
    assert torch.equal(whole.std, pieces.std)


def test_channel_that_never_varies_is_not_divided_by_zero(digits: Dataset) -> None:
    split = digits.split("train")
    assert isinstance(split.images, Decoded)
    black = replace(split, images=Decoded(torch.zeros_like(split.images.tensor)))
    assert NORMALIZATIONS["per_channel"](black)(black.pixels(torch.arange(3))).abs().max() == 0


def test_large_images_are_normalised_by_what_the_network_sees(photo_folder) -> None:
    split = open_data(str(photo_folder)).split("train")
    constants = NORMALIZATIONS["per_channel"](split)
    torch.testing.assert_close(
        constants.mean.flatten().double(), train_pixels(split).mean((0, 2, 3)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("mean", "std", "channels", "complaint"),
    [
        ((0.5,), None, None, "--mean (0.5,) and --std None do not fit: give both, one number per channel"),
        ((0.5,), (1.0, 1.0), 1, "--mean (0.5,) and --std (1.0, 1.0) do not fit: give both, one number per channel"),
        ((0.5, 0.5), (1.0, 1.0), 3, "--mean (0.5, 0.5) is not allowed: the images have 3 channels"),
        ((0.5,), (0.0,), 3, "--std (0.0,) is not allowed: it must be above 0"),
    ],
)
def test_constants_that_do_not_fit_are_refused(mean, std, channels: int | None, complaint: str) -> None:
    with pytest.raises(UserError) as refused:
        normalization_of(mean, std, channels)
    assert str(refused.value) == complaint


def test_one_number_is_for_all_channels() -> None:
    assert normalization_of(None, None, 3) is None
    constants = normalization_of((0.5,), (0.25,), 3)
    assert constants is not None
    assert torch.equal(constants(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)), torch.full((2, 3, 4, 4), 2.0))
