"""Tables of what there is to train: networks, and recipes to train them by; all in a line each, or one in full."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import groupby
from typing import TYPE_CHECKING

from howdeep.show.tables import Table
from howdeep.util.text import short

if TYPE_CHECKING:
    from howdeep.networks.counting import Description, Summary
    from howdeep.training.recipes import Recipe


def networks_table(networks: Iterable[Summary]) -> Table:
    """Return one row per network."""
    rows = [
        (one.name, one.family, f"{one.depth or 0:,}", f"{one.units:,}", f"{one.parameters:,}", short(one.macs))
        for one in networks
    ]
    return Table(heads=["network", "family", "layers", "units", "parameters", "MACs"], text=(0, 1), rows=rows)


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
