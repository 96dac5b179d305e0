"""The run folder."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from howdeep.data import Normalization
from howdeep.networks import build, spec_of, spec_to_json
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.folder import Run
from howdeep.survival import Survival
from howdeep.transform.removal import without
from howdeep.transform.truncation import truncated
from howdeep.util.errors import UserError
from howdeep.util.files import SaveError

SPEC = spec_of("cifar_resnet8", channels=1)
RULE = Survival("linear", 0.5, "sample")


def record() -> dict:
    normalization = Normalization(torch.tensor([[[0.3]]]), torch.tensor([[[0.2]]]))
    data = {"name": "digits", "source": "digits", "classes": list("0123456789"), "channels": 1}
    data |= {"height": 8, "width": 8, "resize": "crop"}
    return runs.record_of(
        spec=SPEC, survival=RULE, data=data, normalization=normalization, where=torch.device("cpu"), more={"mine": 1}
    )


def test_a_run_is_what_was_recorded(tmp_path: Path) -> None:
    runs.create(tmp_path / "run", record())
    found = runs.open_run(tmp_path / "run")
    assert (found.spec, found.survival) == (SPEC, RULE)
    assert found.classes == tuple("0123456789")
    assert found.normalization is not None
    assert torch.equal(found.normalization.mean, torch.tensor([[[0.3]]]))
    assert found.record["mine"] == 1
    assert found.record["command"].startswith("howdeep")
    known = {"howdeep", "torch", "torchvision", "numpy", "pillow", "python"}
    assert known <= found.record["versions"].keys() <= {*known, "timm"}


def test_a_record_names_the_version_of_timm_and_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    assert runs.provenance(torch.device("cpu"))["versions"]["timm"] == timm.__version__
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    versions = runs.provenance(torch.device("cpu"))["versions"]
    assert "python" in versions
    assert "timm" not in versions


def test_a_run_without_a_checkpoint_has_no_network_yet(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", record())
    with pytest.raises(UserError, match="has no checkpoint yet; train it first"):
        run.chain(pytest.fail)


def test_the_network_has_the_weights_of_the_newest_checkpoint(tmp_path: Path) -> None:
    run, chain = runs.create(tmp_path / "run", record()), build(SPEC, RULE, seed=3)
    checkpoints.save(run.checkpoints, 1, tensors={"weights": build(SPEC, RULE, seed=1).state_dict()}, state={})
    checkpoints.save(run.checkpoints, 2, tensors={"weights": chain.state_dict()}, state={})
    found = run.chain(pytest.fail)
    assert not found.training
    assert all(torch.equal(value, chain.state_dict()[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("head", ["pooled", "kept"])
def test_the_network_of_a_cut_ends_behind_its_first_units(head: str, tmp_path: Path) -> None:
    """Units are counted after those that were taken out: of 1 3 4 5 … here the first four, 1 3 4 5."""
    spec = spec_of("cifar_resnet14", channels=1, classes=4)
    classifier = torch.nn.Linear(64, 4) if head == "pooled" else None
    left = truncated(without(build(spec, RULE, seed=3), [1]), 4, classifier)
    first = {"units": 4, "head": head} | ({"features": 64} if head == "pooled" else {})
    more = {"removed": [1], "first": first, "folded": asdict(RULE), "network": spec_to_json(spec)}
    run = runs.create(tmp_path / "run", record() | {"survival": asdict(Survival())} | more)
    run.save(0, tensors={"weights": left.state_dict()}, state={})
    found, x = run.chain(pytest.fail), torch.randn(2, 1, 8, 8)
    assert (len(found), run.is_cut, found.rule) == (4, True, Survival())
    assert torch.equal(found(x), left.eval()(x))


@pytest.mark.parametrize("thing", ["file", "folder", "broken record"])
def test_what_is_not_a_run_is_named(thing: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    if thing == "file":
        place.write_text("mine")
    else:
        place.mkdir()
    if thing == "broken record":
        (place / "run.json").write_text("{")
    told = "is damaged" if thing == "broken record" else "is not a run folder: there is no run.json in it"
    with pytest.raises(UserError, match=f"{place}.* {told}"):
        runs.open_run(place)


def test_nothing_is_created_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and is not a run of howdeep; nothing was changed"):
        runs.create(tmp_path, record())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_may_become_a_run(tmp_path: Path) -> None:
    assert runs.is_run(runs.create(tmp_path, record()).path)


def test_a_last_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    run.log({"step": 1})
    run.log({"step": 2})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    run.forget_after(1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_metrics_that_cannot_be_written_are_an_error_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(SaveError, match=r"metrics.jsonl was not written: Is a directory; there is no checkpoint yet"):
        Run(tmp_path, {}).log({"step": 1})


def test_a_result_is_read_back(tmp_path: Path) -> None:
    run = Run(tmp_path, {})
    assert run.result() is None
    run.write_result({"test": None, "seconds": 1.5})
    assert run.result() == {"test": None, "seconds": 1.5}
