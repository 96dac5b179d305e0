"""What can be done with a chain of a foreign network: everything that the network can do in evaluation mode."""

import copy

import pytest
import torch
from tests.convert import networks
from tests.convert.networks import PATCHES, SWIN
from tests.oracles import images

NETWORKS = {
    "residual": ("torchvision:resnet18", {}, 64),
    "dense": ("timm:densenet121", {"num_classes": 10, "block_config": (2, 3)}, 64),
    "windows": ("torchvision:SwinTransformer", SWIN, 64),
    "patches": ("timm:vit_tiny_patch16_224", PATCHES, 64),
    "rotary": ("timm:eva02_tiny_patch14_224", {"num_classes": 10, "img_size": 56, "depth": 1}, 56),
    "plain": ("torchvision:squeezenet1_1", {"num_classes": 10}, 64),
}


@pytest.fixture(params=NETWORKS, scope="module")
def traced(request):
    """A network, its chain and images for both; a test that changes one of them works on a copy."""
    name, options, pixels = NETWORKS[request.param]
    return *networks.traced(name, pixels, **options), images(3, size=pixels)


@torch.no_grad()
def test_every_gate_runs_at_any_batch(traced):
    _, chain, batch = traced
    for count in (1, 3):
        keep = torch.arange(count) % 2 == 0
        for gate in (0.0, None, 0.5, keep):
            gates = [gate if unit.merge.removable else 1.0 for unit in chain.units]
            assert chain(batch[:count], gates).isfinite().all()


@torch.no_grad()
def test_gates_per_sample_are_the_gates_of_each_sample_alone(traced):
    _, chain, batch = traced
    mixed = chain(batch, [torch.tensor([True, False, True])] * len(chain))
    torch.testing.assert_close(mixed[:1], chain(batch[:1]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed[1:2], chain(batch[1:2], [0.0] * len(chain)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_types_follow_the_weights(traced, dtype):
    model, chain = (copy.deepcopy(one).to(dtype) for one in traced[:2])
    batch = traced[2].to(dtype)
    scores, expected = chain(batch), model(batch)
    assert scores.dtype == dtype
    torch.testing.assert_close(scores, expected, rtol=0, atol=expected.abs().max().item() * torch.finfo(dtype).eps * 16)


@torch.no_grad()
def test_channels_last_and_inference_mode_change_rounding_at_most(traced):
    model, chain, batch = traced
    expected = model(batch)
    chain = copy.deepcopy(chain).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        scores = chain(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_weights_are_the_networks_own_and_gradients_reach_them(traced):
    model, chain, batch = traced
    theirs, ours = ({id(weight) for weight in one.parameters()} for one in (model, chain))
    assert ours == theirs
    found = {}
    for one in (chain, model):
        model.zero_grad()
        one(batch).sum().backward()
        found[one] = [weight.grad for weight in model.parameters()]
    for gradient, expected in zip(found[chain], found[model], strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@torch.no_grad()
def test_a_change_of_the_network_shows_in_the_chain_but_not_in_a_copy(traced):
    model, chain, batch = traced
    twin, before = copy.deepcopy(chain), chain(batch)
    assert twin.names == chain.names
    assert not twin.training
    weight = next(model.parameters())
    weight.mul_(2)
    assert torch.equal(twin(batch), before)
    assert torch.equal(chain(batch), model(batch))
    assert not torch.equal(chain(batch), before)
    weight.div_(2)


@torch.no_grad()
def test_everything_moves_to_another_device(traced):
    _, chain, batch = traced
    scores = copy.deepcopy(chain).to("meta")(batch.to("meta"))
    assert scores.is_meta
    assert scores.shape == (3, traced[0](batch[:1]).shape[1])
