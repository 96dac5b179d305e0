"""Tables of what there is to begin with: networks, recipes, data; all in a line each, or one in full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from howdeep.show.tables import Table
from howdeep.util.text import first_few, fixed, number, short, whole

if TYPE_CHECKING:
    from howdeep.chain import Chain
    from howdeep.data.check import DataReport, Group
    from howdeep.networks.counting import Description, Summary
    from howdeep.runs.listing import Listed
    from howdeep.training.recipes import Recipe

SHOWN, SHOWN_CLASSES = 5, 24
"""Sizes, faults of one kind, and classes that are told of data."""
LINE = 78
"""Characters of an indented line."""


def networks_table(networks: Iterable[Summary]) -> Table:
    """Return one row per network."""
    rows = [
        (one.name, one.family, f"{one.depth or 0:,}", f"{one.units:,}", f"{one.parameters:,}", short(one.macs))
        for one in networks
    ]
    heads = ["network", "family", "layers", "units", "parameters", "MACs"]
    return Table(heads=heads, text=(0, 1), rows=rows, drop=(1, 3, 5, 4))


def units_table(network: Description) -> Table:
    """Return one row per part, equal units in a row together, and the sums."""
    rows = []
    # Units that are equal but for their names and numbers stand in one row.
    groups = groupby(network.parts, lambda one: replace(one, name="unit" if one.index else one.name, index=None))
    for one, group in groups:
        first, *others = group
        name = first.name
        if others:
            own = [part.name for part in (first, others[-1]) if not part.name.startswith("unit ")]
            name = "–".join(own) if own else f"units {first.index}–{others[-1].index}"
        shape = "×".join(map(str, one.output))
        rows.append((name, shape, one.shortcut or "", one.merge or "", f"{one.parameters:,}", short(one.macs)))
    rows.append(("in all", "", "", "", f"{network.parameters:,}", short(network.macs)))
    return Table(
        heads=["part", "output", "shortcut", "merge", "parameters", "MACs"],
        text=(0, 1, 2, 3),
        rows=rows,
        below=["units in one row are equal; parameters and MACs are those of each"],
    )


def runs_table(runs: Sequence[Listed], folder: Path) -> Table:
    """Return one row per run; folders are told from the one that is listed on."""
    rows = []
    for one in runs:
        done, asked = number(one.epochs), number(one.of_epochs)
        epochs = done if done == asked or one.of_epochs is None else f"{done} of {asked}"
        n = "" if one.images is None else whole(one.images)
        name = str(Path(one.run).relative_to(folder)) if one.run != str(folder) else one.run
        rows.append((name, one.network, one.data or "", epochs, fixed(one.error_percent), one.split or "", n, one.when))
    heads = ["run", "network", "data", "epochs", "error %", "of", "images", "last written"]
    return Table(heads=heads, text=(0, 1, 2, 5, 7), rows=rows, drop=(6, 3, 7, 2, 5))


def recipes_table(recipes: Iterable[Recipe]) -> Table:
    """Return one row per recipe."""
    rows = [
        (
            one.name,
            one.optimizer,
            f"{one.epochs:g} epochs" if one.steps is None else f"{one.steps:,} steps",
            str(one.batch_size),
            f"{one.schedule.peak:g}",
            one.source.split(":")[0],
        )
        for one in recipes
    ]
    return Table(heads=["recipe", "optimizer", "length", "batch", "rate", "source"], text=(0, 1, 2, 5), rows=rows)


def recipe_table(recipe: Recipe) -> Table:
    """Return every value of a recipe that its optimizer reads; what it does not have is a dash."""
    others = ("betas",) if recipe.optimizer == "sgd" else ("momentum", "nesterov")
    names = [field.name for field in fields(recipe) if field.name not in ("name", "source", *others)]
    rows = []
    for name in names:
        value = getattr(recipe, name)
        text = "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        rows.append((name.replace("_", " "), text))
    return Table(title=f"{recipe.name}: {recipe.source}", heads=["value", "is"], text=(0, 1), rows=rows)


def html_of(chain: Chain) -> str:
    """Return the size of a chain, and its units with their share of the parameters."""
    total, *counts = [sum(one.numel() for one in module.parameters()) for module in (chain, *chain.units)]
    table = "<tr><th>unit<th>merge<th colspan=2>parameters"
    for name, unit, count in zip(chain.names, chain.units, counts, strict=True):
        bar = f'<div style="background: #4477aa; height: 0.7em; width: {20 * count / max(total, 1):.2f}em">'
        table += f"<tr><td>{escape(name)}<td>{type(unit.merge).__name__}<td>{count:,}<td>{bar}</div>"
    title = f"<summary>chain of {len(chain)} units, {total:,} parameters</summary>"
    return f"<details open>{title}<table>{table}</table></details>"


def check_table(report: DataReport) -> Table:
    """Return how many images of which class each split has, and what is wrong with any; long lists say what is left."""
    total = sum(sum(counts.values()) for counts in report.counts.values())
    sees = "×".join(map(str, report.shape)) if report.shape else "nothing"
    columns = list(report.counts.values())
    names = list(columns[0])
    rows = [(name, *(whole(counts[name]) for counts in columns)) for name in names[:SHOWN_CLASSES]]
    if len(names) > SHOWN_CLASSES:
        rows.append((f"… and {len(names) - SHOWN_CLASSES:,} more classes", *[""] * len(columns)))
    rows.append(("all", *(whole(sum(counts.values())) for counts in columns)))
    return Table(
        title=f"{report.name}: {total:,} usable images; the network sees {sees}",
        lines=[*report.notes, ""],
        heads=["class", *report.counts],
        text=(0,),
        rows=rows,
        below=[
            "",
            f"sizes   {_shares(report.sizes)}",
            f"modes   {_shares(report.modes)}",
            "",
            *_listed("broken", [f"{each.name} ({each.kind}: {each.reason})" for each in report.problems]),
            *_listed("duplicates", [_members(group, group.splits) for group in report.duplicates]),
            *_listed("shared between splits", [_members(group, group.splits) for group in report.shared]),
            *_listed("same image, other class", [_members(group, group.classes) for group in report.conflicts]),
        ],
    )


def _shares(histogram: Mapping[str, int]) -> str:
    return first_few([f"{value} ({count:,})" for value, count in histogram.items()], SHOWN)


def _listed(title: str, items: Sequence[str]) -> list[str]:
    """Return a heading with the count, and the first few items below it, a line each."""
    shown = [item if len(item) <= LINE else f"{item[: LINE - 1]}…" for item in items[:SHOWN]]
    more = [f"  … and {len(items) - SHOWN:,} more"] if len(items) > SHOWN else []
    return [f"{title}: {len(items) or 'none'}", *(f"  {item}" for item in shown), *more]


def _members(group: Group, remarks: Sequence[str]) -> str:
    return " = ".join(f"{name} [{remark}]" for name, remark in zip(group.names, remarks, strict=True))
