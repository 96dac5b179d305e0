"""Two networks on the same images: what the page says of them together."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from howdeep.explorer.beside import side_by_side
from howdeep.explorer.engine import Engine
from howdeep.explorer.options import ExploreOptions
from howdeep.explorer.serve import open_pages
from howdeep.runs.folder import open_run
from howdeep.runs.target import run_target
from howdeep.util.errors import UserError


def opened(run: Path, **options) -> list[Engine]:
    """Return the run twice."""
    plain = ExploreOptions(data="digits", precision="fp32", device="cpu", images=32, **options)
    networks = [(run_target(open_run(run), print), (str(run),)) for _ in range(2)]
    return [page.engine for page in open_pages(networks, plain)]


def test_a_network_beside_itself_does_not_differ(run: Path) -> None:
    one, two = opened(run)
    assert one.cache.limit == two.cache.limit == 1 << 29, "what is kept is shared among both"
    error = 100 * torch.cat([batch.wrong for batch in one.before]).double().mean()
    found = side_by_side([one, two])
    assert found.names == (str(run), str(run))
    assert found.finding.startswith(f"6 units and 6 units: error {error:.1f} → {error:.1f} %, +0.0 points (95 %: −")
    assert ", n = 32); " in found.finding


def test_images_or_classes_that_differ_are_refused(run: Path) -> None:
    (one, _), (other, _) = opened(run), opened(run, seed=1)
    renamed = replace(one, classes=(*one.classes[:-1], "tenth"))
    for two in (other, renamed):
        with pytest.raises(UserError, match=r"cannot stand beside .*: their images or classes are others"):
            side_by_side([one, two])
