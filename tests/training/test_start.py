"""Where a run begins: networks of libraries, given weights, other runs; what does not fit is one line and no folder."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.conftest import SHARED

from howdeep import cli
from howdeep.runs.folder import RECORD, open_run

NETWORK = "timm:test_resnet"
OPTIONS = ["--epochs", "1", "--limit", "60", "--precision", "fp32", "--memory-format", "contiguous", "--threads", "1"]
LITE0 = SHARED / "weights" / "timm" / "tf_efficientnet_lite0.safetensors"
SIGN = SHARED / "data" / "sign"


def train(network: str, out: Path, *more: object) -> list[str]:
    data = [] if "--data" in more else ["--data", "digits"]
    return ["train", network, *data, "--out", str(out), "--device", "cpu", *OPTIONS, *map(str, more)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a small network's weights for 1,000 classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def begun(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that began with them."""
    out = tmp_path_factory.mktemp("begun") / "run"
    assert cli.run(train(NETWORK, out, "--weights", weights, "--size", 32)) == 0
    return out


def test_a_run_with_given_weights_says_what_was_kept_and_how_its_images_are_prepared(begun: Path) -> None:
    record = json.loads((begun / RECORD).read_bytes())
    assert record["network"] == {"library": NETWORK, "classes": 10, "size": 32}
    assert record["start"]["reset"] == ["head.fc.weight", "head.fc.bias"]
    assert record["data"]["channels"] == 3
    assert record["data"]["crop"] == {"share": 0.95, "interpolation": "bilinear"}
    assert record["normalization"]["mean"] == record["normalization"]["std"] == [[[0.5]]] * 3
    assert open_run(begun).chain()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
