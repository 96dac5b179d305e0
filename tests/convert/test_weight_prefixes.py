"""One rule for what stands before names, for chains and for networks of the libraries."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor
from torchvision import models

from howdeep.convert import match
from howdeep.convert.foreign_names import own_names
from howdeep.convert.libraries import library_network
from howdeep.networks import build, spec_of
from howdeep.runs.foreign import read_network
from howdeep.util.errors import UserError

PREFIXES = ["", "module.", "model.", "net.", "backbone.", "_orig_mod.", "encoder.backbone.", "model.module.student."]
LIBRARY = "timm:test_resnet"


def behind(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def library_weights(classes: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(timm.create_model("test_resnet", num_classes=classes).state_dict())


def loaded(file: Path, weights: dict[str, Tensor], **options) -> tuple[dict[str, Tensor], list[str], int]:
    """Return the weights of a library's network that read them from a file, what it said, and its classes."""
    torch.save({"state_dict": weights}, file)
    said: list[str] = []
    found = library_network(LIBRARY, weights=file, report=said.append, **options)
    return dict(found.model.state_dict()), said, found.classes


def refusal(file: Path, weights: dict[str, Tensor]) -> str:
    with pytest.raises(UserError) as caught:
        loaded(file, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("outside", [False, True], ids=["all behind it", "classifier outside"])
def test_weights_behind_any_prefix_are_read(tmp_path, prefix, outside):
    chain, theirs = build("cifar_resnet8"), library_weights()
    kept = "fc." if outside else "nothing"
    named = {name if name.startswith(kept) else prefix + name: value for name, value in theirs.items()}
    state, said, classes = loaded(tmp_path / "a.pth", named)
    torch.testing.assert_close(state, theirs, rtol=0, atol=0)
    assert (said, classes) == ([], 7)
    own = {name.replace("head.linear", "fc"): value for name, value in chain.state_dict().items()}
    named = {name if name.startswith(kept) else prefix + name: value for name, value in own.items()}
    matched = match(named, chain)
    torch.testing.assert_close(matched.state, dict(chain.state_dict()), rtol=0, atol=0)
    assert matched.left == matched.missing == ()


def test_what_stands_outside_is_left_and_listed(tmp_path):
    chain = build("cifar_resnet8")
    extra = {"criterion.weight": torch.ones(3), "metrics.confusion": torch.ones(2, 2)}
    matched = match(behind("net.", dict(chain.state_dict())) | extra, chain)
    assert dict(matched.left) == dict.fromkeys(extra, "outside 'net'")
    _, said, _ = loaded(tmp_path / "a.pth", behind("net.", library_weights()) | extra)
    assert said == [f"{tmp_path / 'a.pth'}: left out, as no part of {LIBRARY}: 'criterion.weight', 'metrics.confusion'"]
    _, said, _ = loaded(tmp_path / "a.pth", library_weights() | extra)
    assert said == [f"{tmp_path / 'a.pth'}: left out, as no part of {LIBRARY}: 'criterion.weight', 'metrics.confusion'"]


@pytest.mark.parametrize(("trained", "average"), [("student", "teacher"), ("online_model", "ema_model")])
def test_of_a_network_and_its_average_the_trained_one_is_taken(tmp_path, trained, average):
    theirs = library_weights()
    other = {name: value + 1 for name, value in theirs.items()}
    both = behind(f"{average}.", other) | behind(f"{trained}.", theirs)
    state, said, _ = loaded(tmp_path / "a.pth", both)
    torch.testing.assert_close(state, theirs, rtol=0, atol=0)
    assert f"the network is also under '{average}', which is left out; --key {average} takes it" in said[-1]
    state, said, _ = loaded(tmp_path / "a.pth", both, key=average)
    torch.testing.assert_close(state, other, rtol=0, atol=0)
    assert said == []


def test_a_weight_that_is_missing_is_not_taken_from_the_average(tmp_path):
    theirs = library_weights()
    both = behind("student.", theirs) | behind("teacher.", theirs)
    del both["student.fc.bias"], both["student.layer2.0.bn1.weight"]
    del both["teacher.fc.weight"], both["teacher.conv1.0.weight"], both["teacher.layer1.0.bn1.bias"]
    assert "2 tensors are missing" in refusal(tmp_path / "a.pth", both)


def test_names_are_found_behind_the_longest_way_and_cut_at_dots_alone():
    own = {"a.w", "b.w", "fc.w"}
    found = own_names(["x.y.a.w", "x.y.b.w", "x.fc.w", "x.yb.w", "z.w"], lambda name: name if name in own else None)
    assert found.names == {"x.y.a.w": "a.w", "x.y.b.w": "b.w", "x.fc.w": "fc.w"}
    assert found.outside == {"x.yb.w": "outside 'x.y'", "z.w": "outside 'x.y'"}
    assert found.again == ()


def test_a_layer_that_a_librarys_network_lacks_is_refused_with_its_name(tmp_path):
    weights = behind("model.", library_weights() | {"layer1.0.se.fc.weight": torch.ones(2)})
    assert "1 tensors have no place in it, 'layer1.0.se.fc.weight'" in refusal(tmp_path / "a.pth", weights)


def test_what_does_not_fit_names_both_sides(tmp_path):
    weights = library_weights()
    weights["conv1.0.weight"] = torch.ones(16, 4, 3, 3)
    line = refusal(tmp_path / "a.pth", weights)
    assert f"does not hold {LIBRARY}: 1 of 92 shapes do not fit: conv1.0.weight is" in line
    assert "here, 16×4×3×3 in the file" in line
    line = refusal(tmp_path / "a.pth", {"encoder.0.weight": torch.ones(2)})
    assert "it has 'encoder.0.weight'" in line


@pytest.mark.parametrize("network", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet"])
def test_classes_are_told_by_the_classifier_and_by_no_other_matrix(tmp_path, network):
    weights = dict(reversed(timm.create_model(network, num_classes=7).state_dict().items()))
    torch.save(weights | {"queue.weight": torch.ones(5, 5)}, tmp_path / "a.pth")
    found = library_network(f"timm:{network}", weights=tmp_path / "a.pth", report=print)
    assert found.classes == 7


def test_classes_of_a_network_that_cannot_be_made_without_values_are_told(tmp_path):
    with pytest.raises(RuntimeError, match="meta tensor"), torch.device("meta"):
        models.regnet_y_400mf()
    torch.save(models.regnet_y_400mf(num_classes=3).state_dict(), tmp_path / "a.pth")
    found = library_network(
        "torchvision:regnet_y_400mf", weights=tmp_path / "a.pth", pretrained=False, size=None, fresh=False
    )
    assert found.classes == 3


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_preresnet29", "cifar_densenet10_k4", "cifar_wideresnet10_2"])
def test_classes_and_channels_of_a_chain_are_told_by_its_own_layers(tmp_path, name):
    state = dict(reversed(build(spec_of(name, classes=7, channels=2)).state_dict().items()))
    torch.save(behind("model.", state) | {"queue.weight": torch.ones(5, 5)}, tmp_path / "a.pth")
    spec, chain, _ = read_network(name, tmp_path / "a.pth", report=print)
    assert (spec.classes, spec.channels) == (7, 2)
    assert chain.eval()(torch.zeros(1, 2, 32, 32)).shape == (1, 7)
