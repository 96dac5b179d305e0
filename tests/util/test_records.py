"""Frozen records survive JSON: tuples, records in records, gaps, numbers to the bit."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdeep.util.records import from_json, to_json


@dataclass(frozen=True, kw_only=True)
class Inner:
    number: int
    name: str = ""
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    exact: tuple[str, ...]
    table: tuple[tuple[int, ...], ...] = ()
    pair: tuple[int, float] = (0, 0.0)
    one: Inner | None = None
    many: tuple[Inner, ...] = ()
    gaps: tuple[float | None, ...] = ()
    maybe: tuple[int, ...] | None = None
    anything: dict | None = None


floats = st.floats(allow_nan=False, allow_infinity=False)
inner = st.builds(Inner, number=st.integers(), name=st.text(), share=st.none() | floats)


def tuples(of: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(of, max_size=3).map(tuple)


outer = st.builds(
    Outer,
    exact=tuples(st.integers(0, 2**700).map(str)),
    table=tuples(tuples(st.integers())),
    pair=st.tuples(st.integers(), floats),
    one=st.none() | inner,
    many=tuples(inner),
    gaps=tuples(st.none() | floats),
    maybe=st.none() | tuples(st.integers()),
    anything=st.none() | st.dictionaries(st.text(), st.lists(st.integers(), max_size=2), max_size=2),
)


@given(record=outer)
def test_a_record_survives_json_with_its_types(record: Outer) -> None:
    found = from_json(Outer, json.loads(json.dumps(to_json(record))))
    assert found == record
    assert isinstance(found.exact, tuple)
    assert found.one is None or isinstance(found.one, Inner)
    hash((found.exact, found.table, found.pair, found.one, found.many, found.gaps, found.maybe))


def test_entries_of_other_names_are_left_out_at_every_level() -> None:
    data = {"exact": ["1"], "one": {"number": 2, "later": 0}, "provenance": {"torch": "3"}}
    assert from_json(Outer, data) == Outer(exact=("1",), one=Inner(number=2))


def test_a_missing_entry_is_named() -> None:
    with pytest.raises(TypeError, match="exact"):
        from_json(Outer, {"table": []})
    with pytest.raises(TypeError, match="number"):
        from_json(Outer, {"exact": [], "many": [{"name": "x"}]})


def test_a_tuple_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        from_json(Outer, {"exact": [], "pair": [1, 2.0, 3.0]})


def test_plain_data_is_a_copy() -> None:
    record = Outer(exact=(), anything={"a": [1]})
    to_json(record)["anything"]["a"].append(2)
    assert record.anything == {"a": [1]}
