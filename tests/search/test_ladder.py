"""Families and depths → names of the catalogue."""

import pytest

from howdeep.networks import spec_of
from howdeep.search.families import FAMILIES, network_name, plane, usual_depths
from howdeep.search.options import LadderConfig
from howdeep.util.errors import UserError


@pytest.mark.parametrize(
    ("family", "depth", "width", "large", "name"),
    [
        ("plain", 20, 1, False, "cifar_plain20"),
        ("resnet", 1202, 1, False, "cifar_resnet1202"),
        ("preresnet", 56, 4, False, "cifar_preresnet56_w4"),
        ("wideresnet", 28, 4, False, "cifar_wideresnet28_4"),
        ("densenet", 40, 1, False, "cifar_densenet40_k12"),
        ("densenet_bc", 100, 2, False, "cifar_densenet_bc100_k24"),
        ("resnet", 50, 1, True, "resnet50"),
        ("densenet_bc", 121, 1, True, "densenet121"),
    ],
)
def test_names_are_the_catalogue_s(family: str, depth: int, width: int, large: bool, name: str) -> None:
    assert network_name(family, depth, width, large=large) == name


def test_a_plane_is_narrow_first_and_shallow_first_where_it_is_equally_wide() -> None:
    found = plane("resnet", (14, 8), (4, 1), large=False)
    assert [one.network for one in found] == [
        *("cifar_resnet8", "cifar_resnet14", "cifar_resnet8_w4", "cifar_resnet14_w4")
    ]
    assert [(one.depth, one.width) for one in found] == [(8, 1), (14, 1), (8, 4), (14, 4)]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_usual_depth_exists_with_that_depth_and_one_kind_of_unit(family: str, large: bool) -> None:
    if large and FAMILIES[family].large is None:
        pytest.skip("no such networks")
    depths = usual_depths(family, large=large)
    specs = [spec_of(network_name(family, depth, large=large)) for depth in depths]
    assert [spec.depth for spec in specs] == sorted(set(depths))
    if not large:
        # A ladder whose units changed on the way would compare more than depths.
        assert len({getattr(spec, "block", "dense") for spec in specs}) == 1


@pytest.mark.parametrize(
    ("family", "depth", "large", "said"),
    [
        ("resnett", 20, False, "did you mean"),
        ("resnet", 21, False, "cifar_resnet20"),
        ("resnet", 51, True, "resnet50"),
        ("plain", 50, True, "plain34"),
        ("wideresnet", 28, True, "64 pixels"),
        ("densenet", 41, False, "cifar_densenet40_k12"),
        ("plain", -8, False, "unknown network"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(family: str, depth: int, large: bool, said: str) -> None:
    with pytest.raises(UserError, match=said):
        network_name(family, depth, large=large)


def test_a_ladder_has_a_line_per_width_and_wide_networks_the_one_of_their_name() -> None:
    config = LadderConfig(data="digits", families="plain,resnet", depths="8,14", widths="2,1")
    assert [one.network for one in config.plane(large=False)] == [
        *("cifar_plain8", "cifar_plain14", "cifar_plain8_w2", "cifar_plain14_w2"),
        *("cifar_resnet8", "cifar_resnet14", "cifar_resnet8_w2", "cifar_resnet14_w2"),
    ]
    wide = LadderConfig(data="digits", families="wideresnet", depths="10,16")
    assert [one.network for one in wide.plane(large=False)] == ["cifar_wideresnet10_4", "cifar_wideresnet16_4"]
