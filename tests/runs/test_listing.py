"""The list of runs: what is there, whatever state it is in."""

import json
from pathlib import Path

import pytest
from tests.show import cases

from howdeep import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run, one deeper that is under way, one of foreign weights, a damaged one, and one too deep to list."""
    cases.run_folder(tmp_path / "small", "cifar_resnet8")
    cases.run_folder(tmp_path / "fit" / "runs" / "deep", "cifar_resnet56", wrong=None, errors=((50.0, 3.0),))
    imported = cases.run_folder(tmp_path / "imported", "cifar_resnet20", wrong=None, errors=())
    record = json.loads((imported / "run.json").read_text())
    (imported / "run.json").write_text(json.dumps({**record, "imported": "weights.pth"}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    cases.run_folder(tmp_path / "a" / "b" / "c" / "d" / "run")
    return tmp_path


def test_runs_are_listed_with_network_data_error_and_time(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["runs", str(folder), "--sort", "error", "--json", "-"]) == 1
    printed = capsys.readouterr()
    assert f"howdeep: {folder / 'broken' / 'run.json'} is damaged" in printed.err
    record = json.loads(printed.out)
    assert (record["schema"], record["record"]) == (1, "runs")
    names = ("network", "data", "epochs", "split", "error_percent", "images")
    assert [tuple(one[name] for name in names) for one in record["runs"]] == [
        ("cifar_resnet56", "digits", 1.0, "val", 3.0, None),
        ("cifar_resnet8", "digits", 2.0, "test", 5.0, 100),
        ("cifar_resnet20", None, None, None, None, None),
    ]
    assert [Path(one["run"]).name for one in record["runs"]] == ["deep", "small", "imported"]


def test_what_holds_no_run_is_one_line_and_a_folder_of_runs_names_them(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.chdir(folder)
    Path("empty").mkdir()
    for words in (
        ["runs", "empty"],
        ["runs", "nowhere"],
        ["evaluate", "fit"],
        ["evaluate", "empty"],
        ["evaluate", "smal"],
    ):
        assert cli.run(words) == 2
        said.append(capsys.readouterr().err)
    assert said == [
        "howdeep: there is no run in empty, nor 3 folders below it\n",
        "howdeep: there is no folder nowhere\n",
        "howdeep: fit is not a run folder: it holds runs, name one: fit/runs/deep\n",
        "howdeep: empty is not a run folder: there is no run.json in it\n",
        "howdeep: no folder or network 'smal'; did you mean small?\n",
    ]
