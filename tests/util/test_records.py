"""Frozen records survive JSON: tuples, records in records, gaps, numbers to the bit."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdeep.util.errors import UserError
from howdeep.util.records import from_json, read_from, to_json


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
    with pytest.raises(UserError, match=r"^Outer has no exact: another version of howdeep wrote it$"):
        from_json(Outer, {"table": []})
    with pytest.raises(UserError, match=r"^Inner has no number: "):
        from_json(Outer, {"exact": [], "many": [{"name": "x"}]})


@pytest.mark.parametrize("change", [{"pair": [1, 2.0, 3.0]}, {"table": 3}, {"gaps": 0.5}], ids=str)
def test_an_entry_of_another_kind_is_named(change: dict) -> None:
    with pytest.raises(UserError, match=rf"^Outer has {next(iter(change))} of another kind: "):
        from_json(Outer, {"exact": [], **change})


@pytest.mark.parametrize("written", ["", "{", '{"table": []}', "[1]", "3", '{"exact": {"a": 1}, "one": "x"}', None])
def test_what_is_wrong_with_a_file_is_one_line_that_names_it_and_says_what_to_do(
    written: str | None, tmp_path: Path
) -> None:
    place = tmp_path / "a.json"
    if written is not None:
        place.write_text(written)
    with pytest.raises(UserError) as error, read_from(place, "write it anew"):
        from_json(Outer, json.loads(place.read_bytes()))
    line = str(error.value)
    told = (r"is damaged: .*; write it anew", r"was written by another version of howdeep.*; write it anew")
    assert re.fullmatch(rf"{place} ({'|'.join((*told, 'cannot be read: No such file.*'))})", line), line
    assert not re.search("Error|object|NoneType|attribute", line)


def test_plain_data_is_a_copy() -> None:
    record = Outer(exact=(), anything={"a": [1]})
    to_json(record)["anything"]["a"].append(2)
    assert record.anything == {"a": [1]}
