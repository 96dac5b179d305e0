"""The moving average of a network against its recursion, and that showing it changes nothing."""

import torch
from tests.oracles import images, small_network

from howdeep.training.averaging import Average


def test_the_average_follows_its_recursion_with_a_short_memory_at_first() -> None:
    """a ← d·a + (1 − d)·w with d = 0.1, 2/11, 3/12, …, at most the decay; counts are left out."""
    chain = small_network("resnet C").train()
    average, expected = Average(chain, 0.25), {}
    for name, tensor in chain.state_dict().items():
        expected[name] = tensor.clone()
    for step, decay in enumerate((0.1, 2 / 11, 0.25, 0.25)):
        with torch.no_grad():
            chain(images(4))
            for weight in chain.parameters():
                weight.add_(step + 1.0)
        average.update(step)
        for name, tensor in chain.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor
    floats = {name for name, tensor in chain.state_dict().items() if tensor.is_floating_point()}
    assert average.tensors.keys() == floats
    assert any(name.endswith("running_var") for name in floats)
    for name, tensor in average.tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5)


def test_a_chain_is_its_average_for_a_while_and_then_itself_again() -> None:
    chain = small_network("resnet C")
    average = Average(chain, 0.5)
    with torch.no_grad():
        before = chain(images(2))
        chain.get_parameter("head.linear.weight").mul_(2)
        after = chain(images(2))
        with average.shown():
            assert torch.equal(chain(images(2)), before)
        assert torch.equal(chain(images(2)), after)
        assert not torch.equal(before, after)
