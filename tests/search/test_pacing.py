"""How fast finalists of published networks are trained, before they are."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from howdeep.data import NORMALIZATIONS, open_data
from howdeep.networks import build, spec_of
from howdeep.search.entrants import Entrant
from howdeep.search.finalists import Candidate
from howdeep.search.pacing import speed_of
from howdeep.training import precision
from howdeep.training.config import TrainConfig


def test_the_speed_of_a_training_is_that_of_whole_mini_batches_though_few_photos_pass_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    for split, each in (("train", 32), ("val", 2), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 256, (128, 128, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    dataset, passed, step = open_data(str(tmp_path), size=128), [], precision.train_step

    def counted(engine, optimizer, batch, *given, **how):
        passed.append(len(batch.labels))
        return step(engine, optimizer, batch, *given, **how)

    monkeypatch.setattr(precision, "train_step", counted)
    plain = {"precision": "fp32", "memory_format": "contiguous", "threads": 1, "workers": 0}
    config = TrainConfig(network="cifar_resnet8", data=str(tmp_path), recipe="finetune", **plain)
    entrant = SimpleNamespace(
        config=config,
        normalization=NORMALIZATIONS["per_channel"](dataset.split("train")),
        up_to=lambda depth: build(spec_of("cifar_resnet8", classes=2), seed=0),
    )
    candidate = SimpleNamespace(depth=None)
    found = speed_of(cast(Entrant, entrant), cast(Candidate, candidate), dataset, torch.device("cpu"))
    assert set(passed) == {16, 32}  # trials pass a part
    assert passed[-2:] == [32, 32]
    assert found.seconds_per_step > 0
