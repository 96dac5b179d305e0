"""Integers of the literature: parameters and multiply-adds, to the last digit."""

from dataclasses import replace

import pytest
from tests.networks.conftest import counted

from howdeep.networks import DenseSpec, Spec, skeleton, spec_of
from howdeep.networks.counting import Summary, describe

PARAMETERS = {
    "cifar_resnet20": 269_722,
    "cifar_resnet32": 464_154,
    "cifar_resnet44": 658_586,
    "cifar_resnet56": 853_018,
    "cifar_resnet110": 1_727_962,
    "cifar_resnet1202": 19_421_274,
    "cifar_resnet18_w64": 11_173_962,
    "cifar_resnet14_w4": 2_735_946,
    "cifar_preresnet110": 1_727_962,
    "cifar_preresnet164": 1_703_258,
    "cifar_preresnet1001": 10_327_706,
    "cifar_wideresnet28_10": 36_479_194,
    "cifar_wideresnet16_8": 10_961_370,
    "cifar_wideresnet40_4": 8_949_210,
    "cifar_wideresnet16_4": 2_748_890,
    "cifar_densenet40_k12": 1_019_722,
    "cifar_densenet100_k12": 6_979_642,
    "cifar_densenet100_k24": 27_249_082,
    "cifar_densenet_bc100_k12": 769_162,
    "cifar_densenet_bc250_k24": 15_324_406,
    "cifar_densenet_bc190_k40": 25_624_430,
    "cifar_densenet_bc40_k36": 1_542_682,
    "cifar_densenet_bc40_k48": 2_733_130,
    "cifar_densenet_bc40_k60": 4_261_690,
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet200": 64_673_832,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "densenet161": 28_681_000,
    "densenet264": 33_337_704,
}
HUNDRED_CLASSES = {
    "cifar_resnet20": 269_722 + 5_850,
    "cifar_plain110": 1_727_962 + 5_850,
    "cifar_preresnet164": 1_726_388,
    "cifar_preresnet1001": 10_350_836,
    "cifar_wideresnet28_10": 36_536_884,
    "cifar_densenet40_k12": 1_060_132,
    "cifar_densenet100_k12": 7_084_852,
    "cifar_densenet100_k24": 27_457_972,
    "cifar_densenet_bc100_k12": 800_032,
    "cifar_densenet_bc250_k24": 15_480_556,
    "cifar_densenet_bc190_k40": 25_821_620,
}
SHORTCUTS = {
    ("resnet18", "A"): 11_515_688,
    ("resnet34", "A"): 21_623_848,
    ("resnet18", "C"): 12_043_816,
    ("resnet34", "C"): 22_716_840,
    ("resnet50", "C"): 40_128_552,
    ("resnet101", "C"): 76_981_288,
    ("cifar_resnet20", "B"): 269_722 + 2_752,
    ("cifar_resnet110", "B"): 1_727_962 + 2_752,
}
WEIGHTS_ALONE = {
    "cifar_resnet20": 268_336,
    "cifar_resnet32": 461_872,
    "cifar_resnet44": 655_408,
    "cifar_resnet56": 848_944,
    "cifar_resnet110": 1_719_856,
    "cifar_resnet1202": 19_331_632,
    "cifar_preresnet1001": 10_178_480,
}
MACS = {
    "cifar_resnet20": 40_551_040,
    "cifar_resnet32": 68_862_592,
    "cifar_resnet44": 97_174_144,
    "cifar_resnet56": 125_485_696,
    "cifar_resnet110": 252_887_680,
    "cifar_resnet1202": 2_829_238_912,
}
ROUNDED_MACS = {
    "resnet18": "1.814e+09",
    "resnet34": "3.664e+09",
    "resnet50": "4.089e+09",
    "resnet101": "7.801e+09",
    "resnet152": "1.151e+10",
    "resnet200": "1.501e+10",
    "cifar_densenet40_k12": "2.648e+08",
    "cifar_densenet100_k12": "1.770e+09",
    "cifar_densenet100_k24": "6.889e+09",
    "cifar_densenet_bc100_k12": "2.879e+08",
    "cifar_densenet_bc250_k24": "5.419e+09",
    "cifar_densenet_bc190_k40": "9.302e+09",
    "densenet121": "2.834e+09",
    "densenet161": "7.728e+09",
    "densenet169": "3.360e+09",
    "densenet201": "4.291e+09",
    "densenet264": "5.752e+09",
}
EARLY_STRIDE = 2 * 64 * 32 * (32**2 - 16**2)
"""MACs that a CIFAR bottleneck network saves by striding in its first 1×1, as the authors' code does."""


Catalogue = dict[str, Summary]


def parameters(spec: Spec) -> int:
    return sum(weight.numel() for weight in skeleton(spec).parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_known_integer(name: str, networks: Catalogue) -> None:
    assert counted(name).parameters == PARAMETERS[name]
    assert name not in networks or networks[name].parameters == PARAMETERS[name]


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110, 1202])
def test_a_plain_network_has_exactly_the_parameters_of_the_residual_one(depth: int) -> None:
    assert counted(f"cifar_plain{depth}").parameters == PARAMETERS[f"cifar_resnet{depth}"]


@pytest.mark.parametrize("name", HUNDRED_CLASSES)
def test_parameters_for_a_hundred_classes_are_the_known_integer(name: str) -> None:
    assert parameters(spec_of(name, classes=100)) == HUNDRED_CLASSES[name]


@pytest.mark.parametrize(("name", "shortcut"), SHORTCUTS)
def test_parameters_with_another_shortcut_are_the_known_integer(name: str, shortcut: str) -> None:
    assert parameters(spec_of(name, shortcut=shortcut)) == SHORTCUTS[name, shortcut]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WEIGHTS_ALONE)
def test_weights_without_norms_and_biases_are_the_known_integer(name: str) -> None:
    assert counted(name).weights == WEIGHTS_ALONE[name]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar_densenet40_k12", 1_059_298),
        ("cifar_densenet100_k12", 7_083_538),
        ("cifar_densenet100_k24", 28_071_706),
    ],
)
def test_parameters_with_the_stem_of_the_dense_authors_code(name: str, count: int) -> None:
    spec = spec_of(name)
    assert isinstance(spec, DenseSpec)
    assert parameters(replace(spec, stem=2 * spec.growth)) == count


@pytest.mark.parametrize(("units", "count"), [((6, 12, 64, 48), 72_686_632), ((6, 12, 48, 48), 55_570_984)], ids=str)
def test_parameters_of_dense_networks_that_have_no_name(units: tuple[int, ...], count: int) -> None:
    spec = spec_of("densenet161")
    assert isinstance(spec, DenseSpec)
    assert parameters(replace(spec, units=units)) == count


@pytest.mark.parametrize(("n", "width"), [(1, 1), (2, 3), (11, 2), (27, 1)])
@pytest.mark.parametrize("family", ["plain", "resnet", "preresnet"])
def test_parameters_and_macs_grow_linearly_with_depth_and_those_of_units_with_the_square_of_the_width(
    n: int, width: int, family: str
) -> None:
    suffix = f"_w{width}" if width > 1 else ""
    network = describe(spec_of(f"cifar_{family}{6 * n + 2}{suffix}", block=None if family == "plain" else "basic"))
    assert network.parameters == (96_768 * n - 23_040) * width**2 + (448 * n + 1_104) * width + 10
    assert network.macs == (14_155_776 * n - 2_359_296) * width**2 + 443_008 * width


@pytest.mark.parametrize("n", [1, 2, 10, 37])
def test_parameters_of_pre_activation_bottlenecks_grow_linearly_with_depth(n: int) -> None:
    spec = spec_of(f"cifar_preresnet{9 * n + 2}", block="bottleneck")
    assert parameters(spec) == 92_736 * n + 34_010


@pytest.mark.parametrize("name", MACS)
def test_multiply_adds_are_the_known_integer(name: str, networks: Catalogue) -> None:
    assert networks[name].macs == MACS[name]


@pytest.mark.parametrize("name", ROUNDED_MACS)
def test_multiply_adds_are_the_known_number(name: str, networks: Catalogue) -> None:
    assert f"{networks[name].macs:.3e}" == ROUNDED_MACS[name]


@pytest.mark.parametrize(("name", "known"), [("cifar_preresnet164", "2.445e+08"), ("cifar_preresnet1001", "1.488e+09")])
def test_multiply_adds_of_pre_activation_bottlenecks_differ_by_the_place_of_the_stride(
    name: str, known: str, networks: Catalogue
) -> None:
    """The published count strides in the first 1×1 of a bottleneck, these networks in the 3×3."""
    assert f"{networks[name].macs - EARLY_STRIDE:.3e}" == known
    assert f"{networks[name].macs:.3e}" != known
