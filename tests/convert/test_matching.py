"""Which place a foreign name means, and what is said where it has none."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from howdeep.chain import Chain
from howdeep.convert import match
from howdeep.networks import build, skeleton, spec_of
from howdeep.util.errors import UserError

assert_same = partial(torch.testing.assert_close, rtol=0, atol=0)


def renamed_to_torchvision(chain: Chain, units: tuple[int, ...]) -> dict[str, Tensor]:
    """A chain's weights under torchvision's names; these rules are written apart from those under test."""
    where, index = {}, 0
    for stage, count in enumerate(units, 1):
        for position in range(count):
            where[index], index = f"layer{stage}.{position}", index + 1
    words = {"branch.": "", "norm": "bn", "shortcut.conv": "downsample.0", "shortcut.bn": "downsample.1"}
    names = {}
    for name in chain.state_dict():
        part, _, rest = name.partition(".")
        if part == "body":
            number, _, rest = rest.partition(".")
            for ours, theirs in words.items():
                rest = rest.replace(ours, theirs)
            names[name] = f"{where[int(number)]}.{rest}"
        else:
            names[name] = rest.replace("conv", "conv1").replace("norm", "bn1").replace("linear", "fc")
    return {names[name]: value for name, value in chain.state_dict().items()}


def randomised(chain: Chain) -> Chain:
    for value in chain.state_dict().values():
        value.copy_(torch.rand(value.shape) * 100)
    return chain


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["cifar_resnet8", "cifar_resnet20", "cifar_resnet38", "cifar_plain14", "cifar_resnet29"]),
    shortcut=st.sampled_from([None, "B", "C"]),
    classes=st.integers(1, 20),
    channels=st.integers(1, 4),
)
def test_weights_renamed_to_torchvisions_names_and_back_are_unchanged(name, shortcut, classes, channels):
    shortcut = None if "plain" in name else shortcut
    spec = spec_of(name, classes=classes, channels=channels, shortcut=shortcut)
    chain = randomised(build(spec))
    theirs = renamed_to_torchvision(chain, spec.units)
    matched = match(theirs, skeleton(spec))
    assert_same(matched.state, dict(chain.state_dict()))
    assert {theirs for theirs, _ in matched.renamed} == theirs.keys()
    assert matched.kept == matched.left == matched.missing == ()


@pytest.mark.parametrize(
    "name",
    ["cifar_resnet20", "cifar_preresnet29", "cifar_wideresnet10_2", "cifar_densenet10_k4", "preresnet18"],
)
def test_own_names_are_kept(name):
    chain = randomised(build(name))
    matched = match(chain.state_dict(), chain)
    assert_same(matched.state, dict(chain.state_dict()))
    assert matched.kept == tuple(chain.state_dict())
    assert matched.renamed == matched.left == matched.missing == ()


def test_state_is_a_copy_in_the_types_of_the_chain():
    chain = build("cifar_resnet8")
    weights = {name: value.clone() for name, value in chain.state_dict().items()}
    weights["stem.conv.weight"] = weights["stem.conv.weight"].half()
    state = match(weights, chain).state
    assert all(state[name].dtype == value.dtype for name, value in chain.state_dict().items())
    for value in state.values():
        value += 1
    assert not weights["head.linear.bias"].any()
    assert not chain.state_dict()["head.linear.bias"].any()


def test_counters_of_batches_may_be_missing_and_start_at_zero():
    chain = build("cifar_resnet8")
    weights = {name: value for name, value in chain.state_dict().items() if "num_batches" not in name}
    matched = match(weights, chain)
    assert len(matched.missing) == 7
    assert all(name.endswith("num_batches_tracked") for name in matched.missing)
    chain.load_state_dict(matched.state)


def public_cifar(chain: Chain, shortcut: str, classifier: str) -> dict[str, Tensor]:
    weights = renamed_to_torchvision(chain, (1, 1, 1))
    return {name.replace("downsample", shortcut).replace("fc.", f"{classifier}."): v for name, v in weights.items()}


@pytest.mark.parametrize("shortcut", ["shortcut", "downsample"])
@pytest.mark.parametrize("classifier", ["linear", "fc", "classifier"])
def test_names_of_public_cifar_networks_are_read(shortcut, classifier):
    chain = randomised(build(spec_of("cifar_resnet8", shortcut="B")))
    theirs = public_cifar(chain, shortcut, classifier)
    assert f"{classifier}.weight" in theirs
    assert f"layer2.0.{shortcut}.1.running_var" in theirs
    assert_same(match(theirs, chain).state, dict(chain.state_dict()))


def test_names_of_the_public_wide_network_are_read():
    chain = randomised(build("cifar_wideresnet10_2"))
    words = {
        "branch.": "",
        "norm": "bn",
        "shortcut.conv": "convShortcut",
        "head.linear": "fc",
        "stem.conv": "conv1",
    }
    where = {
        "body.0.norm": "block1.layer.0.bn1",
        "body.1": "block1.layer.0",
        "body.2.norm": "block2.layer.0.bn1",
    }
    where |= {"body.3": "block2.layer.0", "body.4.norm": "block3.layer.0.bn1", "body.5": "block3.layer.0"}
    theirs = {}
    for name, value in chain.state_dict().items():
        other = name.replace("head.norm", "bn1")
        for ours, word in {**where, **words}.items():
            other = other.replace(ours, word)
        theirs[other] = value
    assert "block2.layer.0.bn1.weight" in theirs
    assert not any("body" in name for name in theirs)
    assert_same(match(theirs, chain).state, dict(chain.state_dict()))


def dense_names(chain: Chain, units: tuple[int, ...], dot: str) -> dict[str, Tensor]:
    """A dense chain's weights under torchvision's names, with ``norm1`` or, as early releases, ``norm.1``."""
    where, index = {}, 0
    for block, count in enumerate(units, 1):
        for position in range(1, count + 1):
            where[index], index = f"features.denseblock{block}.denselayer{position}", index + 1
        where[index], index = f"features.transition{block}", index + 1
    ends = {"stem.conv": "features.conv0", "stem.norm": "features.norm0", "head.norm": "features.norm5"}
    theirs = {}
    for name, value in chain.state_dict().items():
        other = name.replace("head.linear", "classifier")
        for ours, end in ends.items():
            other = other.replace(ours, end)
        if other.startswith("body."):
            _, number, rest = other.split(".", 2)
            for kind in ("conv", "norm"):
                rest = rest.replace(f"branch.{kind}", f"{kind}{dot}")
            other = f"{where[int(number)]}.{rest}"
        theirs[other] = value
    return theirs


@pytest.mark.parametrize("dot", ["", "."])
def test_both_spellings_of_densenet_are_read(dot):
    spec = spec_of("cifar_densenet_bc22_k4")
    chain = randomised(build(spec))
    theirs = dense_names(chain, spec.units, dot)
    assert f"features.denseblock3.denselayer2.norm{dot}2.weight" in theirs
    assert_same(match(theirs, chain).state, dict(chain.state_dict()))


def mismatch(weights: dict[str, Tensor], network: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        match(weights, skeleton(spec_of(network, **options)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def torchvision_like(network: str, units: tuple[int, ...], **options) -> dict[str, Tensor]:
    return renamed_to_torchvision(skeleton(spec_of(network, **options)), units)


def test_wrong_number_of_classes_says_both():
    weights = torchvision_like("cifar_resnet20", (3, 3, 3), classes=100)
    assert "number of classes does not fit: 10 here, 100 in the file" in mismatch(weights, "cifar_resnet20")


def test_wrong_depth_says_both():
    weights = torchvision_like("cifar_resnet20", (3, 3, 3))
    assert "27 (9-9-9) units here, 9 (3-3-3) in the file" in mismatch(weights, "cifar_resnet56")


def test_wrong_depth_under_our_own_names_says_both():
    weights = dict(skeleton(spec_of("cifar_resnet56")).state_dict())
    assert "9 (3-3-3) units here, 27 in the file" in mismatch(weights, "cifar_resnet20")


def test_same_depth_in_other_stages_is_refused():
    weights = torchvision_like("resnet50", (3, 4, 6, 3))
    assert "33 (3-4-23-3) units here, 16 (3-4-6-3) in the file" in mismatch(weights, "resnet101")
    weights = torchvision_like("cifar_resnet14", (2, 2, 2))
    moved = {name.replace("layer1.1", "layer2.2"): value for name, value in weights.items()}
    assert "6 (2-2-2) units here, 6 (1-3-2) in the file" in mismatch(moved, "cifar_resnet14")


def test_wrong_shapes_are_listed_with_both():
    weights = torchvision_like("resnet34", (3, 4, 6, 3))
    line = mismatch(weights, "resnet50")
    assert "layer1.0.conv1.weight is 64×64×1×1 here, 64×64×3×3 in the file" in line


def test_nothing_matched_names_examples_of_both_sides():
    line = mismatch({"encoder.0.weight": torch.ones(2), "encoder.0.bias": torch.ones(2)}, "cifar_resnet20")
    assert "'encoder.0.weight', 'encoder.0.bias'" in line
    assert "'stem.conv.weight'" in line


def test_missing_weights_are_listed_and_counted():
    weights = torchvision_like("cifar_resnet20", (3, 3, 3))
    del weights["fc.bias"], weights["layer2.1.bn1.running_mean"]
    line = mismatch(weights, "cifar_resnet20")
    assert line.startswith("2 of ")
    assert "'body.4.branch.norm1.running_mean', 'head.linear.bias'" in line


def test_weights_outside_the_network_are_left_with_a_reason():
    chain = build("cifar_resnet8")
    weights = dict(chain.state_dict()) | {"teacher.weight": torch.ones(1), "fc.bias": torch.ones(10)}
    matched = match(weights, chain)
    assert dict(matched.left) == {
        "teacher.weight": "not the name of a layer of this network",
        "fc.bias": "head.linear.bias already gave head.linear.bias",
    }
    assert_same(matched.state, dict(chain.state_dict()))


@pytest.mark.parametrize("name", ["layer2.0.shortcut.0.weight", "layer1.0.se.weight", "conv1.bias", "norm.bias"])
def test_layer_that_the_network_lacks_is_refused(name):
    weights = torchvision_like("cifar_resnet8", (1, 1, 1)) | {name: torch.ones(1)}
    assert f"another network: {name!r}" in mismatch(weights, "cifar_resnet8")


def test_plain_network_does_not_take_a_residual_networks_projections():
    weights = torchvision_like("resnet18", (2, 2, 2, 2))
    assert "another network" in mismatch(weights, "plain18")


def test_norm_of_a_transition_is_not_taken_for_the_first_norm_of_the_unit_behind_it():
    spec = spec_of("cifar_densenet10_k4")
    stranger = "features.denseblock2.denselayer1.norm1.weight"
    weights = dense_names(skeleton(spec), spec.units, "") | {stranger: torch.ones(24)}
    assert f"another network: {stranger!r}" in mismatch(weights, "cifar_densenet10_k4")
