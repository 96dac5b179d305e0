"""A record knows its sentence, its table and its chart; one layout is shown on a terminal and as HTML."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from tests.show import cases

from howdeep.costs.cost import Cost
from howdeep.exporting.export import Agreement, Export
from howdeep.search.fit import Fit
from howdeep.search.transfer import Transfer
from howdeep.show import KINDS, figures
from howdeep.show.tables import Table
from howdeep.util.errors import UserError
from howdeep.util.records import Shown

AGREEMENT = Agreement(images=256, batch_sizes=(1,), other_class=0, difference=1e-6, tolerance=1e-4)
EXPORT = Export("a.onnx", "onnx", 18, 9, 0, AGREEMENT, (), 1, "onnxruntime", {}, ())
RECORDS: dict[str, Shown] = {
    "lesion": cases.NINE,
    "lesion of 600": cases.lesion((1.0,) * 600),
    "random": cases.trials("random", 9, 100),
    "pairs": cases.trials("pairs", 50, 3_000),
    "paths": cases.many_paths(600),
    "flow": cases.flow_of(600),
    "probe": cases.probe(),
    "probe within a budget": cases.probe(budget=2.5),
    "probe of 100": cases.probe([40.0 - 0.3 * at for at in range(102)]),
    "evaluation": cases.evaluation(5, 100),
    "curves": cases.curves(),
    "ladder": cases.costs(),
    "cost": Cost(ladders=(cases.costs(),)),
    "fit": cases.fit(),
    "transfer": cases.transfer(),
    "cut": cases.cut(600, 200),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_its_finding_first_and_fits_80_columns(name: str) -> None:
    shown = io.StringIO()
    console = Console(width=80, file=shown)
    table = RECORDS[name].table()
    console.print(table)
    lines = shown.getvalue().splitlines()
    assert len(lines) < 80
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(table.title[:60])
    for head in table.heads:
        assert all(word in shown.getvalue() for word in head.split("\n"))


@pytest.mark.parametrize("name", RECORDS)
def test_a_page_has_every_row_and_a_notebook_the_finding(name: str) -> None:
    record = RECORDS[name]
    for table in record.table(wide=True).folds():
        assert table.summary
        assert table.html().count("<tr>") == len(table.rows) + 1
    assert len(record.table(wide=True).rows) >= len(record.table().rows)


def test_every_kind_has_a_chart_but_a_scaling_on_paper_and_an_export() -> None:
    assert [name for name, kind in KINDS.items() if kind.figure is None] == ["Paper", "Export"]
    assert all(callable(getattr(figures, kind.figure)) for kind in KINDS.values() if kind.figure)
    with pytest.raises(UserError, match="no chart of a record of kind Export"):
        EXPORT.figure()
    assert "same class on all 256 images" in EXPORT.table().title


def test_a_search_says_what_a_second_seed_gave_or_that_there_was_none() -> None:
    found = cases.transfer()
    (told,) = [line for line in found.table().below if "two seeds" in str(line)]
    assert "whole: 13.0 and 15.0 %;" in str(told)
    assert "1 of 2 units: 14.0 and 12.5 %; which one is better depends on the seed" in str(told)
    again = replace(found, trainings=(found.trainings[0],))
    assert any(str(line).endswith("; one training each") for line in again.table().below)


@pytest.mark.parametrize("found", [cases.fit(), cases.transfer()], ids=["fit", "transfer"])
def test_a_latency_above_the_budget_that_it_held_before_is_told(found: Fit | Transfer) -> None:
    def told(ms: float) -> list[str]:
        lines = replace(found, latency=cases.timing(ms)).table().lines
        return [line.strip() for line in map(str, lines) if line.startswith("  above the budget")]

    assert told(4.0) == []
    (line,) = told(4.2)
    assert line.startswith("above the budget of 4 ms now; ")
    assert line.endswith(" ms when it was chosen")


@pytest.mark.parametrize("width", [60, 40])
@pytest.mark.parametrize("name", RECORDS)
def test_a_narrow_terminal_shows_fewer_columns_and_whole_numbers(name: str, width: int) -> None:
    for table in (one for one in RECORDS[name].table().folds() if one.rows):
        shown, row = io.StringIO(), table.rows[-1]
        Console(width=width, file=shown).print(replace(table, title="", lines=[], below=[]))
        lines = shown.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        gone = re.findall(r"not shown at \d+ columns: ([^)]*)", " ".join(shown.getvalue().split()))
        names = [" ".join(head.split()) for head in table.heads]
        left = [name for name in names if name and name not in (gone[0].split(", ") if gone else ())]
        numbers = [row[at] for at, name in enumerate(names) if name in left and not table.aligned_left(at)]
        assert all(number in shown.getvalue() for number in numbers)
        assert names[0] in left or not names[0]


def test_numbers_are_right_names_are_left_and_every_text_is_escaped() -> None:
    table = Table(heads=["name", "change", ""], rows=[("<b>-1", "-0.40 to +1.2e-05", "a-1")], text=(0,), title="<i>")
    assert '<td class="t">&lt;b&gt;-1</td><td>−0.40 to +1.2e-05</td><td class="t">a-1</td>' in table.html()
    assert "&lt;i&gt;" in table._repr_html_()
    assert not re.findall(r"<[bi]>-", table._repr_html_())


def test_what_begins_with_an_arrow_is_bold() -> None:
    shown = io.StringIO()
    console = Console(width=40, file=shown, force_terminal=True, color_system="standard")
    console.print(Table(heads=["", "n"], rows=[("→", "one"), ("", "two")], lines=["→ this", "that"]))
    bold = "".join(line for line in shown.getvalue().splitlines() if "\x1b[1m" in line)
    assert [word in bold for word in ("this", "one", "that", "two")] == [True, True, False, False]
