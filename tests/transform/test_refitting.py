"""Units behind a gap refitted: on paper, exact where a linear layer can be, and in networks of every family."""

import pytest
import torch
from tests.analysis.cases import thin_resnet18
from tests.oracles import SMALL, chain_of, images, small_network
from torch import Tensor, nn

from howdeep import Chain, unravel
from howdeep.chain import Add, Merge, Unit
from howdeep.transform import refitting
from howdeep.transform.refitting import refitted
from howdeep.transform.removal import without


def difference(one: Chain, other: Chain, x: Tensor) -> float:
    with torch.no_grad():
        return float((one(x) - other(x)).square().mean())


class Half(Merge):
    """H = (shortcut + branch)/2, or half the shortcut + branch: merges that the package does not have."""

    def __init__(self, *, adds: bool) -> None:
        super().__init__()
        self.adds = adds

    def forward(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        return (shortcut + branch) / 2 if self.adds else shortcut / 2 + branch

    def closed(self, shortcut: Tensor) -> Tensor:
        return shortcut / 2


@pytest.mark.parametrize("merge", [Add(), Half(adds=True), Half(adds=False)])
def test_a_unit_behind_a_linear_one_takes_over_what_that_did(merge: Merge, monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 + A)(1 + B) x = (1 + C) x, with C = A + B + AB; of a merge that does not say that it adds, the branch."""
    monkeypatch.setattr(refitting, "RIDGES", (0.0,))
    torch.manual_seed(0)
    first, second = (nn.Conv2d(3, 3, 1).double() for _ in range(2))
    chain, x = chain_of([first, second], merge).eval(), images(20).double()
    cut, held = refitted(chain, [0], [x[:12], x[12:]]), images(5, seed=3).double()
    assert len(cut) == 1
    a, b = (layer.weight[:, :, 0, 0] for layer in (first, second))
    expected = a + b + b @ a if merge.adds else b + 2 * b @ a
    branch = cut.units[0].branch
    torch.testing.assert_close(branch.weight[:, :, 0, 0], expected)  # type: ignore[union-attr,index]
    if merge.adds:
        torch.testing.assert_close(cut(held), chain(held))
    else:
        torch.testing.assert_close(branch(held / 2), second(chain.units[0](held)))


def test_tokens_of_a_linear_layer_with_a_factor_per_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refitting, "RIDGES", (0.0,))
    torch.manual_seed(0)
    first, second = nn.Linear(6, 6).double(), nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)).double()
    third = nn.Sequential(nn.Linear(6, 6), Factor(6)).double()
    chain, x = chain_of([second, first, third]).eval(), torch.randn(30, 4, 6, dtype=torch.float64)
    cut = refitted(chain, [1], [x])
    torch.testing.assert_close(cut(x), chain(x))


class Factor(nn.Module):
    """x · w, a layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-2, 1.5, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.mark.parametrize("name", SMALL)
def test_features_of_later_units_come_nearer_to_those_of_the_whole_network(name: str) -> None:
    chain = small_network(name, width=None if "dense" in name else 4).double()
    x = torch.cat([images(16, seed=seed) for seed in range(3)]).double()
    gone = [next(index for index, unit in enumerate(chain.units) if unit.merge.removable)]
    before = {name: value.clone() for name, value in chain.state_dict().items()}
    cut, new = without(chain, gone), refitted(chain, gone, x.split(20))
    ends_in_relu = name == "plain"
    better = difference(new, chain, x) < 0.7 * difference(cut, chain, x)
    assert better != ends_in_relu
    assert all(torch.equal(value, before[name]) for name, value in chain.state_dict().items())
    assert {name: value.shape for name, value in new.state_dict().items()} == {
        name: value.shape for name, value in cut.state_dict().items()
    }


def test_no_other_weights_of_its_last_layer_bring_a_traced_unit_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a unit lacks, behind those that were refitted before it, has no slope at its new weights."""
    monkeypatch.setattr(refitting, "RIDGES", (1e-9,))
    x = images(32, size=32).double()
    chain = unravel(thin_resnet18().double(), x)
    new = refitted(chain, [0], [x])
    whole, cut = (inputs(one, x) for one in (chain, new))
    for old, unit, before, after in zip(chain.units[1:], new.units, whole[1:], cut, strict=True):
        was, now = (slope(one, after, old(before).detach()) for one in (old, unit))
        # Random weights and few images: what is good for half of them is good for the others behind the gap alone.
        assert now < 1e-6 * was if unit is new.units[0] else now == was


def inputs(chain: Chain, x: Tensor) -> list[Tensor]:
    """Return what every unit reads."""
    with torch.no_grad():
        maps = [chain.stem(x)]
        for module in chain.body:
            maps.append(module(maps[-1].clone()))
    return [read for module, read in zip(chain.body, maps, strict=False) if isinstance(module, Unit)]


def slope(unit: Unit, x: Tensor, wanted: Tensor) -> float:
    """Return the gradient, as a norm, of what a unit lacks by the weights of its last convolution."""
    weight = [one for one in unit.branch.parameters() if one.dim() == 4][-1]
    (gradient,) = torch.autograd.grad((unit(x) - wanted).square().sum(), weight)
    return float(gradient.norm())


def test_units_within_reach_of_a_gap_change_and_no_other() -> None:
    chain, x = small_network("resnet A"), images(60)
    for gone, reach, near in (([], 1, set()), ([0, 2], 1, {1, 3}), ([0], 2, {1, 2})):
        new, rest = refitted(chain, gone, [x], reach=reach), [index for index in range(len(chain)) if index not in gone]
        changed = {
            index
            for index, unit in zip(rest, new.units, strict=True)
            if not all(map(torch.equal, unit.state_dict().values(), chain.units[index].state_dict().values()))
        }
        assert changed == near


def test_what_noise_alone_would_teach_is_not_learned() -> None:
    """What is missing has nothing to do with what the layer reads, so that no change is better on other images."""
    stream = torch.Generator().manual_seed(0)
    halves = [
        [torch.randn(30, 20, generator=stream).double(), torch.randn(30, 4, generator=stream).double()] for _ in "ab"
    ]
    products = [(rows.T @ rows, rows.T @ wanted) for rows, wanted in halves]
    assert refitting._regression(*products) is None
    rows, weight = torch.cat([halves[0][0], halves[1][0]]), torch.ones(20, 4, dtype=torch.float64)
    known = [(one.T @ one, one.T @ one @ weight) for one in (halves[0][0], halves[1][0])]
    found = refitting._regression(*known)
    assert found is not None
    torch.testing.assert_close(rows @ found, rows @ weight, rtol=1e-3, atol=1e-3)
