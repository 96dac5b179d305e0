"""Write the golden specifications: what four figures draw of hand-made records."""

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_suffix("")
WHOLE = ("curves", "fit", "frontier", "lesion_delete")
"""A figure of several runs, of points with a verdict, of two panels with budgets, and of units."""


def rounded(spec: Any) -> Any:
    """Return a specification with six digits of every number, which sums in another order do not change."""
    if isinstance(spec, dict):
        return {name: rounded(value) for name, value in spec.items()}
    if isinstance(spec, list):
        return [rounded(value) for value in spec]
    return float(f"{spec:.6g}") if isinstance(spec, float) else spec


def text_of(chart: Any) -> str:
    """Return what a golden file holds: the specification without the version of its schema and its defaults."""
    spec = {name: value for name, value in chart.to_dict().items() if name not in ("$schema", "config")}
    return json.dumps(rounded(spec), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.show.cases import CHARTS

    FOLDER.mkdir(exist_ok=True)
    for name in WHOLE:
        (FOLDER / f"{name}.json").write_text(text_of(CHARTS[name]()))
