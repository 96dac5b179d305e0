"""Our networks are timm's where timm has the same.

``resnetv2_18``, ``_34``, ``_50``, ``_101`` and ``_152`` are ``preresnet``: a 7×7 stem without norm, ReLU, the
stride in the 3×3 convolution, a projection of the activated input, a last norm and ReLU, ε 1e-5. Their
classifier is a 1×1 convolution. Other ``resnetv2`` variants are other networks (mean pooling before the
projection, a deep stem, group norm with standardised weights) and are refused. timm has no CIFAR networks.
"""

import pytest
import timm
import torch

from howdeep.convert import match
from howdeep.networks import skeleton, spec_of
from howdeep.util.errors import UserError


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("resnet18", "resnet18"),
        pytest.param("resnet50", "resnet50", marks=pytest.mark.slow),
        ("resnetv2_18", "preresnet18"),
        ("resnetv2_50", "preresnet50"),
        ("densenet121", "densenet121"),
    ],
)
def test_network_is_timms_in_evaluation_and_in_training(theirs, ours, assert_parity):
    matched = assert_parity(timm.create_model(theirs), ours, 64)
    assert matched.left == ()
    assert matched.missing == ()


@pytest.mark.parametrize("depth", [34, 101, 152])
def test_deeper_preactivation_networks_have_timms_tensors(depth):
    chain = skeleton(spec_of(f"preresnet{depth}"))
    with torch.device("meta"):
        theirs = timm.create_model(f"resnetv2_{depth}").state_dict()
    matched = match(theirs, chain)
    assert matched.left == matched.missing == ()
    assert matched.state.keys() == chain.state_dict().keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("resnet50d", "resnet50"), ("resnetv2_50d", "preresnet50"), ("resnetv2_50x1_bit", "preresnet50")],
)
def test_networks_with_another_stem_or_norm_are_refused(theirs, ours):
    with torch.device("meta"):
        weights = timm.create_model(theirs).state_dict()
    with pytest.raises(UserError, match=r"do not fit|not in the file|no place here"):
        match(weights, skeleton(spec_of(ours)))
