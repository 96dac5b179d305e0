"""Write ``docs/json.md``: every entry of every record that ``--json`` writes, from the dataclasses themselves."""

import ast
import inspect
import re
import textwrap
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_type_hints

from howdeep.analysis.inference import Prediction
from howdeep.analysis.lesion import UnitEffect
from howdeep.data.check import DataReport
from howdeep.networks.counting import Description, Summary
from howdeep.runs.listing import Listed
from howdeep.show.report.reading import TYPES
from howdeep.training.recipes import Recipe
from howdeep.util.records import IN_MEMORY, KIND, SCHEMA, SCHEMA_NOW

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
COMMANDS = {
    "fit": "fit",
    "transfer": "fit --from",
    "degradation": "degradation",
    "probe": "probe",
    "cut": "cut",
    "evaluation": "evaluate",
    "lesion": "lesion",
    "paths": "paths",
    "flow": "flow",
    "cost": "cost",
    "export": "export",
}
"""Kind of a record → the command that writes it."""
SMALL = {
    "network": ("networks NETWORK", Description),
    "recipe": ("recipes NAME", Recipe),
    "check": ("check", DataReport),
}
"""Records that no report reads."""
LISTS = {
    "networks": ("networks", Summary),
    "recipes": ("recipes", Recipe),
    "runs": ("runs", Listed),
    "predictions": ("predict", Prediction),
}
"""Records that are a list, which is called like the record."""
HEAD = f"""# What `--json` writes

`--json FILE` writes the result of a command as one JSON object, `--json -` to standard output. This page is made from
the code by `python tests/golden/records.py`, and a test holds it to that. All of them begin with:

| entry | is |
| --- | --- |
| `{SCHEMA}` | {SCHEMA_NOW}; another number means that entries were renamed or mean something else |
| `{KIND}` | the kind of the record: a heading of this page |
| `versions` | Python's and those of the libraries that numbers come from |

Where a command measures, there are also `command` (as a shell reads it), `device` (type, name, threads), and as far as
they apply `target`, `data`, `split`, `precision`, `notes` and `sample` (how many images of how many, by which seed).
Errors are in percent, intervals are 95 %, memory is in bytes; what is not known is `null`. Units are counted from 1
where they are called `index` or `unit`.
"""
IMPORTED = "`out`, `kept`, `renamed` (theirs, ours), `left` (name, reason), `missing`, `notes`"


def page() -> str:
    """Return the page."""
    parts: dict[str, type] = {}
    text = HEAD
    for kind, record in TYPES.items():
        text += _section(f"## {kind}", f"`howdeep {COMMANDS[kind]}`: {_said(record)}", record, parts)
    for kind, (command, record) in SMALL.items():
        text += _section(f"## {kind}", f"`howdeep {command}`: {_said(record)}", record, parts)
    for kind, (command, record) in LISTS.items():
        text += f"\n## {kind}\n\n`howdeep {command}`: the entry `{kind}`, a list of {_kind(record, parts)}.\n"
    text += f"\n## import\n\n`howdeep import`: {IMPORTED}.\n"
    text += "\n# Parts\n"
    told: set[str] = set()
    while left := sorted(parts.keys() - told):
        told.add(left[0])
        record = parts[left[0]]
        text += _section(f"## {record.__name__}", _said(record), record, parts)
    return _sorted_parts(text)


def _sorted_parts(text: str) -> str:
    """Return the page with its parts by name: those within others were found late."""
    head, parts = text.split("\n# Parts\n")
    sections = sorted(re.split(r"\n(?=## )", parts.strip("\n")))
    return f"{head}\n# Parts\n\n" + "\n".join(f"{section.strip()}\n" for section in sections)


def _section(heading: str, said: str, record: type, parts: dict[str, type]) -> str:
    rows = [f"| `{name}` | {kind} | {what} |\n" for name, kind, what in entries(record, parts)]
    return f"\n{heading}\n\n{said}\n\n| entry | kind | is |\n| --- | --- | --- |\n{''.join(rows)}"


def entries(record: type, parts: dict[str, type]) -> list[tuple[str, str, str]]:
    """Return name, kind and meaning of every entry of a dataclass; dataclasses within it are noted as parts."""
    hints, said = get_type_hints(record), _docstrings(record)
    held = [one.name for one in fields(record) if one.metadata != IN_MEMORY]
    assert record is UnitEffect or said.keys() >= set(held), f"{record.__name__} has entries that nothing explains"
    return [(name, _kind(hints[name], parts), said.get(name, "As of an [Effect](#effect).")) for name in held]


def _kind(hint: Any, parts: dict[str, type]) -> str:
    """Return what JSON has for an annotation."""
    words = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", dict: "object"}
    if hint in words:
        return words[hint]
    if is_dataclass(hint):
        parts.setdefault(hint.__name__, hint)  # type: ignore[union-attr]
        return f"[{hint.__name__}]({_anchor(hint)})"  # type: ignore[union-attr]
    inner = get_args(hint)
    if getattr(hint, "__origin__", None) is Union or isinstance(hint, UnionType):
        return " or ".join(dict.fromkeys(_kind(one, parts) for one in inner))
    if getattr(hint, "__origin__", None) in (tuple, list):
        own = [one for one in inner if one is not Ellipsis]
        several = "list of " if Ellipsis in inner or len(inner) == 1 else f"{len(inner)} of "
        return several + " and ".join(dict.fromkeys(_kind(one, parts) for one in own))
    if getattr(hint, "__origin__", None) is dict:
        return f"object of {_kind(inner[1], parts)}"
    if inner:  # a choice of texts
        return " or ".join(f"`{one}`" for one in inner)
    return "object"


def _anchor(record: Any) -> str:
    return f"#{record.__name__.lower()}"


def _said(record: type) -> str:
    """Return the docstring of a dataclass: its first sentence."""
    return _line((inspect.getdoc(record) or "").partition("\n\n")[0])


def _docstrings(record: type) -> dict[str, str]:
    """Return the text below each field of a dataclass and of those that it is made from."""
    found: dict[str, str] = {}
    for one in reversed(record.__mro__):
        if is_dataclass(one):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
            assert isinstance(body, ast.ClassDef)
            for field, below in zip(body.body, body.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    assert isinstance(field.target, ast.Name)
                    found[field.target.id] = _line(ast.literal_eval(below.value))
    return found


def _line(text: str) -> str:
    """Return a docstring in one line of Markdown."""
    text = re.sub(r":\w+:`[~.]?([\w.]+)`", r"`\1`", text).replace("``", "`")
    return re.sub(r"\bNone\b", "null", " ".join(text.split()).replace("|", "\\|"))


if __name__ == "__main__":
    PAGE.write_text(page())
