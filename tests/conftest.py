import gc
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# Tests compare bits: sums are added in the same order on every machine and in every process. And two workers run side
# by side, so that a second thread of one would wait for a core of the other. Processes that tests start inherit it.
# torch reads it when it is imported, which the process that hands tests out to others never does.
os.environ["OMP_NUM_THREADS"] = "1"
# The few tests with more threads let them sleep while they wait: spinning takes the core from the other worker.
os.environ["OMP_WAIT_POLICY"] = "passive"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage among what thousands of tests import: that took a quarter of this time, then a twentieth."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000)  # of new objects: at 700 it looks some ten times a second
        gc.enable()


def pytest_unconfigure() -> None:
    """At the end it is garbage as well: triton complains of what is left of it then."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest test begin first: at the end the other workers would wait for it.

    Then come those that start processes, in the share of one worker, which alone needs a server of forks.
    """
    items.sort(key=lambda item: ("guide_executes" not in item.name, not _forks(getattr(item, "module", None))))


@cache
def _forks(module: ModuleType | None) -> bool:
    origins = {
        getattr(value, "__module__", None) or getattr(value, "__name__", "")
        for value in getattr(module, "__dict__", {}).values()
    }
    return hasattr(module, "FORKS") or bool(origins & {"tests.processes", "tests.runs.workers"})


# The gate draws the same examples always; HYPOTHESIS_PROFILE=default draws 100 others each time, as hypothesis does.
settings.register_profile("gate", max_examples=40, deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


@pytest.fixture(scope="session", autouse=True)
def _quick() -> None:
    import torch
    from tests import quick

    torch.set_num_threads(1)
    quick.install()


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
