"""Public CIFAR-10 checkpoints, trained elsewhere, reach here the error that their networks have."""

import io

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from howdeep.convert import match, read_weights
from howdeep.networks import build

FILES = [("cifar_resnet20", "resnet20-12fca82f.th", 18.97), ("cifar_resnet56", "resnet56-4bfd9763.th", 16.80)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(("name", "file", "error"), FILES)
def test_every_tensor_of_the_file_finds_its_place(weights, name, file, error):
    chain = build(name)
    theirs = read_weights(weights / file)
    matched = match(theirs, chain)
    chain.load_state_dict(matched.state)
    assert matched.left == matched.kept == ()
    assert {theirs for theirs, _ in matched.renamed} == theirs.keys()
    assert all(name.endswith("num_batches_tracked") for name in matched.missing)
    assert torch.equal(chain.state_dict()["head.linear.weight"], theirs["linear.weight"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "error"), FILES)
def test_error_on_the_test_images_is_the_known_one(weights, cifar10, name, file, error):
    chain = build(name)
    chain.load_state_dict(match(read_weights(weights / file), chain).state)
    table = parquet.read_table(cifar10 / "test.parquet")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in table["img"].to_pylist()])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    chain.eval()
    with torch.inference_mode():
        guesses = torch.cat([chain(batch).argmax(1) for batch in images.split(500)])
    measured = 100 * (guesses != torch.tensor(table["label"].to_pylist())).double().mean().item()
    assert measured == pytest.approx(error, abs=0.05)
