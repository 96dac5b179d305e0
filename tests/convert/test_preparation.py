"""How images are prepared for published weights: as their libraries do it; what the classes are called."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.imagenet_info import ImageNetInfo
from timm.data.transforms_factory import create_transform
from torchvision import models
from torchvision.transforms import Compose

from howdeep.convert.libraries import published_as, timm_names
from howdeep.data.decoding import BadImage
from howdeep.data.view import Crop, View
from howdeep.util.errors import UserError

SHAPES = [(320, 240), (240, 321), (500, 333), (64, 48), (224, 224), (37, 400)]
"""Width and height: larger and smaller than what a network reads, and equal to it."""


def photo(width: int, height: int) -> Image.Image:
    """Return an image with edges, smooth areas and noise."""
    random = np.random.default_rng(width * height)
    y, x = np.mgrid[:height, :width]
    smooth = 120 + 80 * np.sin(x / 9)[..., None] * np.cos(y / 7)[..., None]
    edges = 60 * ((x // 20 + y // 15) % 2)[..., None]
    noise = random.integers(-25, 25, (height, width, 3))
    return Image.fromarray(np.clip(smooth + edges + noise, 0, 255).astype(np.uint8))


def ours(name: str, image: Image.Image, size: int | None = None) -> np.ndarray:
    published = published_as(name, size)
    return View(3, published.size, published.size, "crop", crop=published.crop).render(image)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "size"), [("tf_efficientnet_lite0", None), ("convnext_atto", 96), ("vit_tiny_patch16_224", None)]
)
def test_images_are_prepared_as_timm_does_it_to_the_bit(name: str, size: int | None, shape: tuple[int, int]) -> None:
    model = timm.create_model(name)
    given = {} if size is None else {"input_size": (3, size, size)}
    config = resolve_data_config(given, model=model)
    transform = create_transform(**config, is_training=False, normalize=False)
    assert isinstance(transform, Compose)
    theirs = np.asarray(transform(photo(*shape)))
    assert np.array_equal(ours(f"timm:{name}", photo(*shape), size), theirs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "swin_v2_t"])
def test_images_are_prepared_as_torchvision_does_it_to_the_bit(name: str, shape: tuple[int, int]) -> None:
    transform = models.get_model_weights(name)["DEFAULT"].transforms()
    mean, std = (torch.tensor(value)[:, None, None] for value in (transform.mean, transform.std))
    theirs = ((transform(photo(*shape)) * std + mean) * 255).round().int().numpy()
    assert np.array_equal(ours(f"torchvision:{name}", photo(*shape)), theirs)


def test_an_image_of_one_row_is_refused_before_it_is_huge() -> None:
    with pytest.raises(BadImage, match="20000×1 cannot be resized"):
        View(3, 224, 224, "crop", crop=Crop(0.875, "bicubic")).render(Image.new("RGB", (20_000, 1)))


@pytest.mark.parametrize(("share", "method"), [(0.0, "bilinear"), (1.5, "bilinear"), (0.9, "cubic")])
def test_a_crop_that_cannot_be_is_refused(share: float, method: str) -> None:
    with pytest.raises(UserError, match=r"crop share|interpolation"):
        Crop(share, method)


def test_classes_of_imagenet_are_found_by_wordnet_id_and_by_the_names_of_both_libraries() -> None:
    names, info = timm_names("imagenet-1k"), ImageNetInfo("imagenet-1k")
    assert names.order(tuple(info.label_names())) == list(range(1000))
    assert names.order(names.shown) == list(range(1000))
    assert names.order(("n01443537", "tench", "Great White Shark")) == [1, 0, 2]
    assert names.order(("tench", "n01440764")) is None  # one class under two names
    assert names.order(("tench", "my cat")) is None
    assert len(set(names.shown)) == 1000


def test_a_name_that_means_two_classes_means_none() -> None:
    names = timm_names("imagenet-12k")
    assert len(set(names.shown)) == len(names.shown) == ImageNetInfo("imagenet-12k").num_classes()
