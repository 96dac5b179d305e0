"""Norm statistics estimated anew: on paper, and against torch's own, in our networks and those of others."""

import copy

import pytest
import torch
from tests.analysis.cases import thin_resnet18
from tests.oracles import images, small_network
from torch import nn

from howdeep import Chain, unravel
from howdeep.transform.folding import fold_norms
from howdeep.transform.norms import batch_norms, reestimate


def test_one_batch_gives_its_own_mean_and_unbiased_variance() -> None:
    norm, x = nn.BatchNorm2d(3), images(7)
    norm.running_mean.fill_(99)  # type: ignore[union-attr]
    assert reestimate(Chain(norm, [], nn.Identity()).eval(), [x]) == 1
    values = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, values.mean(1))
    torch.testing.assert_close(norm.running_var, values.var(1, unbiased=True))


@pytest.mark.parametrize("sizes", [(5, 5, 5), (7, 7, 1), (1, 14)])
def test_statistics_are_those_of_all_images_at_once_however_they_are_batched(sizes: tuple[int, ...]) -> None:
    norm, x = nn.BatchNorm2d(3), torch.cat([images(5, seed=seed) + seed for seed in range(3)])
    reestimate(Chain(norm, [], nn.Identity()).eval(), x.split(sizes))
    values = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, values.mean(1))
    torch.testing.assert_close(norm.running_var, values.var(1, unbiased=True))


def trained(model: nn.Module, x: torch.Tensor) -> None:
    """Torch's own way for one batch, in place: a pass in training mode that replaces what was there."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            layer.train()
    with torch.no_grad():
        model(x)
    model.eval()


def test_a_traced_network_gets_the_statistics_of_the_library_s_own_norms() -> None:
    model, x = thin_resnet18().double(), images(6, size=32).double()
    chain = unravel(copy.deepcopy(model), x)
    assert reestimate(chain, [x]) == 20
    trained(model, x)
    torch.testing.assert_close(chain(x), model(x))


def test_an_own_network_keeps_weights_mode_and_momentum() -> None:
    chain = small_network("densenet_bc")
    model, x = copy.deepcopy(chain), images(6)
    reestimate(chain, [x])
    trained(model, x)
    torch.testing.assert_close(chain(x), model(x))
    assert not any(part.training for part in chain.modules())
    assert {norm.momentum for norm in chain.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}
    assert all(torch.equal(one, other) for one, other in zip(chain.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(("traced", "others"), [(False, 12), (True, 19)])
def test_norms_without_running_statistics_are_counted_and_left_in_estimating_and_folding(
    traced: bool, others: int
) -> None:
    model, x = thin_resnet18(), images(4, size=32)
    if traced:
        model.layer1[0].bn1 = nn.BatchNorm2d(8, track_running_stats=False)  # type: ignore[union-attr,operator,index]
    chain = (unravel(model.eval(), x) if traced else small_network("resnet A")).double()
    if not traced:
        chain.units[0].branch.norm1 = nn.BatchNorm2d(16, track_running_stats=False).double()
    x = x.double()
    assert (batch_norms(chain), batch_norms(fold_norms(chain))) == (1, 1)
    torch.testing.assert_close(fold_norms(chain)(x), chain(x))
    assert reestimate(chain, [x]) == others
    assert reestimate(fold_norms(chain), [x]) == 0
