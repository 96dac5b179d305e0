"""1,202 layers are ordinary: built, run, saved, copied and printed."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.oracles import images

from howdeep.chain import Chain
from howdeep.networks import build, skeleton, spec_of
from howdeep.survival import Survival


@pytest.fixture(scope="module")
def network() -> Chain:
    return build("cifar_resnet1202")


def test_1202_layers_train_with_a_quarter_of_their_units_closed_and_with_all_open(network: Chain) -> None:
    trained = network.train()
    gates = Survival("linear", 0.5).draw(len(trained), seed=0, step=0)
    trained(images(2), gates).logsumexp(1).sum().backward()
    with_gradient = [float(unit.branch.conv1.weight.grad is not None) for unit in trained.units]  # type: ignore[union-attr]
    assert with_gradient == gates
    scores = trained(images(2))
    scores.logsumexp(1).sum().backward()
    assert scores.shape == (2, 10)
    assert scores.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in trained.parameters())
    network.zero_grad()


def test_1202_layers_are_saved_and_loaded(network: Chain, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    loaded = skeleton(spec_of("cifar_resnet1202")).to_empty(device="cpu")
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    with torch.no_grad():
        assert loaded.train()(images(2)).isfinite().all()


def test_1202_layers_are_copied(network: Chain) -> None:
    copy = deepcopy(network)
    pairs = list(zip(copy.parameters(), network.parameters(), strict=True))
    assert all(torch.equal(mine, other) and mine.data_ptr() != other.data_ptr() for mine, other in pairs)


def test_1202_layers_are_printed(network: Chain) -> None:
    assert repr(network) == str(network)
    assert repr(network).count("Conv2d(") >= 5


def test_units_are_looked_up_in_order(network: Chain) -> None:
    assert network.units == list(network.body)
    assert len(network) == len(network.steps()) == 600
