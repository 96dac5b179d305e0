"""Tables of networks before they are trained: the catalogue, and one network part by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from howdeep.show.tables import Table
from howdeep.util.text import short

if TYPE_CHECKING:
    from howdeep.networks.counting import Description, Summary


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
