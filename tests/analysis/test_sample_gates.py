"""One gate per sample: the kept samples run the branch, the others pass by."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import SMALL, images, in_turn, linear_chain, paper_output, small_network, untimed, weight_lists
from torch import Tensor, nn

from howdeep.chain import AddReLU, Concatenate, Merge, Replace, Unit


@pytest.mark.parametrize("family", SMALL)
def test_gates_per_sample_equal_every_sample_alone_with_its_own_gates(family: str) -> None:
    chain, x = small_network(family), images(5)
    keep = torch.rand(len(chain), 5, generator=torch.Generator().manual_seed(3)) < 0.5
    keep[0], keep[1] = True, False
    together = chain(x, list(keep))
    for sample in range(5):
        alone = chain(x[sample : sample + 1], [float(kept) for kept in keep[:, sample]])
        torch.testing.assert_close(together[sample : sample + 1], alone, rtol=1e-4, atol=1e-5)


@untimed
@given(data=st.data(), weights=weight_lists, batch=st.integers(1, 5))
def test_gates_per_sample_are_right_for_every_mask(data: st.DataObject, weights: list[float], batch: int) -> None:
    row = st.lists(st.booleans(), min_size=batch, max_size=batch)
    keep = data.draw(st.lists(row, min_size=len(weights), max_size=len(weights)))
    x = torch.arange(1, batch + 1, dtype=torch.float64).reshape(batch, 1)
    output = linear_chain(weights)(x, [torch.tensor(kept) for kept in keep])
    expected = [paper_output(sample + 1.0, weights, [kept[sample] for kept in keep]) for sample in range(batch)]
    torch.testing.assert_close(output.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_gates_per_sample_show_the_norms_only_the_kept_samples() -> None:
    chain = small_network("resnet A").train()
    unit, other = chain.units[0], deepcopy(chain.units[0])
    x = images(6, channels=16).abs()
    keep = torch.tensor([True, False, True, True, False, False])
    output = unit(x, keep)
    torch.testing.assert_close(output[keep], other(x[keep]))
    assert torch.equal(output[~keep], x[~keep])
    for name, value in unit.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gates_per_sample_keep_the_memory_layout_forward_and_backward(layout: torch.memory_format) -> None:
    read = _Layouts(layout)
    branch = nn.Sequential(read, nn.Conv2d(16, 16, 3, padding=1), read).to(memory_format=layout)
    unit = Unit(branch, nn.Identity(), Replace(16, stride=1, removable=True))
    x = images(4, channels=16).contiguous(memory_format=layout).requires_grad_()
    output = unit(x, torch.tensor([True, False, True, True]))
    output.square().sum().backward()
    assert read.kept == [True] * 4
    assert output.is_contiguous(memory_format=layout)
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    "merge", [Concatenate(12), Replace(32, stride=2, removable=False), AddReLU(identity=False)], ids=str
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_closed_unit_keeps_the_memory_layout(merge: Merge, layout: torch.memory_format) -> None:
    x = images(4, channels=16).contiguous(memory_format=layout)
    assert merge.closed(x).is_contiguous(memory_format=layout)


class _Layouts(nn.Module):
    """Passes maps and their gradients on and notes whether they have the expected layout."""

    def __init__(self, layout: torch.memory_format) -> None:
        super().__init__()
        self.layout, self.kept = layout, []

    def forward(self, x: Tensor) -> Tensor:
        self.note(x)
        x.register_hook(self.note)
        return x

    def note(self, x: Tensor) -> None:
        self.kept.append(x.is_contiguous(memory_format=self.layout))


@pytest.mark.parametrize(("family", "layout"), in_turn(SMALL, [torch.contiguous_format, torch.channels_last]))
def test_gates_per_sample_have_the_gradients_of_a_masked_branch(family: str, layout: torch.memory_format) -> None:
    chain = small_network(family).to(memory_format=layout)
    keep = torch.rand(len(chain), 5, generator=torch.Generator().manual_seed(3)) < 0.5
    keep[0] = True
    gradients = []
    for masked in (False, True):
        x = images(5).contiguous(memory_format=layout).requires_grad_()
        hidden, rows = chain.stem(x), iter(keep)
        for module in chain.body:
            hidden = _step(module, hidden, rows, masked=masked)
        loss = chain.head(hidden).logsumexp(1).sum()
        read = [x, *(weight for unit in chain.units for weight in unit.branch.parameters())]
        gradients.append(torch.autograd.grad(loss, read, materialize_grads=True, allow_unused=True))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def _step(module: nn.Module, x: Tensor, rows: Iterator[Tensor], *, masked: bool) -> Tensor:
    if not isinstance(module, Unit):
        return module(x)
    keep = next(rows)
    if not masked:
        return module(x, keep)
    branch = module.branch(x)
    return module.merge(module.shortcut(x), keep.to(branch.dtype).reshape(-1, 1, 1, 1) * branch)


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_a_mask_that_is_not_of_the_batch_is_refused(kept: int) -> None:
    with pytest.raises(ValueError, match="4"):
        linear_chain([0.5])(torch.ones(4, 1, dtype=torch.float64), [torch.ones(kept, dtype=torch.bool)])
