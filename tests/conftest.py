from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ONE_THREAD = ("training", "resume", "dissect", "costs", "ladders", "cutting", "fitting", "explorer", "report", "gpu")
"""Folders whose tests compare bits: sums are added in the same order on every machine and in every process."""
SHARED = Path(__file__).resolve().parents[2] / "shared"
CIFAR10 = SHARED / "data" / "cifar10"
WEIGHTS = SHARED / "weights"


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """Folder with train.parquet and test.parquet: all 60,000 CIFAR-10 images."""
    if not CIFAR10.is_dir():
        pytest.skip("CIFAR-10 is absent: ../shared/data/cifar10 beside the repository")
    return CIFAR10


@pytest.fixture(scope="session")
def weights() -> Path:
    """Folder with the public CIFAR-10 checkpoints."""
    if not WEIGHTS.is_dir():
        pytest.skip("the public checkpoints are absent: ../shared/weights")
    return WEIGHTS


@pytest.fixture(autouse=True, scope="module")
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    if request.path.parent.name in ONE_THREAD:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
