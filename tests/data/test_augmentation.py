"""What is done at random to training images: by name, by the seed, and how labels are mixed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from howdeep.data import (
    Dataset,
    Normalization,
    augmentation_line,
    augmentation_of,
    augmentation_record,
    open_data,
)
from howdeep.data.augmentation import (
    ERASED,
    GRAY,
    MANY_IMAGES,
    STRENGTHS,
    Augmentation,
    Strength,
    augmented,
    draw_epoch,
    mixed,
)
from howdeep.data.batches import training_batches
from howdeep.data.decoding import reduction
from howdeep.util.errors import UserError

PLAIN = Normalization(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def pixels_of(dataset: Dataset, strength: Strength, *, workers: int = 0, start: int = 0) -> torch.Tensor:
    batches = training_batches(
        dataset.split("train"),
        normalization=PLAIN,
        augmentation=augmentation_of(dataset, strength),
        batch_size=8,
        seed=0,
        start_step=start,
        stop_step=4,
        device="cpu",
        workers=workers,
    )
    return torch.cat([batch.images for batch in batches])


@pytest.mark.parametrize("strength", ["none", "light", "standard"])
def test_any_number_of_workers_and_a_start_anywhere_give_the_same_pixels(photo_folder: Path, strength) -> None:
    dataset = open_data(photo_folder, size=96, channels=1 if strength == "standard" else 3)
    alone = pixels_of(dataset, strength)
    assert torch.equal(alone, pixels_of(dataset, strength, workers=2))
    later = pixels_of(dataset, strength, start=2, workers=1)
    assert torch.equal(alone[-len(later) :], later)


def test_small_images_are_changed_by_name_and_with_workers_as_without(digits: Dataset) -> None:
    seen = {name: pixels_of(digits, name) for name in ("none", "light", "standard", "auto")}
    assert torch.equal(seen["light"], seen["auto"])
    train = digits.split("train")
    order = draw_epoch(len(train), Augmentation(), seed=0, epoch=0).order[:32]
    assert torch.equal(seen["none"], PLAIN(train.pixels(order)))
    differ = (seen["standard"] != seen["light"]).flatten(1).any(1).float().mean()
    assert 0.5 < differ < 1.0, "TrivialAugment has an identity among its changes"
    assert torch.equal(seen["standard"], pixels_of(digits, "standard", workers=1))


def test_crop_is_the_area_that_torchvision_draws_resized_as_pillow_does(photos) -> None:
    image = torch.from_numpy(np.array(photos[0])).permute(2, 0, 1)
    crop = Augmentation(crop=(0.08, 1.0))
    for seed in range(5):
        ours = augmented(image, (96, 64), crop, seed=seed, mirrored=False)
        torch.manual_seed(seed)
        theirs = v2.functional.pil_to_tensor(v2.RandomResizedCrop((96, 64))(photos[0]))
        assert (ours.int() - theirs.int()).abs().max() <= 1
        assert torch.equal(ours.flip(2), augmented(image, (96, 64), crop, seed=seed, mirrored=True))


def test_a_quarter_of_the_images_loses_up_to_a_third_of_its_area() -> None:
    image, erasing = torch.zeros(3, 40, 40, dtype=torch.uint8), Augmentation(erasing=ERASED)
    shares = []
    for seed in range(1000):
        seen = augmented(image, (40, 40), erasing, seed=seed, mirrored=False)
        assert set(seen.unique().tolist()) <= {0, GRAY}
        shares.append((seen == GRAY).float().mean().item())
    erased = torch.tensor([share for share in shares if share])
    assert abs(len(erased) - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5  # five standard deviations
    assert erased.min() > 0.01
    assert erased.max() < 0.35
    assert abs(erased.mean() - (0.02 + 0.33) / 2) < 0.03


def test_labels_are_mixed_in_the_shares_of_the_images() -> None:
    """An image is its class's constant: then the mean of a mixed image is the mean of its labels."""
    labels = torch.tensor([0, 1, 2, 3, 1, 0])
    images = labels.float()[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    kinds = set()
    for step in range(12):
        seen, soft = mixed(images, labels, 4, seed=3, step=step)
        assert soft.shape == (6, 4)
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
        torch.testing.assert_close(seen.mean((1, 2, 3)), soft @ torch.arange(4.0), rtol=0, atol=1e-5)
        share = soft[0, 0]  # of an image of class 0 whose neighbour in the batch is of class 0 too
        assert share == 1
        own = soft.gather(1, labels[:, None])[1:5]
        torch.testing.assert_close(own, own[:1].expand_as(own), msg="one share for the whole batch")
        kinds.add(bool((seen == seen.round()).all()))
        again = mixed(images, labels, 4, seed=3, step=step)
        assert torch.equal(seen, again[0])
        assert torch.equal(soft, again[1])
    assert kinds == {True, False}, "cutmix keeps values, mixup does not"


def test_mixing_leaves_the_random_state_and_an_empty_share_alone() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    images, labels = mixed(torch.empty(0, 3, 8, 8), torch.empty(0, dtype=torch.int64), 4, seed=0, step=0)
    assert images.shape == (0, 3, 8, 8)
    assert labels.shape == (0,)
    mixed(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), 2, seed=0, step=0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_number_of_images_decides_for_large_ones_alone(digits: Dataset, cifar: Dataset) -> None:
    train = cifar.split("train")
    many = train.take(torch.arange(MANY_IMAGES) % len(train))
    large = replace(cifar, height=224, width=224)
    cases: list[tuple[Dataset, Strength]] = [
        (large, "light"),
        (replace(large, train=many), "standard"),
        (replace(cifar, train=many), "light"),
    ]
    for dataset, name in cases:
        assert augmentation_record(dataset)["name"] == name
        assert augmentation_of(dataset) == augmentation_of(dataset, name)
    assert augmentation_line(replace(large, train=many)).endswith("(standard, for at least 10,000 training images)")
    drawn = {"padding": 0, "flip": True, "crop": None, "trivial": False, "erasing": 0.0, "mixing": False}
    asked = {"augmentation": "none", "flip": "yes"}
    assert augmentation_record(digits, "none", "yes") == {**drawn, "name": "none", "asked": asked}


def test_unknown_names_are_refused_with_the_nearest(digits: Dataset) -> None:
    with pytest.raises(UserError, match=r"unknown augmentation 'strnog'.*strong"):
        augmentation_of(digits, "strnog")  # pyright: ignore[reportArgumentType]


def test_stronger_names_do_more() -> None:
    crops = [STRENGTHS[name].crop for name in ("light", "standard", "strong")]
    assert crops == [(0.4, 1.0), (0.3, 1.0), (0.08, 1.0)]
    assert [STRENGTHS[name].mixing for name in STRENGTHS] == [False, False, False, True]


@pytest.mark.parametrize(("least", "factor"), [(10**6, 1), (250_000, 2), (250_001, 1), (62_500, 4), (1, 8)])
def test_images_are_reduced_while_enough_pixels_are_left(least: int, factor: int) -> None:
    assert reduction(1000, 1000, least) == factor
