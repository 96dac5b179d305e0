"""The page has the colours of the charts and of the report: a cost looks the same wherever it is seen."""

import json
import re
from pathlib import Path

from howdeep.explorer import server
from howdeep.show.figures.drawing import DARK
from howdeep.show.figures.lesion import COLOURS, MARKS


def colours(file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables of a style sheet, light and dark."""
    light, dark, *_ = re.findall(r":root \{(.*?)\}", file.read_text(), re.DOTALL)
    return tuple(dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in (light, dark))  # type: ignore[return-value]


def test_costs_have_the_colours_of_the_strip() -> None:
    light, dark = colours(server.STATIC / "page.css")
    names = [f"cost-{number}" for number in range(len(COLOURS))]
    assert [light[name] for name in names] == list(COLOURS.values())
    assert [dark[name] for name in names] == [DARK[colour] for colour in COLOURS.values()]
    script = (server.STATIC / "costs.js").read_text()
    said = {name: json.loads(found) for name, found in re.findall(r"const (STOPS|MARKS) = (\[.*?\]);", script)}
    assert said == {"STOPS": list(COLOURS), "MARKS": list(MARKS)}
