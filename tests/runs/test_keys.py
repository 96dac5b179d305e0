"""Everything that changes a number is in the key of resumable work."""

from dataclasses import Field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from howdeep.analysis.options import StudyOptions
from howdeep.commands.analysing import Dissection, Flow, Lesion, Paths, Probe
from howdeep.costs.options import CostOptions
from howdeep.cutting.options import CutOptions
from howdeep.cutting.run import BUDGETS
from howdeep.cutting.run import asked as asked_of_cut
from howdeep.data import Normalization, open_data
from howdeep.networks import build, spec_of
from howdeep.runs.options import TargetOptions
from howdeep.runs.resume import UNCHANGING, difference, options_key, work_key
from howdeep.runs.target import Target
from howdeep.runtime import deployment

HOST = torch.device("cpu")
OTHERS: dict[str, Any] = {
    "survival": "linear:0.5",
    "precision": "bf16",
    "split": "validation",
    "threads": 2,
    "remove": (1,),
    "limit": 7,
    "size": 7,
    "flip": "yes",
    "kind": "pairs",
    "sample": 7,
    "lengths": (1, 2),
    "statistics": "batch",
    "lr": 0.5,
    "latency_budget": "2ms",
    "runtime": "onnxruntime",
}
"""Values of options that are no plain numbers."""


def other(options: Any, field: Field) -> Any:
    before = getattr(options, field.name)
    if field.name in OTHERS:
        return OTHERS[field.name]
    return not before if isinstance(before, bool) else before + 1


@pytest.mark.parametrize(
    "options", [StudyOptions(data="d"), CutOptions(data="d", remove=(2,), out=Path("cut"), epochs=1.0), CostOptions()]
)
def test_every_option_is_in_the_key_or_named_as_one_that_changes_no_number(options: Any) -> None:
    def key(options: Any) -> dict:
        return work_key(asked_of_cut(options) if isinstance(options, CutOptions) else options_key(options), HOST)

    for field in fields(options):
        if field.name in UNCHANGING or (field.name in (*BUDGETS, "first") and field.name != "remove"):
            continue  # a budget excludes units by number, and so do first units: they have a test of their own
        changed = key(replace(options, **{field.name: other(options, field)}))
        assert (difference(key(options), changed) or "").startswith(f"--{field.name.replace('_', '-')} ("), field.name


TOLD_OTHERWISE = {field.name for field in fields(TargetOptions)} | {"figure", "output"}
"""Options of a dissection that say which network it is, and how its images are prepared, and where it is written."""
USED: dict[Any, dict[str, Any]] = {
    Lesion: {"max_k": {"kind": "random"}, "draws": {"kind": "random"}, "sample": {"kind": "pairs"}},
    Probe: {"flip": {"views": 2}},
}
"""What an option needs, where it has no use alone."""


@pytest.mark.parametrize("command", [Lesion, Paths, Flow, Probe])
def test_every_option_of_a_dissection_is_in_its_key(command: type[Dissection]) -> None:
    def key(asked: Dissection) -> dict:
        return work_key({**options_key(asked, StudyOptions), **asked.asked()}, HOST)

    for field in fields(command):
        if field.name in UNCHANGING or field.name in TOLD_OTHERWISE:
            continue
        asked = command(target="run", data="d", **USED.get(command, {}).get(field.name, {}))
        assert key(asked)["analysis"] == command.__name__.lower()
        changed = key(replace(asked, **{field.name: other(asked, field)}))
        assert (difference(key(asked), changed) or "").startswith(f"--{field.name.replace('_', '-')} ("), field.name


@pytest.mark.parametrize(("name", "told"), [("units", "--budget ("), ("first", "--first (")])
def test_what_a_cut_leaves_is_in_its_key(name: str, told: str) -> None:
    options: Any = [{name: count} for count in (1, 2)]
    keys = [work_key(asked_of_cut(CutOptions(data="d", **one)), HOST) for one in options]
    assert (difference(*keys) or "").startswith(told)


@pytest.mark.parametrize(
    "asked",
    [
        options_key(CostOptions(runtime="onnxruntime")),
        asked_of_cut(CutOptions(data="d", units=1, runtime="onnxruntime")),
        Probe(target="run", data="d", runtime="onnxruntime").asked(),
    ],
)
def test_what_was_timed_in_another_version_of_a_runtime_is_not_taken_on(
    asked: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = work_key(asked, HOST)
    monkeypatch.setattr(deployment, "version", lambda name: "0.0" if name == "onnxruntime" else version(name))
    assert (difference(before, work_key(asked, HOST)) or "").startswith("onnxruntime (")


def normalization(mean: float, std: float) -> Normalization:
    return Normalization(torch.full((1, 1, 1), mean), torch.full((1, 1, 1), std))


def test_network_preparation_images_labels_and_versions_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, digits = spec_of("cifar_resnet8", channels=1), open_data("digits")
    target = Target("t", build(spec), None, 10, None, 1, (8, 8), "crop", normalization(0.3, 0.2))
    options, split = StudyOptions(data="digits"), digits.split("test")

    def key(target: Target = target, split: Any = split) -> dict:
        return work_key({**options_key(options), "kind": "delete"}, HOST, target=target, splits=[split])

    mine = key()
    relabelled = replace(split, labels=(split.labels + 1) % 10)  # type: ignore[type-var]
    changes = {
        "network": key(replace(target, chain=build(spec, seed=1))),
        "mean": key(replace(target, normalization=normalization(0.4, 0.2))),
        "std": key(replace(target, normalization=normalization(0.3, 0.3))),
        "size": key(replace(target, size=(16, 16))),
        "resize": key(replace(target, resize="pad")),
        "channels": key(replace(target, channels=3)),
        "data": key(split=split.take(torch.arange(20))),
        "kind": {**mine, "kind": "pairs"},
        "device": {**mine, "device": "another machine"},
        "howdeep": {**mine, "howdeep": "0.0"},
    }
    for name, found in changes.items():
        assert (difference(mine, found) or "").split(" (")[0] == name
    assert difference(mine, key(split=relabelled)) == "data"
    assert difference(mine, key(split=replace(split, names=["elsewhere"] * len(split)))) is None  # type: ignore[type-var]
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert (difference(mine, key()) or "").startswith("torch (")
