"""A small network with stochastic depth, trained for a moment, and the page of it."""

from pathlib import Path

import pytest

from howdeep import cli
from howdeep.explorer.engine import Engine
from howdeep.explorer.options import ExploreOptions
from howdeep.explorer.serve import open_pages
from howdeep.explorer.server import Page
from howdeep.runs.folder import open_run
from howdeep.runs.target import run_target


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder: six units on the digits, those of the survival rule linear:0.5."""
    place = tmp_path_factory.mktemp("runs") / "run"
    options = ["--data", "digits", "--epochs", "2", "--survival", "linear:0.5"]
    options += ["--precision", "fp32", "--memory-format", "contiguous"]
    assert cli.run(["train", "cifar_resnet14", "--out", str(place), *options]) == 0
    return place


@pytest.fixture(scope="session")
def page(run: Path) -> Page:
    """What a server answers from."""
    target = run_target(open_run(run), print)
    options = ExploreOptions(data="digits", precision="fp32", device="cpu")
    return open_pages([(target, (str(run),))], options)[0]


@pytest.fixture
def engine(page: Page) -> Engine:
    """The network of that page, on all 179 validation images."""
    return page.engine
