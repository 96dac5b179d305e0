"""Folded norms: the same logits to rounding in every network, fewer layers, the original untouched."""

from copy import deepcopy

import pytest
import torch
from tests.analysis.cases import NETWORKS, batch_for, network
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from howdeep.chain import Add, Chain, Unit
from howdeep.convert import unravel
from howdeep.transform.folding import fold_norms, folding_norms

GONE = ("plain", "resnet A", "resnet B", "resnet bottleneck", "torchvision resnet18")
"""Networks whose every norm follows a convolution."""


def norms(chain: Chain) -> int:
    """Return how many norms a chain computes."""
    return sum(isinstance(module, nn.BatchNorm2d) for module in chain.modules())


def computed(chain: Chain, x: Tensor) -> int:
    """Return how many norms a pass computes."""
    with profile(activities=[ProfilerActivity.CPU]) as found, torch.no_grad():
        chain(x)
    return sum(event.count for event in found.key_averages() if event.key == "aten::batch_norm")


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_folding_changes_logits_by_rounding_alone_whatever_the_gates(name: str) -> None:
    chain, batch = network(name).double(), batch_for(name)
    folded, x = fold_norms(chain), batch.images.double()
    half = [0.5 if unit.merge.passes_shortcut else 1.0 for unit in chain.units]
    for gates in (None, half, [0.0, *half[1:]]):
        expected = chain(x, gates)
        assert (folded(x, gates) - expected).norm() <= 1e-10 * expected.norm()
    if norms(folded) < norms(chain):
        assert not torch.equal(folded(x), chain(x))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_original_stays_as_it_is(name: str) -> None:
    chain, x = network(name), batch_for(name).images
    chain.train()
    state, count = deepcopy(chain.state_dict()), norms(chain)
    folded = fold_norms(chain)
    assert chain.training
    assert not folded.training
    assert norms(chain) == count
    assert all(torch.equal(value, state[key]) for key, value in chain.state_dict().items())
    assert state.keys() == chain.state_dict().keys()
    for parameter in folded.parameters():
        parameter.add_(1.0)
    assert all(torch.equal(value, state[key]) for key, value in chain.state_dict().items())
    assert torch.isfinite(chain.eval()(x)).all()


@pytest.mark.parametrize("name", GONE)
def test_norms_behind_a_convolution_go(name: str) -> None:
    assert norms(network(name)) > 0
    assert norms(fold_norms(network(name))) == 0


@pytest.mark.parametrize(("name", "stay"), [("preresnet", 7), ("densenet_bc", 9), ("timm vit", 0)])
def test_norms_before_a_convolution_stay(name: str, stay: int) -> None:
    """A ReLU stands between the two; the second norm of a branch follows the first convolution and goes."""
    assert norms(fold_norms(network(name))) == stay


class Own(nn.Module):
    """A traced network: a convolution whose result is read twice, and one with groups and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.scores = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.twice, self.twice_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.grouped, self.grouped_norm = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        read = self.twice(x)
        x = x + (self.twice_norm(read) * read.sigmoid())
        x = x + self.grouped_norm(self.grouped(x)).tanh()
        return self.scores(x.mean((2, 3)))


@torch.no_grad()
def test_a_convolution_whose_result_is_read_twice_is_not_folded() -> None:
    model, x = Own().double().eval(), batch_for("resnet A").images.double()
    for norm in (model.twice_norm, model.grouped_norm):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    chain = unravel(model, x)
    folded = fold_norms(chain)
    assert (norms(chain), norms(folded)) == (2, 1)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_folded_weights_are_those_on_paper() -> None:
    """W′ = W·γ/√(σ² + ε), b′ = (b − μ)·γ/√(σ² + ε) + β; a second norm, which follows no convolution, stays."""
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    for parameter, value in zip((*convolution.parameters(), *norm.parameters()), (3.0, 5.0, 2.0, 7.0), strict=True):
        parameter.fill_(value)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(16.0)
    branch = nn.Sequential(convolution, norm, nn.BatchNorm2d(1))
    chain = Chain(nn.Identity(), [Unit(branch, nn.Identity(), Add())], nn.Identity())
    folded = fold_norms(chain).units[0].branch
    assert isinstance(folded, nn.Sequential)
    assert [type(layer) for layer in folded] == [nn.Conv2d, nn.BatchNorm2d]
    assert [parameter.item() for parameter in folded[0].parameters()] == [3 * 2 / 4, (5 - 1) * 2 / 4 + 7]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_chain_whose_norms_keep_their_statistics_has_the_same_gradients_when_they_are_folded_in_every_pass(
    name: str,
) -> None:
    chain, batch = network(name).double(), batch_for(name)
    chain.train()
    assert folding_norms(chain) is chain
    chain.eval()
    # So many that most feature maps have more numbers than the weights, and the last ones do not.
    folding, x = folding_norms(chain), batch.images.double().repeat(8, 1, 1, 1)
    assert name not in GONE or computed(folding, x) < computed(chain, x)
    gradients = []
    for one in (chain, folding):
        chain.zero_grad()
        F.cross_entropy(one(x), batch.labels.repeat(8)).backward()
        gradients.append(
            {key: tensor.grad.clone() for key, tensor in chain.named_parameters() if tensor.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for key, expected in gradients[0].items():
        assert (gradients[1][key] - expected).norm() <= 1e-9 * max(1.0, expected.norm()), key
