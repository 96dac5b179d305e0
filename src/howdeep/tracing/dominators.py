"""Immediate dominators: the nearest earlier node through which all data must pass."""

from collections.abc import Sequence


def immediate_dominators(sources: Sequence[Sequence[int]]) -> list[int | None]:
    """Return the immediate dominator of every node of a graph in the order of its computation.

    One pass is enough, as nodes are read only after they are computed: the dominator of a node is where the ways up
    from all its sources meet (Cooper, Harvey, Kennedy 2001).

    Args:
        sources: For every node the nodes that it reads, all of them earlier; node 0 is the root, which reads none.

    Returns:
        For every node its immediate dominator; None for the root and for what does not depend on the root.
    """
    dominators: list[int | None] = [None] * len(sources)
    for node, read in enumerate(sources):
        reached = [source for source in read if source == 0 or dominators[source] is not None]
        if node == 0 or not reached:
            continue
        meeting = reached[0]
        for source in reached[1:]:
            meeting = _meet(dominators, meeting, source)
        dominators[node] = meeting
    return dominators


def _meet(dominators: Sequence[int | None], one: int, other: int) -> int:
    """Return the last node that dominates both, or is one of them; a dominator always comes earlier."""
    while one != other:
        above = dominators[max(one, other)]
        assert above is not None, "only the root has no dominator, and it is nobody's maximum"
        one, other = min(one, other), above
    return one
