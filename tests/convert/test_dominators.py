"""Immediate dominators of graphs small enough to see, and of random ones by the definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import untimed

from howdeep.convert.merges import immediate_dominators

GRAPHS = {
    "line": ([[], [0], [1], [2]], [None, 0, 1, 2]),
    "residual unit": ([[], [0], [1], [0, 2], [3]], [None, 0, 1, 0, 3]),
    "unit in a unit": ([[], [0], [1], [2], [1, 3], [0, 4]], [None, 0, 1, 2, 1, 0]),
    "two ways that cross": ([[], [0], [0], [1, 2], [2, 1], [3, 4]], [None, 0, 0, 0, 0, 0]),
    "the same value twice": ([[], [0], [1, 1]], [None, 0, 1]),
    "weights do not count": ([[], [], [0, 1], [1], [2, 3]], [None, None, 0, None, 2]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_dominators_are_those_on_paper(name):
    sources, expected = GRAPHS[name]
    assert immediate_dominators(sources) == expected


def test_a_line_of_units_is_quick_at_any_depth():
    sources = [[]]
    for unit in range(20_000):
        sources += [[2 * unit], [2 * unit, 2 * unit + 1]]
    dominators = immediate_dominators(sources)
    assert dominators[2::2] == list(range(0, 40_000, 2))


@st.composite
def graphs(draw):
    length = draw(st.integers(2, 9))
    return [[]] + [draw(st.lists(st.integers(0, node - 1), max_size=3)) for node in range(1, length)]


def reachable(sources, *, without):
    """Return what depends on node 0 when one node is taken out."""
    found = {0} - {without}
    for node, read in enumerate(sources):
        if node != without and found.intersection(read):
            found.add(node)
    return found


@untimed
@given(graphs())
def test_the_dominator_is_the_last_node_whose_removal_cuts_a_node_off(sources):
    connected = reachable(sources, without=None)
    for node, dominator in enumerate(immediate_dominators(sources)):
        cuts = [other for other in range(node) if node in connected and node not in reachable(sources, without=other)]
        assert dominator == (cuts[-1] if cuts else None)
