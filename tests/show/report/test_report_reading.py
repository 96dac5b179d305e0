"""Files become records by what they say that they are; what is damaged is named in one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.show import cases

from howdeep.analysis.study import NOT_FOLDED
from howdeep.costs.cost import Cost
from howdeep.costs.measuring import Times
from howdeep.show import KINDS
from howdeep.show.report.reading import TYPES, Origin, Record, collect, read_record
from howdeep.show.report.sections import section_of
from howdeep.util.errors import UserError
from howdeep.util.records import tagged, to_json


def test_every_kind_is_read_ordered_and_told() -> None:
    parts = {"Curves", "Ladder", "Paper"}  # which no file holds alone
    assert {kind.__name__ for kind in TYPES.values()} == set(KINDS) - parts


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("lesion", cases.lesion((1.0, -0.5))),
        ("lesion", cases.trials("permute", 5, 10)),
        ("paths", cases.many_paths(4)),
        ("flow", cases.flow_of(3)),
        ("probe", cases.probe()),
        ("evaluation", cases.evaluation(3, 50)),
        ("cut", cases.cut(9, 3)),
    ],
)
def test_a_record_comes_back_as_it_was_with_where_it_comes_from(kind: str, record: object, tmp_path: Path) -> None:
    place = cases.written(tmp_path / "found.json", kind, record, data="digits", split="val", device={"name": "a cpu"})
    found = read_record(place)
    assert found is not None
    assert (found.kind, found.value) == (kind, record)
    origin = found.origin
    assert (origin.command, origin.split, origin.device) == (f"howdeep {kind} run --data digits", "val", "a cpu")


def test_a_file_that_says_nothing_is_no_record(tmp_path: Path) -> None:
    for number, text in enumerate(('{"units": 3}', '{"record": "poem"}', '{"record": ["lesion"]}', "[1]", '"lesion"')):
        place = tmp_path / f"{number}.json"
        place.write_text(text)
        assert read_record(place) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"record": "paths"}',
        '{"record": "lesion", "kind": "delete", "baseline": 3}',
        '{"record": "paths", "schema": 2}',
    ],
)
def test_a_damaged_file_is_named_in_one_line(text: str, tmp_path: Path) -> None:
    place = tmp_path / "broken.json"
    place.write_text(text)
    with pytest.raises(UserError, match=r"broken\.json (is damaged|was written by another version)") as error:
        collect([place])
    assert "\n" not in str(error.value)


def test_a_run_is_its_curves_its_test_and_the_records_in_its_folder_in_the_order_of_a_story(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run")
    cases.written(run / "a.json", "flow", cases.flow_of(9))
    cases.written(run / "b.json", "lesion", cases.trials("random", 9, 10))
    cases.written(run / "c.json", "lesion", cases.lesion((1.0,) * 9))
    (run / "other.json").write_text(json.dumps({"seconds": 3}))
    collected = collect([run, run / ".." / "run"])
    (subject,) = collected.subjects
    assert [record.origin.file.rsplit("/", 1)[1] for record in subject.records] == ["c.json", "b.json", "a.json"]
    assert subject.curves is not None
    assert [one.train_error_percent for one in subject.curves.epochs] == [50.0, 1.0]
    assert subject.test is not None
    assert (subject.test.value, subject.seconds) == (cases.evaluation(5, 100), 12.0)
    assert collected.left_out == ()


def test_bad_parts_of_a_folder_are_left_out_and_named_and_the_rest_is_told(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run")
    (run / "result.json").write_text("{")
    (run / "half.json").write_text('{"record": "les')
    (run / "empty.json").write_text(json.dumps(tagged("flow", {})))
    cases.written(run / "good.json", "flow", cases.flow_of(9))
    collected = collect([run])
    assert [Path(line.split(" ")[0]).name for line in collected.left_out] == [
        "empty.json",
        "half.json",
        "result.json",
    ]
    assert [record.kind for record in collected.subjects[0].records] == ["flow"]
    assert collected.subjects[0].test is None


def test_a_run_whose_own_record_is_damaged_still_has_the_others(tmp_path: Path) -> None:
    run = cases.run_folder(tmp_path / "run")
    (run / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"run\.json"):
        collect([run])
    cases.written(run / "good.json", "flow", cases.flow_of(9))
    collected = collect([run])
    assert collected.runs == ()
    assert len(collected.left_out) == 1


def test_a_folder_of_runs_is_its_record_and_its_runs_wherever_they_are(tmp_path: Path) -> None:
    cases.run_folder(tmp_path / "study" / "one")
    cases.run_folder(tmp_path / "study" / "runs" / "two", "cifar_resnet8")
    (tmp_path / "study" / "notes").mkdir()
    cases.written(tmp_path / "study" / "found.json", "flow", cases.flow_of(3))
    first, *runs = collect([tmp_path / "study"]).subjects
    assert [record.kind for record in first.records] == ["flow"]
    assert [Path(subject.place).name for subject in runs] == ["one", "two"]
    assert not any(subject.full for subject in runs)


@pytest.mark.parametrize("what", ["nothing", "empty", "plain.json"])
def test_what_holds_nothing_to_report_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.json").write_text(json.dumps(to_json(cases.flow_of(1))))
    with pytest.raises(UserError, match=what):
        collect([tmp_path / what])


def test_no_run_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="no RUN"):
        collect([])


@pytest.mark.usefixtures("undrawn")
def test_a_latency_that_is_not_that_of_folded_norms_says_so() -> None:
    said, timing = f"{NOT_FOLDED}: logits would change by 3.0e-02 of their size", cases.timing(1.0)
    ladder = cases.costs()
    depths = (replace(ladder.depths[0], times=Times(timing, timing, timing, 1.0, (said,))), *ladder.depths[1:])
    records = {
        "cost": (Cost(ladders=(replace(ladder, depths=depths),)), f"cifar_resnet8: {said}."),
        "fit": (replace(cases.fit(), notes=("a note on data", said)), f"{said[:1].upper()}{said[1:]}."),
        "cut": (replace(cases.cut(9, 3), notes=(said,)), f"{said[:1].upper()}{said[1:]}."),
    }
    for kind, (value, line) in records.items():
        notes = section_of(Record(kind, value, Origin())).notes
        assert line in notes, kind
        assert not any("on data" in note for note in notes)
