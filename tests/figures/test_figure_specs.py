"""Every figure draws of hand-made records what it drew before; `python tests/golden/figures.py` writes it anew."""

import pytest
from tests.figures.cases import CHARTS
from tests.golden.figures import FOLDER, text_of

from howdeep import figures


@pytest.mark.parametrize("name", CHARTS)
def test_a_figure_is_its_golden_specification(name: str) -> None:
    assert text_of(CHARTS[name]()) == (FOLDER / f"{name}.json").read_text()


def test_every_figure_has_a_golden_specification() -> None:
    drawn = {name for name in vars(figures) if callable(vars(figures)[name])} - {"save", "svg", "check_ending"}
    kinds = {name.split("_many")[0] for name in CHARTS}
    left = {name for name in drawn if not any(kind.startswith(name) for kind in kinds)}
    assert left == {"can_unravel"}  # a question, not a figure
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CHARTS)
