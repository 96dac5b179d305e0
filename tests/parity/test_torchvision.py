"""Our ImageNet networks are torchvision's: with the same weights they return the same, and learn the same."""

import pytest
import torch
from torchvision import models

from howdeep.convert import match
from howdeep.networks import skeleton, spec_of


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121"])
def test_network_is_torchvisions_in_evaluation_and_in_training(name, assert_parity):
    matched = assert_parity(getattr(models, name)(weights=None), name, 64)
    assert matched.left == ()
    assert matched.missing == ()


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152", "densenet161", "densenet169", "densenet201"])
def test_other_depths_have_torchvisions_tensors(name):
    with torch.device("meta"):
        theirs = getattr(models, name)().state_dict()
    chain = skeleton(spec_of(name))
    matched = match(theirs, chain)
    assert matched.left == matched.missing == ()
    assert matched.state.keys() == chain.state_dict().keys()
    assert sum(value.numel() for value in theirs.values()) == sum(v.numel() for v in matched.state.values())
