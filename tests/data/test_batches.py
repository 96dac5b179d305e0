import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from howdeep.data import (
    NORMALIZATIONS,
    Augmentation,
    Dataset,
    Normalization,
    augmentation_line,
    augmentation_of,
    evaluation_batches,
    open_data,
    steps_per_epoch,
    training_batches,
)
from howdeep.data.augmentation import STRENGTHS, draw_epoch, shift_and_flip
from howdeep.data.workers import Request, fetch
from howdeep.util.errors import UserError

PLAIN = Normalization(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def batches(split, start, stop, *, batch_size=100, augmentation=None, seed=0, **options):
    augmentation = augmentation or Augmentation(padding=1, flip=True)
    return list(
        training_batches(
            split,
            normalization=PLAIN,
            augmentation=augmentation,
            batch_size=batch_size,
            seed=seed,
            start_step=start,
            stop_step=stop,
            device="cpu",
            **options,
        )
    )


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and a.total == b.total
        for a, b in zip(first, second, strict=True)
    )


def identities(split, epoch_batches) -> torch.Tensor:
    """Which image of a split each batch image is, by looking it up; images must be distinct and unchanged."""
    table = {image.numpy().tobytes(): row for row, image in enumerate(split.pixels(torch.arange(len(split))))}
    seen = torch.cat([batch.images for batch in epoch_batches])
    return torch.tensor([table[image.mul(255).round().to(torch.uint8).numpy().tobytes()] for image in seen])


@pytest.mark.parametrize(("images", "batch", "steps"), [(45_000, 128, 352), (100, 100, 1), (101, 100, 2), (1, 100, 1)])
def test_the_last_smaller_batch_is_kept(images: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(images, batch) == steps


@settings(max_examples=20, deadline=None)
@given(batch_size=st.integers(1, 700), world=st.integers(1, 5), epoch=st.integers(0, 3))
def test_every_epoch_is_every_image_once_over_all_ranks(digits: Dataset, batch_size, world, epoch) -> None:
    split = digits.split("validation")
    steps = steps_per_epoch(len(split), batch_size)
    shares = [
        batches(
            split,
            epoch * steps,
            (epoch + 1) * steps,
            batch_size=batch_size,
            rank=rank,
            world=world,
            augmentation=Augmentation(),
        )
        for rank in range(world)
    ]
    everything = [batch for rank in shares for batch in rank]
    assert identities(split, everything).sort().values.tolist() == list(range(len(split)))
    for step, parts in enumerate(zip(*shares, strict=True)):
        assert sum(len(part.labels) for part in parts) == parts[0].total
        assert parts[0].total == min(batch_size, len(split) - step * batch_size)


def test_labels_belong_to_the_images(digits: Dataset) -> None:
    split = digits.split("train")
    epoch = batches(split, 0, 15, augmentation=Augmentation())
    assert torch.equal(split.labels[identities(split, epoch)], torch.cat([batch.labels for batch in epoch]))


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 40), count=st.integers(0, 10))
def test_starting_anywhere_gives_the_batches_of_the_uninterrupted_run(digits: Dataset, start, count) -> None:
    split = digits.split("train")
    assert same(batches(split, start, start + count), batches(split, 0, start + count)[start:])


def test_seed_and_epoch_change_order_and_augmentation(digits: Dataset) -> None:
    split = digits.split("train")
    first = batches(split, 0, 1)
    assert same(first, batches(split, 0, 1))
    assert not same(first, batches(split, 0, 1, seed=1))
    assert not same(first, batches(split, 15, 16))
    draws = [draw_epoch(1000, Augmentation(4, True), seed=0, epoch=epoch) for epoch in (0, 1)]
    for field in ("order", "top", "left", "mirrored", "seeds"):
        assert not torch.equal(getattr(draws[0], field), getattr(draws[1], field))


def test_ranks_hold_contiguous_shares_of_the_same_batch(digits: Dataset) -> None:
    split = digits.split("train")
    alone = batches(split, 12, 16)
    ranks = [batches(split, 12, 16, rank=rank, world=3) for rank in range(3)]
    for step, whole in enumerate(alone):
        assert torch.equal(whole.images, torch.cat([rank[step].images for rank in ranks]))
        assert torch.equal(whole.labels, torch.cat([rank[step].labels for rank in ranks]))
        assert all(rank[step].total == whole.total for rank in ranks)


def test_order_of_images_does_not_depend_on_the_augmentation() -> None:
    orders = [
        draw_epoch(500, augmentation, seed=5, epoch=2).order for augmentation in (Augmentation(), Augmentation(4, True))
    ]
    assert torch.equal(*orders)


def test_crops_and_flips_are_those_of_a_loop_over_images(digits: Dataset) -> None:
    images = digits.split("test").pixels(torch.arange(100)).float() - 80
    augmentation = Augmentation(padding=2, flip=True)
    draws = draw_epoch(100, augmentation, seed=1, epoch=0)
    seen = shift_and_flip(images, augmentation, draws)
    for row in range(100):
        padded = torch.zeros(1, 12, 12)
        padded[:, 2:10, 2:10] = images[row]
        top, left = int(draws.top[row]), int(draws.left[row])
        expected = padded[:, top : top + 8, left : left + 8]
        assert torch.equal(seen[row], expected.flip(2) if draws.mirrored[row] else expected)


def test_every_offset_and_both_sides_come_equally_often() -> None:
    draws = draw_epoch(81_000, Augmentation(padding=4, flip=True), seed=0, epoch=0)
    counts = (9 * draws.top + draws.left).bincount(minlength=81)
    assert ((counts - 1000).abs() < 5 * 1000**0.5).all()  # five standard deviations
    assert abs(draws.mirrored.float().mean().item() - 0.5) < 5 * 0.5 / 81_000**0.5


def test_padding_is_zero_after_normalisation(digits: Dataset) -> None:
    split, augmentation = digits.split("train"), Augmentation(padding=1)
    (batch,) = training_batches(
        split,
        normalization=NORMALIZATIONS["per_channel"](split),
        augmentation=augmentation,
        batch_size=64,
        seed=0,
        start_step=0,
        stop_step=1,
        device="cpu",
    )
    top = draw_epoch(len(split), augmentation, seed=0, epoch=0).top[:64]
    assert batch.images[top == 0, :, 0].abs().max() == 0
    assert batch.images[top == 1, :, 0].abs().amax((1, 2)).min() > 0


def test_evaluation_is_in_file_order_and_not_augmented(digits: Dataset) -> None:
    split = digits.split("test")
    found = list(evaluation_batches(split, normalization=PLAIN, batch_size=50, device="cpu"))
    assert [len(batch.labels) for batch in found] == [50, 50, 50, 29]
    assert torch.equal(torch.cat([batch.labels for batch in found]), split.labels)
    assert identities(split, found).tolist() == list(range(len(split)))


def test_evaluation_is_shared_among_ranks_without_loss(digits: Dataset) -> None:
    split = digits.split("test")
    ranks = [
        list(evaluation_batches(split, normalization=PLAIN, batch_size=50, device="cpu", rank=rank, world=4))
        for rank in range(4)
    ]
    joined = torch.cat([part.images for parts in zip(*ranks, strict=True) for part in parts])
    alone = torch.cat([b.images for b in evaluation_batches(split, normalization=PLAIN, batch_size=50, device="cpu")])
    assert torch.equal(joined, alone)


def test_channels_last_changes_the_layout_and_not_the_values(cifar: Dataset) -> None:
    split = cifar.split("train")
    plain, last = batches(split, 0, 1), batches(split, 0, 1, channels_last=True)
    assert same(plain, last)
    assert last[0].images.is_contiguous(memory_format=torch.channels_last)
    assert plain[0].images.is_contiguous()


def test_large_images_give_the_same_bits_with_any_number_of_workers(photo_folder: Path) -> None:
    dataset = open_data(str(photo_folder), size=96)
    augmentation = augmentation_of(dataset)
    assert augmentation == replace(STRENGTHS["light"], flip=True)
    alone, two = (
        batches(dataset.train, 1, 7, batch_size=8, augmentation=augmentation, workers=workers) for workers in (0, 2)
    )
    assert same(alone, two)
    assert alone[0].images.shape == (8, 3, 96, 96)
    assert not torch.equal(
        alone[0].images, batches(dataset.train, 1, 2, batch_size=8, augmentation=Augmentation())[0].images
    )
    later = batches(dataset.train, 4, 7, batch_size=8, augmentation=augmentation)
    assert same(alone[3:], later)


def test_seed_of_a_position_alone_decides_what_is_done_to_it(photo_folder: Path) -> None:
    split = open_data(str(photo_folder), size=96).train
    assert split is not None

    def seen(positions: list[int], seeds: list[int]) -> torch.Tensor:
        draws = replace(draw_epoch(len(seeds), STRENGTHS["strong"], seed=0, epoch=0), seeds=torch.tensor(seeds))
        draws = replace(draws, mirrored=torch.zeros(len(seeds), dtype=torch.bool))
        return fetch(split, Request(torch.tensor(positions), STRENGTHS["strong"], draws))

    crops = seen([3, 5, 3, 3], [7, 8, 7, 8])
    assert torch.equal(crops[0], crops[2])
    assert not torch.equal(crops[0], crops[3])
    assert torch.equal(crops[1:2], seen([5], [8]))


def test_random_crops_leave_the_random_state_of_the_caller_alone(photo_folder: Path) -> None:
    dataset = open_data(str(photo_folder), size=96)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    batches(dataset.train, 0, 1, batch_size=4, augmentation=augmentation_of(dataset))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_breaks_while_training_is_named_in_one_line(photo_folder: Path, workers: int) -> None:
    """And the processes that decode are gone, although someone holds the error: the program could not end before."""
    others = set(multiprocessing.active_children())
    dataset = open_data(str(photo_folder), size=96)
    for path in photo_folder.glob("*/*.jpg"):
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"(temple|flower)/\d\d\.jpg cannot be used: broken") as caught:
        batches(dataset.train, 0, 1, batch_size=4, workers=workers)
    assert "\n" not in str(caught.value)
    assert set(multiprocessing.active_children()) <= others


def test_augmentation_of_fits_size_and_classes(digits: Dataset, cifar: Dataset) -> None:
    assert augmentation_of(digits) == Augmentation(padding=1, flip=False)
    assert augmentation_of(cifar) == Augmentation(padding=4, flip=True)
    assert augmentation_of(replace(cifar, height=64, width=64)) == Augmentation(padding=8, flip=True)
    assert augmentation_of(replace(cifar, height=224, width=224)) == replace(STRENGTHS["light"], flip=True)


def test_flips_can_be_had_for_characters_and_refused_for_others(digits: Dataset, cifar: Dataset) -> None:
    letters = replace(digits, classes=tuple("abcdefghij"))
    for dataset in (digits, letters, cifar):
        assert [augmentation_of(dataset, flip=flip).flip for flip in ("yes", "no")] == [True, False]
        assert augmentation_of(dataset, flip="auto") == augmentation_of(dataset)
    assert not augmentation_of(letters).flip


def test_what_is_drawn_is_told_in_one_line(digits: Dataset, cifar: Dataset) -> None:
    large = replace(cifar, height=224, width=224)
    why = "classes are single letters or digits; --flip yes mirrors them"
    assert augmentation_line(digits) == f"augmentation: shifts by up to 1 pixel, no flips ({why})"
    assert augmentation_line(digits, flip="yes") == "augmentation: shifts by up to 1 pixel, flips"
    assert augmentation_line(cifar) == "augmentation: shifts by up to 4 pixels, flips"
    crops = "augmentation: random resized crops of 40 to 100 %"
    few = "(light, for fewer than 10,000 training images)"
    assert augmentation_line(large, flip="no") == f"{crops}, no flips (--flip no) {few}"
    assert augmentation_line(large) == f"{crops}, flips {few}"
    assert augmentation_line(large, "none") == "augmentation: none (--augmentation none)"
    assert augmentation_line(cifar, "strong") == (
        "augmentation: shifts by up to 4 pixels, flips, TrivialAugment, erasing in 25 %, mixup or cutmix"
        " (--augmentation strong)"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_the_device_equal_those_on_the_host(cifar: Dataset) -> None:
    split = cifar.split("train")
    options = {
        "normalization": NORMALIZATIONS["per_channel"](split),
        "augmentation": Augmentation(4, True),
        "batch_size": 128,
        "seed": 0,
        "start_step": 0,
        "stop_step": 3,
    }
    for host, device in zip(
        training_batches(split, device="cpu", **options),
        training_batches(split, device="cuda", **options),
        strict=True,
    ):
        torch.testing.assert_close(host.images, device.images.cpu(), rtol=1e-6, atol=1e-6)
        assert torch.equal(host.labels, device.labels.cpu())
