"""Networks of a library in run folders: cut, trained on, interrupted and resumed to the bit; or refused beforehand."""

import signal
from dataclasses import asdict
from pathlib import Path
from shutil import copytree

import pytest
import torch
from rich.console import Console
from tests.convert.test_training import Network
from tests.oracles import images
from torch import nn

from howdeep.convert import unravel
from howdeep.convert.libraries import LibraryNetwork
from howdeep.cutting.options import CutOptions
from howdeep.cutting.run import cut_target
from howdeep.data import NORMALIZATIONS
from howdeep.data.recorded import recorded
from howdeep.runs import checkpoints
from howdeep.runs import folder as runs
from howdeep.runs.folder import Run
from howdeep.runs.prepared import Prepared
from howdeep.runs.target import Target
from howdeep.survival import Survival
from howdeep.training import loop
from howdeep.training.config import TrainConfig
from howdeep.training.images import open_training_data
from howdeep.training.loop import train
from howdeep.training.state import Position
from howdeep.util.errors import Stopped, UserError

CONFIG = TrainConfig(
    network="timm:test_resnet", data="digits", size=32, epochs=1.0, precision="fp32", threads=1, limit=300, keep="best"
)


def begun(out: Path) -> Run:
    """Return the run folder of a network without its unit 2 that is to be trained on, as a cut writes it."""
    dataset = open_training_data(CONFIG, prepared=Prepared(32, "crop", 3))
    more = {"removed": [1], "config": CONFIG.to_json(), "recipe": asdict(CONFIG.resolved_recipe())}
    more["choices"] = {"chosen": {"precision": "fp32", "memory_format": "channels_last", "threads": 1}, "trials": []}
    record = runs.record_of(
        spec={"library": CONFIG.network, "classes": 10, "size": 32},
        survival=Survival(),
        data=runs.data_record(dataset, source="digits", resize="crop", crop=None),
        normalization=NORMALIZATIONS["per_channel"](dataset.split("train")),
        where=torch.device("cpu"),
        more=more,
    )
    run = runs.create(out, record, recorded(dataset))
    tensors = {"weights": run.untrained().state_dict(), "momentum": {}}
    checkpoints.save(run.checkpoints, 0, tensors=tensors, state=Position().to_json())
    return run


def test_a_network_of_a_library_is_trained_on_and_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    whole = begun(tmp_path / "whole")
    copytree(whole.path, tmp_path / "out")
    train(CONFIG, whole.path)
    step, left = loop.train_step, iter(range(1))
    with monkeypatch.context() as patch:

        def interrupted(*arguments, **options) -> object:
            if next(left, None) is None:
                signal.raise_signal(signal.SIGINT)
            return step(*arguments, **options)

        patch.setattr(loop, "train_step", interrupted)
        with pytest.raises(Stopped):
            train(CONFIG, tmp_path / "out")
    resumed = runs.open_run(tmp_path / "out")
    stopped = checkpoints.newest(resumed.checkpoints, print)
    traced, chain = [], LibraryNetwork.chain
    monkeypatch.setattr(LibraryNetwork, "chain", lambda network: traced.append(network.name) or chain(network))
    train(CONFIG, resumed.path)
    assert traced == [CONFIG.network], "it is traced once, which takes seconds"
    first, second = (checkpoints.newest(run.checkpoints, print) for run in (whole, resumed))
    assert stopped is not None
    assert first is not None
    assert second is not None
    assert 0 < stopped.step < first.step == second.step
    one, other = first.tensors("weights"), second.tensors("weights")
    assert one.keys() == other.keys() == resumed.chain().state_dict().keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert {int(value) for name, value in one.items() if name.endswith("num_batches_tracked")} == {first.step}


def test_training_that_a_network_does_not_allow_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    chain = unravel(Network(nn.RReLU()), images(1))
    target = Target("own", chain, None, 5, None, 3, (8, 8), "crop", None)
    options = CutOptions(data="nowhere", remove=(1,), epochs=2, out=tmp_path / "out")
    with pytest.raises(
        UserError, match=r"^--epochs 2 is not allowed: Network cannot be trained as a chain: own \(RReLU\)"
    ):
        cut_target(target, options, report=print, console=Console(stderr=True))
