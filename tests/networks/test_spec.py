"""A spec is plain data, and everything that it says can be found in the network."""

import json
from typing import Any

import pytest
import torch
from tests.oracles import SMALL, images, in_turn, small_network, stream
from torch import nn

from howdeep.chain import Chain
from howdeep.networks import LITERATURE, build, skeleton, spec_from_json, spec_of, spec_to_json
from howdeep.util.errors import UserError

RESIDUAL = [family for family in SMALL if "plain" not in family and "dense" not in family]


def layers(chain: Chain, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in chain.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize("name", LITERATURE)
def test_a_spec_survives_json(name: str) -> None:
    spec = spec_of(name, classes=7, channels=1, normed=False, dropout=0.1)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


def test_options_survive_json() -> None:
    spec = spec_of("cifar_preresnet110", block="bottleneck", shortcut="C", zero_init=True)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


@pytest.mark.parametrize("record", [{}, {"growth": 12}, {"units": 3}, {"units": [1], "colour": "red"}, [1, 2]], ids=str)
def test_a_record_of_something_else_is_refused(record: Any) -> None:
    with pytest.raises(UserError, match=r": another version of howdeep wrote it$"):
        spec_from_json(record)


@pytest.mark.parametrize("change", [{"shortcut": "D"}, {"order": "sideways"}, {"block": "b"}, {"classes": 0}], ids=str)
def test_a_record_with_an_impossible_value_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        spec_from_json({**spec_to_json(spec_of("cifar_resnet20")), **change})


@pytest.mark.parametrize("family", SMALL)
def test_a_skeleton_has_the_shapes_of_the_network_and_no_weights(family: str) -> None:
    name, options = SMALL[family]
    spec = spec_of(name, **options)
    shapes = {key: value.shape for key, value in build(spec).state_dict().items()}
    assert {key: value.shape for key, value in skeleton(spec).state_dict().items()} == shapes
    assert all(weight.is_meta for weight in skeleton(spec).parameters())


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = build("cifar_resnet8", seed=1).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    same, other = build("cifar_resnet8", seed=1).state_dict(), build("cifar_resnet8", seed=2).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_preresnet29", "cifar_densenet_bc40_k12"])
def test_convolutions_start_as_he_says_and_nothing_else_is_random(name: str) -> None:
    chain = build(name)
    for layer in layers(chain, nn.Conv2d):
        count, fan_out = layer.weight.numel(), layer.weight.shape[0] * layer.weight[0, 0].numel()  # type: ignore[index, union-attr, operator]
        ratio = layer.weight.std().item() / (2 / fan_out) ** 0.5  # type: ignore[operator, union-attr]
        assert ratio == pytest.approx(1, abs=5 / (2 * count) ** 0.5)  # type: ignore[operator]
    for norm in layers(chain, nn.BatchNorm2d):
        state = norm.state_dict()
        ones, zeros = torch.ones_like(state["weight"]), torch.zeros_like(state["weight"])
        assert torch.equal(state["weight"], ones)
        assert torch.equal(state["bias"], zeros)
        assert torch.equal(state["running_mean"], zeros)
        assert torch.equal(state["running_var"], ones)
    assert (chain.head.linear.bias == 0).all()  # type: ignore[union-attr]


# --- options


@pytest.mark.parametrize(("family", "normed"), in_turn(RESIDUAL, [True, False, False, True]))
def test_zero_initialised_units_start_as_their_shortcut_and_learn_at_once(family: str, normed: bool) -> None:
    name, options = SMALL[family]
    chain = build(spec_of(name, **{**options, "zero_init": True, "normed": normed})).train()
    maps = stream(chain, images())
    for before, module, after in zip(maps, chain.body, maps[1:], strict=False):
        if module in chain.units:
            assert torch.equal(after, module.merge.closed(module.shortcut(before)))  # type: ignore[operator, union-attr]
    chain(images()).logsumexp(1).sum().backward()
    for unit in chain.units:
        last = [layer for layer in unit.branch.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)][-1]
        assert last.weight.grad is not None
        assert last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("family", RESIDUAL)
def test_without_zero_initialisation_every_branch_says_something(family: str) -> None:
    name, options = SMALL[family]
    chain = build(spec_of(name, **options)).train()
    for before, module in zip(stream(chain, images()), chain.body, strict=False):
        if module in chain.units:
            assert module.branch(before).abs().max() > 0  # type: ignore[operator]


def test_with_zero_gammas_equal_units_return_what_is_never_negative_to_the_bit() -> None:
    chain = build(spec_of("cifar_resnet20", zero_init=True)).eval()
    hidden = images(2, channels=16).abs()
    for unit in chain.units[:3]:
        assert torch.equal(unit(hidden), hidden)


@pytest.mark.parametrize("family", SMALL)
def test_without_norms_convolutions_have_biases_and_the_network_trains(family: str) -> None:
    chain = small_network(family, normed=False).train()
    assert not layers(chain, nn.BatchNorm2d)
    assert all(layer.bias is not None for layer in layers(chain, nn.Conv2d))
    scores = chain(images())
    scores.logsumexp(1).sum().backward()
    assert scores.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in chain.parameters())


@pytest.mark.parametrize("family", SMALL)
def test_with_norms_no_convolution_has_a_bias(family: str) -> None:
    chain = small_network(family)
    assert layers(chain, nn.BatchNorm2d)
    assert all(layer.bias is None for layer in layers(chain, nn.Conv2d))


@pytest.mark.parametrize("family", SMALL)
def test_dropout_acts_in_every_branch_and_in_training_alone(family: str) -> None:
    assert not layers(small_network(family), nn.Dropout)
    chain, x = small_network(family, dropout=0.4), images()
    for unit in chain.units:
        inside = [layer for layer in unit.branch.modules() if isinstance(layer, nn.Dropout)]
        assert [layer.p for layer in inside] == [0.4] * (2 if family == "densenet_bc" else 1)
    assert torch.equal(chain(x), chain(x))
    assert torch.equal(chain(x), small_network(family)(x))
    unit, maps = chain.units[1].train(), stream(chain, x)[1:]
    before = next(m for m, module in zip(maps, list(chain.body)[1:], strict=False) if module is unit)
    torch.manual_seed(0)
    assert not torch.equal(unit.branch(before), unit.branch(before))


@pytest.mark.parametrize("family", ["resnet", "preresnet"])
@pytest.mark.parametrize(("shortcut", "projections"), [("A", 0), ("B", 2), ("C", 9)])
def test_shortcuts_project_where_their_letter_says(family: str, shortcut: Any, projections: int) -> None:
    chain = skeleton(spec_of(f"cifar_{family}20", shortcut=shortcut))
    projecting = [unit for unit in chain.units if any(isinstance(m, nn.Conv2d) for m in unit.shortcut.modules())]
    assert len(projecting) == projections


def test_a_norm_that_both_paths_read_counts_a_batch_once() -> None:
    chain = build(spec_of("cifar_preresnet20", block="bottleneck")).train()
    chain(images())
    seen = {int(norm.num_batches_tracked) for norm in layers(chain, nn.BatchNorm2d)}  # type: ignore[arg-type]
    assert seen == {1}
    assert len(chain.body) - len(chain) == 3
