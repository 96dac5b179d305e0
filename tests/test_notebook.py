"""Notebooks, and the public names as one uses them: strings for paths, no arguments that have a usual value."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from tests.oracles import images, small_network

import howdeep
from howdeep import Batch, TrainConfig
from howdeep.analysis.signals import flow
from howdeep.data import open_data
from howdeep.search.options import FitOptions, LadderConfig
from howdeep.show import KINDS, kind_of
from howdeep.util.records import Shown, from_json, to_json

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
FEWER = """
import sklearn.datasets
values, labels = sklearn.datasets.load_digits(return_X_y=True)
sklearn.datasets.load_digits = lambda **_: (values[:600], labels[:600])
"""
"""A third of the digits, as for the guide."""
BATCHES = [Batch(images(4), torch.arange(4), 4)]


def test_the_package_lists_its_public_names_alone() -> None:
    assert dir(howdeep) == sorted([*howdeep.__all__, "__version__"])
    assert {"load", "train", "lesion", "Chain"} <= set(dir(howdeep))
    assert all(hasattr(howdeep, name) for name in dir(howdeep))


def test_a_run_is_trained_and_loaded_by_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(network="cifar_resnet8", data="digits", epochs=1, limit=64, threads=1, precision="fp32")
    result = howdeep.train(config, "run")
    assert result.run == Path("run")
    chain = howdeep.load("run")
    assert not chain.training
    expected = howdeep.open_run("run").chain().state_dict()
    for other in (chain, result.chain):
        assert all(torch.equal(expected[name], tensor) for name, tensor in other.state_dict().items())


def test_paths_and_strings_are_the_same_options(tmp_path: Path) -> None:
    assert FitOptions(data=tmp_path, train_budget="1m", out="there") == FitOptions(  # type: ignore[arg-type]
        data=str(tmp_path), train_budget="1m", out=Path("there")
    )
    for kind in (TrainConfig, LadderConfig):
        options = {"network": "cifar_resnet8"} if kind is TrainConfig else {}
        assert kind(data=tmp_path, **options) == kind(data=str(tmp_path), **options)  # type: ignore[arg-type]


def test_data_is_opened_by_a_path(tmp_path: Path) -> None:
    with pytest.raises(howdeep.UserError, match="nowhere"):
        open_data(tmp_path / "nowhere")


def test_an_evaluation_needs_a_chain_and_batches() -> None:
    chain = small_network("resnet A")
    found = howdeep.evaluate(chain, BATCHES)
    assert [one.name for one in found.classes] == [str(number) for number in range(10)]
    given = chain(BATCHES[0].images).argmax(1)
    assert found.error_percent == 100 * float((given != BATCHES[0].labels).float().mean())


def test_signals_are_those_of_evaluation_where_nothing_else_is_asked() -> None:
    chain = small_network("resnet A")
    fp32 = torch.autocast("cpu", enabled=False)
    assert howdeep.flow(chain, BATCHES) == flow(chain, BATCHES, statistics="running", draws=(None,), autocast=fp32)


def test_a_cut_brings_its_network_which_no_file_holds() -> None:
    chain = small_network("resnet A")
    found = howdeep.cut(chain, BATCHES, remove=[2])
    assert found.chain is not None
    assert len(found.chain) == len(chain) - 1
    assert torch.equal(found.chain.head.linear.weight, chain.head.linear.weight)  # type: ignore[union-attr, arg-type]
    assert "chain" not in to_json(found)
    assert from_json(howdeep.Cut, to_json(found)) == found


@pytest.mark.parametrize("analysis", [howdeep.lesion, howdeep.flow, howdeep.evaluate, howdeep.paths])
def test_a_notebook_shows_finding_chart_and_table_of_a_record(analysis: Callable[..., Shown]) -> None:
    record = analysis(small_network("resnet A"), BATCHES)
    page = record._repr_html_()
    assert page.startswith(f"<p><b>{escape(record.finding)}</b></p>")
    assert (page.count("<svg"), page.count("<script")) == (1, 0)
    assert record.table().html() in page


def test_a_notebook_shows_a_probe() -> None:
    record = howdeep.probe(small_network("resnet A"), BATCHES, BATCHES)
    page = record._repr_html_()
    assert page.startswith(f"<p><b>{escape(record.finding)}</b></p>")
    assert (page.count("<svg"), page.count("<script")) == (1, 0)


def test_a_record_without_a_chart_is_shown_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    record = howdeep.lesion(small_network("resnet A"), BATCHES)
    monkeypatch.setitem(KINDS, "Lesion", replace(kind_of(record), figure=None))  # type: ignore[arg-type]
    assert "<svg" not in record._repr_html_()
    assert record.table().html() in record._repr_html_()


def test_the_notebooks_execute_and_show_charts_that_need_no_network(tmp_path: Path) -> None:
    """Both in one kernel: it takes as long to begin as each of them."""
    books = [nbformat.read(place, as_version=4) for place in sorted(NOTEBOOKS.glob("*.ipynb"))]
    cells = [cell for book in books for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs or cell.source.splitlines()[-1].startswith(("assert", "import")) for cell in cells)
    shorter = [new_code_cell(re.sub(r"epochs=\d", "epochs=1", cell.source)) for cell in cells]
    executed = new_notebook(cells=[new_code_cell(FEWER), *shorter])
    NotebookClient(executed, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pages = [output.data.get("text/html", "") for cell in executed.cells for output in cell.outputs if "data" in output]
    assert sum(page.count("<svg") for page in pages) >= 8
    assert not [page for page in pages if "<script" in page or "src=" in page]
