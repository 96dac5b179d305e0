"""Names: what exists, what the literature means by it, and how the rest is refused."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.networks.conftest import counted
from tests.oracles import SMALL, images, in_turn, untimed

from howdeep.networks import LITERATURE, build, spec_of
from howdeep.networks.catalogue import at_width
from howdeep.util.errors import UserError


@pytest.mark.parametrize("name", LITERATURE)
def test_every_network_of_the_literature_is_as_deep_as_its_name_says(name: str) -> None:
    spec = spec_of(name)
    assert spec.name == name
    assert counted(name).units == sum(spec.units)
    # 264 is what the authors of DenseNet call 265 layers; wide networks count three projections, and no classifier.
    correction = {"densenet264": 1}.get(name, -2 if "wide" in name else 0)
    assert counted(name).layers == spec.depth + correction


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("cifar_plain56", "basic"),
        ("cifar_plain164", "basic"),
        ("cifar_resnet110", "basic"),
        ("cifar_resnet1202", "basic"),
        ("cifar_preresnet110", "basic"),
        ("cifar_preresnet20", "basic"),
        ("cifar_preresnet164", "bottleneck"),
        ("cifar_preresnet1001", "bottleneck"),
        ("cifar_resnet29", "bottleneck"),
        ("resnet34", "basic"),
        ("preresnet50", "bottleneck"),
    ],
)
def test_the_block_is_what_the_literature_means_by_the_name(name: str, block: str) -> None:
    assert spec_of(name).block == block  # type: ignore[union-attr]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_preresnet110", "cifar_preresnet164"])
def test_a_block_that_is_given_wins(name: str, block: Any) -> None:
    spec = spec_of(name, block=block)
    assert spec.block == block  # type: ignore[union-attr]
    assert counted(name, block=block).layers == spec.depth


@pytest.mark.parametrize(
    ("name", "shortcut"),
    [("cifar_resnet20", "A"), ("cifar_preresnet164", "B"), ("cifar_wideresnet28_10", "B"), ("resnet18", "B")],
)
def test_the_shortcut_is_the_literatures_choice(name: str, shortcut: str) -> None:
    assert spec_of(name).shortcut == shortcut  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("cifar_plain21", "cifar_plain20 or cifar_plain26"),
        ("cifar_resnet57", "cifar_resnet56 or cifar_resnet62 or cifar_resnet65"),
        (
            "cifar_preresnet1000",
            "cifar_preresnet992 or cifar_preresnet998 or cifar_preresnet1001 or cifar_preresnet1004",
        ),
        ("cifar_resnet2", "cifar_resnet8 or cifar_resnet11 or cifar_resnet14 or cifar_resnet20"),
        ("cifar_resnet0", "cifar_resnet8 or cifar_resnet11 or cifar_resnet14 or cifar_resnet20"),
        ("cifar_wideresnet30_10", "cifar_wideresnet28_10 or cifar_wideresnet34_10"),
        ("cifar_densenet41_k12", "cifar_densenet40_k12 or cifar_densenet43_k12"),
        ("cifar_densenet_bc101_k12", "cifar_densenet_bc100_k12 or cifar_densenet_bc106_k12"),
        ("resnet51", "resnet50 or resnet34"),
        ("plain50", "plain34 or plain18"),
        ("preresnet1001", "preresnet200 or preresnet152"),
        ("densenet264000", "densenet264 or densenet201"),
        ("cifar_plain21_w4", "cifar_plain20_w4 or cifar_plain26_w4"),
    ],
)
def test_a_depth_that_does_not_exist_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"^{name} is not allowed: .* has no depth \d+; the nearest are {nearest}$"):
        spec_of(name)


@untimed
@given(
    depth=st.integers(0, 3000),
    name=st.sampled_from(
        [
            *("cifar_plain{}", "cifar_resnet{}", "cifar_preresnet{}", "cifar_wideresnet{}_2", "cifar_resnet{}_w4"),
            *("cifar_densenet{}_k4", "cifar_densenet_bc{}_k4", "plain{}", "resnet{}", "densenet{}"),
        ]
    ),
)
def test_every_name_that_a_refusal_suggests_exists(depth: int, name: str) -> None:
    try:
        spec = spec_of(name.format(depth))
        assert spec.depth == depth
    except UserError as error:
        suggested = str(error).split("the nearest are ")[1].split(" or ")
        assert name.format(depth) not in suggested
        assert [spec_of(other).name for other in suggested] == suggested


@pytest.mark.parametrize(("name", "block"), [("cifar_resnet32", "bottleneck"), ("cifar_resnet29", "basic")])
def test_names_suggested_for_a_block_exist_with_that_block(name: str, block: Any) -> None:
    with pytest.raises(UserError) as refusal:
        spec_of(name, block=block)
    for other in str(refusal.value).split("the nearest are ")[1].split(" or "):
        assert spec_of(other, block=block).depth != spec_of(name).depth


@pytest.mark.parametrize("name", ["resnet50", "resnet34", "preresnet101", "plain18"])
def test_a_large_network_has_only_the_block_of_its_name(name: str) -> None:
    """With the other block the 50-layer network would have 34 layers, or 34 would have 50."""
    own = spec_of(name).block  # type: ignore[union-attr]
    with pytest.raises(UserError, match="block"):
        spec_of(name, block="basic" if own == "bottleneck" else "bottleneck")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("densenet121", {"block": "basic"}, r"^block 'basic' is not allowed for densenet121"),
        ("densenet121", {"shortcut": "B"}, r"^shortcut 'B' is not allowed for densenet121"),
        ("cifar_densenet40_k12", {"zero_init": True}, r"^zero_init True is not allowed for cifar_densenet40_k12"),
        ("cifar_plain20", {"shortcut": "A"}, r"^shortcut 'A' is not allowed for cifar_plain20"),
        ("plain18", {"zero_init": True}, r"^zero_init True is not allowed for plain18"),
        ("cifar_plain20", {"block": "bottleneck"}, r"^block 'bottleneck' is not allowed for cifar_plain20"),
        ("cifar_plain32", {"block": "bottleneck"}, r"^block 'bottleneck' is not allowed for cifar_plain32"),
        ("cifar_wideresnet28_10", {"block": "bottleneck"}, r"^cifar_wideresnet28_10 is not allowed: .*basic"),
        ("cifar_wideresnet28_0", {}, r"^cifar_wideresnet28_0 is not allowed: .*at least 1$"),
        ("cifar_resnet20_w0", {}, r"^cifar_resnet20_w0 is not allowed: its width must be at least 1$"),
        ("cifar_resnet18_w0", {}, r"^cifar_resnet18_w0 is not allowed: it must be at least 1 channel wide$"),
        ("cifar_densenet40_k0", {}, r"^cifar_densenet40_k0 is not allowed: .*at least 1$"),
        ("cifar_resnet20", {"dropout": 1.0}, r"^dropout 1\.0 is not allowed: it must be at least 0 and below 1$"),
        ("densenet121", {"dropout": -0.1}, r"^dropout -0\.1 is not allowed"),
        ("cifar_resnet20", {"shortcut": "D"}, r"shortcut 'D'"),
        ("cifar_resnet20", {"block": "bottle"}, r"block 'bottle'"),
        ("cifar_resnet20", {"classes": 0}, r"classes.*\b0\b|\b0 classes"),
        ("densenet121", {"classes": -1}, r"classes.*-1|-1 classes"),
        ("cifar_resnet20", {"channels": 0}, r"channels.*\b0\b|\b0 channels"),
    ],
)
def test_an_option_that_does_not_exist_there_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec_of(name, **options)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet", r"did you mean .*resnet"),
        ("cifar_resnet_56", r"did you mean .*cifar_resnet56"),
        ("ResNet50", r"did you mean .*resnet50"),
        ("resnet50 ", r"did you mean .*resnet50"),
        ("vit", r"known: cifar_densenet100_k12, "),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=rf"^unknown network '{name}'; {hint}"):
        spec_of(name)


@pytest.mark.parametrize("name", ["cifar_resnet020", "cifar_resnet２０"])
def test_a_network_has_one_name_only(name: str) -> None:
    with pytest.raises(UserError):
        spec_of(name)


@pytest.mark.parametrize(("family", "channels", "classes"), in_turn(SMALL, [1, 3, 4], [1, 2, 7, 100]))
def test_any_number_of_classes_and_channels(family: str, channels: int, classes: int) -> None:
    name, options = SMALL[family]
    chain = build(spec_of(name, **{**options, "classes": classes, "channels": channels})).eval()
    with torch.no_grad():
        assert chain(images(2, channels=channels)).shape == (2, classes)


@pytest.mark.parametrize(("name", "classes"), [("cifar_resnet20", 10), ("resnet18", 1000), ("densenet121", 1000)])
def test_classes_are_by_default_those_of_the_data_of_the_literature(name: str, classes: int) -> None:
    assert spec_of(name).classes == classes


@pytest.mark.parametrize("name", ["cifar_plain8", "cifar_resnet20", "cifar_preresnet29", "cifar_resnet56"])
def test_a_width_of_1_is_the_network_of_the_literature(name: str) -> None:
    assert spec_of(f"{name}_w1") == spec_of(name)


@pytest.mark.parametrize(
    ("name", "width", "wider"),
    [
        ("cifar_resnet14", 4, "cifar_resnet14_w4"),
        ("cifar_resnet14_w4", 1, "cifar_resnet14"),
        ("cifar_plain", 2, "cifar_plain_w2"),
        ("cifar_wideresnet28_10", 2, "cifar_wideresnet28_2"),
        ("cifar_densenet_bc100", 2, "cifar_densenet_bc100_k24"),
        ("resnet50", 1, "resnet50"),
    ],
)
def test_a_name_has_another_width(name: str, width: int, wider: str) -> None:
    assert at_width(name, width) == wider


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet50", "networks for large images have width 1 only"),
        ("cifar_resnet50", "cifar_resnet50_w4 has the units of resnet50; the nearest are cifar_resnet56_w4"),
    ],
)
def test_a_width_that_would_be_another_network_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"^width 4 is not allowed for {name}: {said}$"):
        at_width(name, 4)
