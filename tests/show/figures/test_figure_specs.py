"""What figures draw of hand-made records: four whole specifications, and of every other figure the rows of its data.

`python tests/golden/figures.py` writes the specifications anew.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.golden.figures import FOLDER, WHOLE, rounded, text_of
from tests.show.cases import CHARTS, chart, spec

from howdeep.show import figures

ROWS: dict[str, tuple[int, list[dict]]] = {
    "by_depth": (3, [{"depth": 20, "family": "plain", "error_percent": 8.8, "low": 8.2, "high": 9.4}]),
    "confusion": (4, [{"true": 0, "given": 1, "count": 2, "share": 33.3333}, {"true": 1, "given": 1, "count": 3}]),
    "confusion_matrix_many": (15, [{"pair": "class 39 → class 0", "count": 39, "share": 43.8202}]),
    "costs": (
        18,
        [{"depth": 56, "value": 6.16, "what": "predicted"}, {"depth": 8, "value": 0.8, "what": "measured, fitted on"}],
    ),
    "curves_stochastic": (13, [{"epoch": 2.0, "open": 6.0}, {"epoch": 3.0, "what": "validation", "error": 36.6667}]),
    "degradation": (8, [{"depth": 56, "family": "plain", "error_percent": 60.0, "train_error_percent": 59.0}]),
    "evaluation": (8, [{"confidence": 70.0, "accuracy": 75.0, "n": 4}, {"true": 1, "given": 0, "count": 1}]),
    "flow": (9, [{"unit": 2, "what": "stream", "value": 1.2}, {"unit": 3, "what": "gradient", "value": 0.333333}]),
    "lesion_duplicate": (6, [{"unit": 2, "change": 3.0, "text": "3.0"}, {"unit": 3, "change": None, "text": ""}]),
    "lesion_pairs": (3, [{"first": 2, "second": 3, "change": 30.0}]),
    "lesion_permute": (10, [{"k": 2, "tau": 0.6, "error": 26.0}, {"tau": 1.0, "error": 6.0}]),
    "lesion_random": (8, [{"k": 1, "error": 17.0}, {"k": 2, "error": 26.5}, {"k": 0, "error": 6.0}]),
    "overlaid": (
        8,
        [{"run": "one", "epoch": 3.0, "what": "validation", "error": 36.6667}, {"run": "two", "error": 30.0}],
    ),
    "path_lengths": (8, [{"length": 1, "share": 50.0}, {"length": 2, "share": 37.5}]),
    "paths": (16, [{"length": 1, "value": 42.0153}, {"length": 2, "value": -1.04576}, {"from": -0.5, "to": 1.5}]),
    "paths_sampled": (16, [{"length": 1, "value": 42.0153}, {"length": 1, "value": 0.60206}]),
    "probe": (
        10,
        [
            {"place": 2, "error": 9.0, "ms": 3.0, "chosen": True},
            {"place": 4, "error": 9.5, "ms": 5.0, "chosen": False},
            {"place": 2, "error": 11.0},
        ],
    ),
    "reliability": (4, [{"confidence": 90.0, "accuracy": 66.6667, "n": 6}]),
    "strip": (9, [{"unit": 2, "change": 40.0, "pale": False}, {"unit": 1, "change": None, "pale": True}]),
    "study_of_paths": (37, [{"length": 1, "through": [2]}, {"length": 0, "value": 45.5166}]),
    "unravelled": (24, [{"length": 2, "through": [1, 3]}, {"text": "length 1: 3 paths, 41 % of the gradient"}]),
    "transfer": (
        8,
        [
            {"network": "timm:tf_efficientnet_lite0 at 96", "depth": 1, "error": 20.0},
            {"ms": 3.84, "error": 12.0, "text": "12.0 %"},
            {"ms": 4.0, "text": "budget 4 ms"},
        ],
    ),
}
"""How many different rows a figure has, and some of them, by what the record says."""


def rows(part: Any) -> Iterator[dict]:
    """Yield the rows of all data of a specification."""
    if isinstance(part, dict):
        yield from part.get("data", {}).get("values", []) if isinstance(part.get("data"), dict) else []
        part = list(part.values())
    for inner in part if isinstance(part, list) else []:
        yield from rows(inner)


@pytest.mark.parametrize("name", WHOLE)
def test_a_figure_is_its_golden_specification(name: str) -> None:
    assert text_of(chart(name)) == (FOLDER / f"{name}.json").read_text()


@pytest.mark.parametrize("name", ROWS)
def test_a_figure_draws_the_numbers_of_its_record(name: str) -> None:
    drawn: list[dict] = []
    for row in rows(rounded(spec(name))):
        drawn += [] if row in drawn else [row]
    count, expected = ROWS[name]
    assert len(drawn) == count
    for wanted in expected:
        assert any(wanted.items() <= row.items() for row in drawn if wanted.keys() <= row.keys()), wanted


def test_every_figure_is_compared() -> None:
    own = {name for name, one in vars(figures).items() if getattr(one, "__module__", "").startswith(figures.__name__)}
    drawn = own - {"save", "svg", "check_ending", "dark_rules"}
    kinds = {name.split("_many")[0] for name in CHARTS}
    left = {name for name in drawn if not any(kind.startswith(name) for kind in kinds)}
    assert left == {"can_unravel", "ladder"}  # a question; and the costs of one ladder
    assert {*WHOLE, *ROWS} == set(CHARTS)
    assert {path.stem for path in FOLDER.glob("*.json")} == set(WHOLE)
