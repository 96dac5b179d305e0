"""Units that are taken out because they were named, whatever that costs."""

from collections import Counter
from collections.abc import Sequence

from howdeep.chain import Chain
from howdeep.cutting.records import CutBudget, Removal
from howdeep.errors import SHOWN, UserError


def named_units(chain: Chain, remove: Sequence[int]) -> list[Removal]:
    """Return the units of these numbers, from 1, by rising number.

    Raises:
        UserError: A number is there twice, there is no such unit, or it changes the shape and has no shortcut.
    """
    repeated = [number for number, times in Counter(remove).items() if times > 1]
    if repeated:
        raise UserError(f"remove {_listed(remove)} is not allowed: unit {repeated[0]} is named twice")
    for number in remove:
        _check(chain, number)
    return [Removal(index=number, name=chain.names[number - 1], loss=None) for number in sorted(remove)]


def refuse_both(budget: CutBudget, remove: Sequence[int]) -> None:
    """Refuse units that are named next to a budget, which chooses them.

    Raises:
        UserError: Both are given.
    """
    if remove and budget.given:
        limits = ", ".join(name.removesuffix("_ms").removesuffix("_share").replace("_", "-") for name in budget.given)
        raise UserError(f"remove {_listed(remove)} and a budget ({limits}) contradict each other: give one")


def _check(chain: Chain, number: int) -> None:
    able = [index for index, unit in enumerate(chain.units, 1) if unit.merge.removable]
    if not 1 <= number <= len(chain):
        raise UserError(f"remove {number} is not allowed: the network has {len(chain)} units, numbered from 1")
    if number not in able:
        raise UserError(
            f"remove {number} is not allowed: {chain.names[number - 1]} changes the shape and has no shortcut;"
            f" units that can go: {_listed(able) or 'none'}"
        )


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return " ".join(map(str, numbers[:SHOWN])) + more
