"""The house is as docs/design.md draws it: rooms in one order, imports only upwards."""

import ast
import re
from collections import Counter
from pathlib import Path

import howdeep

SOURCE = Path(howdeep.__file__).parent
LATE = {"util/records.py": {"show"}, "chain.py": {"show", "survival"}}
"""What imports from a later room when it is called: whoever holds a record or a chain need not know who draws it, or
its gates."""
DESIGN = Path(__file__).parents[1] / "docs" / "design.md"


def rooms() -> list[str]:
    """Return the rooms in the order in which design.md draws them."""
    drawing = DESIGN.read_text().split("    src/howdeep/\n")[1].split("    tests/")[0]
    return [name.removesuffix(".py") for name in re.findall(r"^      ([a-z_]+(?:/|\.py)) ", drawing, re.MULTILINE)]


def imported(path: Path) -> set[str]:
    """Return the rooms that a file imports from, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("howdeep"):
            parts = [(node.module or "").split(".")[1:2] or [alias.name] for alias in node.names]
            names |= {part[0] for part in parts}
    return names


def test_every_room_is_drawn_and_none_is_missing() -> None:
    drawn = {name.rstrip("/") for name in rooms()}
    there = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert drawn | {"__main__"} == there


def test_a_file_imports_only_from_rooms_above_it() -> None:
    order = [name.rstrip("/") for name in rooms() if name != "__init__"]
    upwards = []
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room in order:
            above = (
                set(order[: order.index(room) + 1])
                | {"__version__"}
                | LATE.get(path.relative_to(SOURCE).as_posix(), set())
            )
            upwards += [f"{path.relative_to(SOURCE)} imports {other}" for other in sorted(imported(path) - above)]
    assert not upwards


def test_folders_are_two_deep() -> None:
    assert not [path for path in SOURCE.rglob("*.py") if len(path.relative_to(SOURCE).parts) > 3]


def test_every_file_that_the_design_names_is_there() -> None:
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", DESIGN.read_text())
    assert named
    for name in named:
        assert (SOURCE / name).exists() or (DESIGN.parents[1] / name).exists(), name


def test_every_file_of_tests_has_a_name_of_its_own() -> None:
    """Pytest imports them without packages, so that the second of one name would end the collection."""
    times = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in times.items() if count > 1] == []
