"""Norm statistics estimated anew: on paper, and against torch's own cumulative average, own norms and traced ones."""

import copy

import torch
from tests.oracles import images, small_network
from tests.tracing.networks import foreign
from torch import nn
from torch.fx import GraphModule

from howdeep import Chain, unravel
from howdeep.cutting.repair import fixed_norms, reestimate


def test_one_batch_gives_its_own_mean_and_unbiased_variance() -> None:
    norm, x = nn.BatchNorm2d(3), images(7)
    norm.running_mean.fill_(99)  # type: ignore[union-attr]
    assert reestimate(Chain(norm, [], nn.Identity()).eval(), [x]) == 1
    values = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, values.mean(1))
    torch.testing.assert_close(norm.running_var, values.var(1, unbiased=True))


def test_several_batches_count_the_same() -> None:
    norm, parts = nn.BatchNorm2d(3), [images(4, seed=seed) + seed for seed in range(3)]
    reestimate(Chain(norm, [], nn.Identity()).eval(), parts)
    means = torch.stack([part.transpose(0, 1).flatten(1).mean(1) for part in parts])
    torch.testing.assert_close(norm.running_mean, means.mean(0))


def cumulative(model: nn.Module, batches: list[torch.Tensor]) -> None:
    """Torch's own way, in place: momentum None."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    model.eval()


def arguments(chain: Chain) -> list[object]:
    """What every operator of the traced parts is given."""
    return [node.args for part in chain.modules() if isinstance(part, GraphModule) for node in part.graph.nodes]


def test_a_traced_network_gets_the_statistics_of_the_library_s_own_norms() -> None:
    model, batches = foreign("torchvision:resnet18", num_classes=5), [images(4, size=32), images(4, size=32, seed=2)]
    chain = unravel(copy.deepcopy(model), batches[0])
    before = arguments(chain)
    assert reestimate(chain, batches) == 20
    assert arguments(chain) == before
    cumulative(model, batches)
    torch.testing.assert_close(chain(batches[0]), model(batches[0]))
    assert fixed_norms(chain) == 0


def test_an_own_network_keeps_weights_mode_and_momentum() -> None:
    chain = small_network("densenet_bc")
    model, batches = copy.deepcopy(chain), [images(4), images(4, seed=2)]
    reestimate(chain, batches)
    cumulative(model, batches)
    torch.testing.assert_close(chain(batches[0]), model(batches[0]))
    assert not any(part.training for part in chain.modules())
    assert {norm.momentum for norm in chain.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}
    assert all(torch.equal(one, other) for one, other in zip(chain.parameters(), model.parameters(), strict=True))
