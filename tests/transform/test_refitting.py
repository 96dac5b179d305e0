"""Units behind a gap refitted: on paper, exact where a linear layer can be, and in networks of every family."""

import pytest
import torch
from tests.analysis.cases import thin_resnet18
from tests.oracles import SMALL, chain_of, images, small_network
from torch import Tensor, nn

from howdeep import Chain, unravel
from howdeep.transform import refitting
from howdeep.transform.refitting import refitted
from howdeep.transform.removal import without


def difference(one: Chain, other: Chain, x: Tensor) -> float:
    with torch.no_grad():
        return float((one(x) - other(x)).square().mean())


def test_a_unit_behind_a_linear_one_takes_over_what_that_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 + A)(1 + B) x = (1 + C) x, with C = A + B + AB."""
    monkeypatch.setattr(refitting, "RIDGES", (0.0,))
    torch.manual_seed(0)
    first, second = (nn.Conv2d(3, 3, 1).double() for _ in range(2))
    chain, x = chain_of([first, second]).eval(), images(20).double()
    cut = refitted(chain, [0], [x[:12], x[12:]])
    assert len(cut) == 1
    torch.testing.assert_close(cut(images(5, seed=3).double()), chain(images(5, seed=3).double()))
    a, b = (layer.weight[:, :, 0, 0] for layer in (first, second))
    torch.testing.assert_close(cut.units[0].branch.weight[:, :, 0, 0], a + b + b @ a)  # type: ignore[union-attr,index]


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
    chain = small_network(name).double()
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


def test_a_traced_network_is_refitted_as_well() -> None:
    """Random weights and few images: what is good for half of them brings the others little nearer."""
    x = images(32, size=32).double()
    chain = unravel(thin_resnet18().double(), x)
    gone = [1]
    new = refitted(chain, gone, [x])
    assert difference(new, chain, x) < 0.9 * difference(without(chain, gone), chain, x)


def test_without_a_gap_nothing_changes() -> None:
    chain, x = small_network("resnet A"), images(4)
    new = refitted(chain, [], [x])
    assert all(torch.equal(value, chain.state_dict()[name]) for name, value in new.state_dict().items())


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
