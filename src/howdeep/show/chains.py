"""What a notebook shows of a chain."""

from html import escape

from howdeep.chain import Chain


def html_of(chain: Chain) -> str:
    """Return the size of a chain, and its units with their share of the parameters."""
    total, *counts = [sum(one.numel() for one in module.parameters()) for module in (chain, *chain.units)]
    table = "<tr><th>unit<th>merge<th colspan=2>parameters"
    for name, unit, count in zip(chain.names, chain.units, counts, strict=True):
        bar = f'<div style="background: #4477aa; height: 0.7em; width: {20 * count / max(total, 1):.2f}em">'
        table += f"<tr><td>{escape(name)}<td>{type(unit.merge).__name__}<td>{count:,}<td>{bar}</div>"
    title = f"<summary>chain of {len(chain)} units, {total:,} parameters</summary>"
    return f"<details open>{title}<table>{table}</table></details>"
