"""Tables of recipes: all in a line each, or every value of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from howdeep.show.tables import Table

if TYPE_CHECKING:
    from howdeep.training.recipes import Recipe


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
    rows = [(name.replace("_", " "), _text(getattr(recipe, name))) for name in names]
    return Table(title=f"{recipe.name}: {recipe.source}", heads=["value", "is"], text=(0, 1), rows=rows)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
