from copy import deepcopy

import pytest
import torch
from timm import create_model
from timm.models import adapt_input_conv
from torch import Tensor, nn

import howdeep
from howdeep.convert.classifier import adapt_channels, replace_classifier
from howdeep.util.errors import UserError

ATTENTION = "deit_tiny_distilled_patch16_224"
SMALLER = {ATTENTION: {"img_size": 32, "depth": 2}}


def timm_chain(name: str, size: int) -> tuple[howdeep.Chain, Tensor]:
    example = torch.randn(2, 3, size, size)
    model = create_model(name, num_classes=50, **SMALLER.get(name, {})).eval()  # type: ignore[arg-type]
    return howdeep.unravel(model, example), example


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet10t", 32), pytest.param("tf_efficientnet_lite0", 32, marks=pytest.mark.slow), (ATTENTION, 32)],
)
def test_a_new_classifier_changes_the_logits_alone(name: str, size: int) -> None:
    chain, example = timm_chain(name, size)
    before = {name: tensor.clone() for name, tensor in chain.state_dict().items()}
    new = replace_classifier(chain, example, 7, seed=3)
    assert chain(example).shape == (2, 7)
    changed = [name for name, tensor in chain.state_dict().items() if not torch.equal(tensor, before[name])]
    assert set(changed) == set(new)
    assert all(chain.get_parameter(name).shape[0] == 7 for name in new)
    # A network that averages the logits of two classifiers has two new ones.
    assert len(new) == (4 if name == ATTENTION else 2)


def test_a_new_classifier_of_a_catalogue_network_is_a_linear_layer_that_says_its_size() -> None:
    chain = howdeep.build(howdeep.spec_of("cifar_resnet8", classes=64)).eval()  # as many classes as feature maps
    assert replace_classifier(chain, torch.randn(2, 3, 32, 32), 7, seed=0) == ["head.linear.weight", "head.linear.bias"]
    classifier = chain.head.get_submodule("linear")
    assert isinstance(classifier, nn.Linear)
    assert classifier.out_features == 7


def test_the_same_seed_draws_the_same_classifier() -> None:
    one, other = (howdeep.build("cifar_resnet8").eval() for _ in range(2))
    example = torch.randn(2, 3, 32, 32)
    replace_classifier(one, example, 7, seed=5)
    replace_classifier(other, example, 7, seed=5)
    weight = one.get_parameter("head.linear.weight")
    assert torch.equal(weight, other.get_parameter("head.linear.weight"))
    assert weight.abs().max() <= 64**-0.5


def test_of_two_layers_as_wide_as_the_logits_only_the_last_is_new() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 10))
    chain = howdeep.build("cifar_resnet8").eval()
    chain.head = nn.Sequential(nn.Conv2d(64, 16, 1), *head)
    assert replace_classifier(chain, torch.randn(2, 3, 32, 32), 7, seed=0) == ["head.5.weight", "head.5.bias"]


def test_logits_that_no_linear_layer_returns_are_refused_and_nothing_changes() -> None:
    chain = howdeep.build("cifar_resnet8").eval()
    chain.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 20), nn.AvgPool1d(2))
    before = chain.get_parameter("head.2.weight").clone()
    with pytest.raises(UserError, match="no classifier found: the 10 logits"):
        replace_classifier(chain, torch.randn(2, 3, 32, 32), 7, seed=0)
    assert torch.equal(chain.get_parameter("head.2.weight"), before)


def test_the_first_convolution_reads_other_channels_as_timm_does_it() -> None:
    original, example = timm_chain("resnet10t", 32)
    for channels in (1, 2, 4, 13):
        chain = deepcopy(original)
        name = adapt_channels(chain, example, channels)
        assert name == "stem.conv1.0.weight"
        assert torch.allclose(chain.get_parameter(name), adapt_input_conv(channels, original.get_parameter(name)))
        assert chain(torch.randn(2, channels, 32, 32)).shape == (2, 50)


def test_a_network_that_begins_otherwise_than_with_a_convolution_over_all_channels_is_refused() -> None:
    chain = howdeep.build("cifar_resnet8").eval()
    chain.stem = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3), chain.stem)
    with pytest.raises(UserError, match="images of 5 channels do not fit"):
        adapt_channels(chain, torch.randn(2, 3, 32, 32), 5)
