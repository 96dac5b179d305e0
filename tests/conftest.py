from pathlib import Path

import pytest

CIFAR10 = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """Folder with train.parquet and test.parquet: all 60,000 CIFAR-10 images."""
    if not CIFAR10.is_dir():
        pytest.skip("CIFAR-10 is absent: ../shared/data/cifar10 beside the repository")
    return CIFAR10
