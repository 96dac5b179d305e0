"""So many images of a split keep the shares of the classes, wherever a command takes some and not all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from howdeep.analysis.inference import evaluate_target
from howdeep.analysis.options import EvaluationOptions, StudyOptions
from howdeep.analysis.study import open_study
from howdeep.cutting.images import cut_images
from howdeep.cutting.options import CutOptions
from howdeep.data import Split, open_data
from howdeep.data.sampling import Sampled, sample, sample_positions, sampled, shuffled
from howdeep.explorer.images import draw_sample
from howdeep.runs.options import TargetOptions
from howdeep.runs.target import Target, fresh_target
from howdeep.runtime.parts import parts_of
from howdeep.util.records import to_json

CLASSES = ("glass", "metal", "paper")
SIZES = (100, 50, 25)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.floats(0, 1), st.integers(0, 5))
def test_a_sample_keeps_shares_and_every_class_where_the_count_allows(
    sizes: list[int], share: float, seed: int
) -> None:
    labels = torch.cat([torch.full((size,), 3 * number) for number, size in enumerate(sizes)])
    count = round(share * len(labels))
    positions = sample_positions(labels, count, seed)
    assert len(positions.unique()) == count
    assert torch.equal(positions, positions.sort().values)
    found = labels[positions].bincount(minlength=3 * len(sizes))[::3].tolist()
    if count >= len(sizes):
        assert min(found) >= 1
    quotas = [count * size / len(labels) for size in sizes]
    if count < len(sizes) or min(quotas) >= 1:
        assert all(abs(have - quota) < 1 for have, quota in zip(found, quotas, strict=True))


def test_seed_and_count_decide_a_sample_and_nothing_else() -> None:
    split = open_data("digits").split("train")
    names = [list(sample(split, 64, seed).names) for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert len(set(names[0]) & set(sample(split, 128, 0).names)) == 64
    assert sample(split, None, 0) is sample(split, len(split), 0) is sample(split, 10**9, 0) is split
    assert sorted(shuffled(split, 0).names) == sorted(split.names)
    assert list(shuffled(split, 0).names) != list(split.names)


def test_fewer_images_than_classes_are_not_those_of_the_first_classes() -> None:
    labels = torch.arange(50).repeat_interleave(4)
    drawn = {label for seed in range(20) for label in labels[sample_positions(labels, 3, seed)].tolist()}
    assert len(drawn) > 25


@pytest.fixture(scope="module")
def sorted_by_class(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Test images in class folders: the first hundred are glass."""
    root, random = tmp_path_factory.mktemp("trash"), np.random.default_rng(0)
    for name, size in zip(CLASSES, SIZES, strict=True):
        for part, share in (("train", 2), ("val", 1), ("test", 1)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(share * size):
                Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number:03}.png")
    return str(root)


@pytest.fixture(scope="module")
def target(sorted_by_class: str) -> Target:
    return fresh_target(TargetOptions(target="cifar_resnet8"), sorted_by_class, seed=0, skip_broken=False)


EXPECTED = {"glass": 20, "metal": 10, "paper": 5}


def test_every_command_that_takes_some_images_takes_a_sample_and_records_it(
    sorted_by_class: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, record = evaluate_target(target, EvaluationOptions(data=sorted_by_class, limit=35, seed=2))
    assert {each.name: each.n for each in found.classes} == EXPECTED
    which = to_json(Sampled(split="test", images=35, of=175, seed=2, classes=3, of_classes=3))
    assert record["sample"] == which
    assert evaluate_target(target, EvaluationOptions(data=sorted_by_class))[1]["sample"] is None
    options = StudyOptions(data=sorted_by_class, limit=35, seed=2, device="cpu")
    said: list[str] = []
    with open_study(target, options, asked={}, report=said.append) as study:
        assert counted(study.batches.split) == EXPECTED
        assert study.origin["sample"] == which
    assert "35 of 175 test images: a stratified sample by seed 2, of 3 of 3 classes" in said
    shown = draw_sample(target, open_data(sorted_by_class), split="val", images=35, seed=0, device=torch.device("cpu"))
    assert shown.labels.bincount().tolist() == [20, 10, 5]
    assert len(shown.labels[:5].unique()) > 1, "mixed, so that the first ones are a sample too"
    monkeypatch.setattr(parts_of, "__defaults__", (4 * shown.pixels[0, 0].numel(),))
    few = draw_sample(target, open_data(sorted_by_class), split="val", images=35, seed=0, device=torch.device("cpu"))
    assert [len(batch.labels) for batch in few.batches] == [4] * 8 + [3], "large images pass a few at a time"
    assert torch.equal(torch.cat([batch.images for batch in few.batches]), shown.batches[0].images)
    assert torch.equal(few.labels, shown.labels)


def test_a_cut_is_measured_on_samples_and_says_which(sorted_by_class: str, target: Target) -> None:
    options = CutOptions(data=sorted_by_class, limit=70, calibration_images=35, statistics_images=35, seed=1)
    dataset = open_data(sorted_by_class)
    images = cut_images(target, options, dataset, torch.device("cpu"))
    labels = torch.cat([batch.labels for batch in images.calibration])
    assert labels.bincount().tolist() == [20, 10, 5]
    assert torch.cat([batch.labels for batch in images.evaluation]).bincount().tolist() == [40, 20, 10]
    assert sum(len(batch.labels) for batch in images.statistics) == 35
    assert {name: str(which) for name, which in images.samples.items()} == {
        "calibration": "35 of 175 validation images: a stratified sample by seed 1, of 3 of 3 classes",
        "evaluation": "70 of 175 validation images: a stratified sample by seed 1, of 3 of 3 classes",
        "statistics": "35 of 350 train images: a stratified sample by seed 1, of 3 of 3 classes",
    }


def counted(split: Split) -> dict[str, int]:
    return dict(zip(CLASSES, split.labels.bincount().tolist(), strict=True))


def test_a_sample_that_misses_classes_says_so(sorted_by_class: str) -> None:
    _, which = sampled(open_data(sorted_by_class), "test", 2, 0)
    assert str(which).endswith("of 2 of 3 classes")
