"""What a gate does: on paper for linear chains, by brute force for the networks."""

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import combinations

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import (
    SMALL,
    Scale,
    Untouchable,
    chain_of,
    images,
    in_turn,
    linear_chain,
    masks,
    paper_output,
    probability,
    small_network,
    stream,
    symmetric_polynomials,
    untimed,
    weight_lists,
)
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from howdeep.chain import Add, AddReLU, Chain, Concatenate, Merge, Replace, Unit
from howdeep.convert import unravel
from howdeep.networks.parts import Pad
from howdeep.survival import Survival

WEIGHTS = [0.5, -0.25, 2.0, -3.0, 0.125]

MERGES: dict[str, Callable[[], Merge]] = {
    "add": Add,
    "add, ReLU, identity": lambda: AddReLU(identity=True),
    "add, ReLU, projection": lambda: AddReLU(identity=False),
    "concatenate": lambda: Concatenate(2),
    "replace": lambda: Replace(3, stride=1, removable=True),
}


def scalar(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def close(actual: Tensor, expected: float) -> None:
    torch.testing.assert_close(actual, scalar(expected), rtol=1e-9, atol=1e-9)


# --- linear chains: everything is arithmetic


@untimed
@given(weights=weight_lists, data=st.data(), x=st.floats(-3, 3))
def test_the_output_of_a_linear_chain_is_the_product_over_its_units(
    weights: list[float], data: st.DataObject, x: float
) -> None:
    gates = data.draw(st.lists(st.floats(-2, 2), min_size=len(weights), max_size=len(weights)))
    close(linear_chain(weights)(scalar(x), gates), paper_output(x, weights, gates))


def test_no_gates_means_every_unit_open() -> None:
    close(linear_chain(WEIGHTS)(scalar(1.5)), paper_output(1.5, WEIGHTS, [1] * 5))


@pytest.mark.parametrize("closed", [0.0, None])
@pytest.mark.parametrize("unit", range(5))
def test_a_lesion_divides_the_output_by_one_plus_the_weight(unit: int, closed: float | None) -> None:
    chain = linear_chain(WEIGHTS)
    gates: list[float | None] = [1.0] * 5
    gates[unit] = closed
    close(chain(scalar(2.0), gates), chain(scalar(2.0)).item() / (1 + WEIGHTS[unit]))


@pytest.mark.parametrize("length", range(6))
def test_paths_of_one_length_contribute_an_elementary_symmetric_polynomial(length: int) -> None:
    """A single path is routed by inclusion and exclusion: through these branches, and past all others."""
    chain = linear_chain(WEIGHTS)

    def single_path(through: tuple[int, ...]) -> float:
        total = 0.0
        for opened in (subset for k in range(len(through) + 1) for subset in combinations(through, k)):
            gates = [float(unit in opened) for unit in range(5)]
            total += (-1) ** (len(through) - len(opened)) * chain(scalar(1.0), gates).item()
        return total

    paths = [single_path(through) for through in combinations(range(5), length)]
    assert len(paths) == math.comb(5, length)
    assert sum(paths) == pytest.approx(symmetric_polynomials(WEIGHTS)[length], abs=1e-9)


def test_all_paths_together_are_the_whole_output() -> None:
    close(linear_chain(WEIGHTS)(scalar(1.0)), sum(symmetric_polynomials(WEIGHTS)))


@untimed
@given(weights=weight_lists, last=st.floats(0.05, 1), schedule=st.sampled_from(["linear", "uniform"]))
def test_survival_as_gate_is_the_mean_over_all_masks_of_a_linear_chain(
    weights: list[float], last: float, schedule: str
) -> None:
    survival = Survival.parse(f"{schedule}:{last}").probabilities(len(weights))
    chain = linear_chain(weights)
    mean = sum(
        probability(mask, survival) * chain(scalar(1.0), [float(gate) for gate in mask]).item()
        for mask in masks(len(weights))
    )
    close(chain(scalar(1.0), survival), mean)


def test_survival_as_gate_is_not_the_mean_once_there_is_a_relu() -> None:
    chain = chain_of([Scale(-2.0), Scale(0.5)], AddReLU(identity=True))
    survival = (0.75, 0.5)
    mean = sum(probability(m, survival) * chain(scalar(1.0), [float(g) for g in m]).item() for m in masks(2))
    # Open first units leave ReLU(1 − 2) = 0, so the mean is 0.25·(1 + 0.25); the gate leaves ReLU(1 − 1.5) = 0.
    assert mean == pytest.approx(0.3125)
    close(chain(scalar(1.0), survival), 0.0)


def test_survival_as_gate_is_the_mean_sum_of_a_single_unit_of_any_kind() -> None:
    branch = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    unit = Unit(branch, nn.Identity(), Add())
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit(x, 0.75), 0.75 * unit(x, 1.0) + 0.25 * unit(x, 0.0))


@untimed
@given(weights=weight_lists, data=st.data())
def test_the_order_of_linear_units_does_not_matter(weights: list[float], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(weights))
    close(linear_chain(shuffled)(scalar(1.0)), linear_chain(weights)(scalar(1.0)).item())


@untimed
@given(weights=weight_lists, data=st.data())
def test_every_weight_gets_the_gradient_of_the_paper(weights: list[float], data: st.DataObject) -> None:
    gates = data.draw(st.lists(st.floats(-2, 2), min_size=len(weights), max_size=len(weights)))
    chain = linear_chain(weights)
    chain(scalar(1.0).requires_grad_(), gates).sum().backward()
    for index, unit in enumerate(chain.units):
        others = [gate for position, gate in enumerate(gates) if position != index]
        rest = [weight for position, weight in enumerate(weights) if position != index]
        expected = gates[index] * paper_output(1.0, rest, others)
        assert isinstance(unit.branch, Scale)
        gradient = unit.branch.weight.grad
        assert (0.0 if gradient is None else gradient.item()) == pytest.approx(expected, rel=1e-9, abs=1e-9)


# --- gates that are learned


@untimed
@given(weights=weight_lists, data=st.data())
def test_every_learned_gate_gets_the_gradient_of_the_paper(weights: list[float], data: st.DataObject) -> None:
    """d/dg_l ∏(1 + g w) = w_l · ∏ of the others, also where the gate is 0 or 1."""
    values = data.draw(st.lists(st.floats(-2, 2), min_size=len(weights), max_size=len(weights)))
    gates = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    output = linear_chain(weights)(scalar(1.5), gates)
    close(output, paper_output(1.5, weights, values))
    output.sum().backward()
    assert gates.grad is not None
    for index, weight in enumerate(weights):
        rest = paper_output(1.5, weights[:index] + weights[index + 1 :], values[:index] + values[index + 1 :])
        assert gates.grad[index].item() == pytest.approx(weight * rest, rel=1e-9, abs=1e-9)


def test_gates_are_learned_by_gradient_descent() -> None:
    """The target is what other gates give: half of the first branch, and the second one subtracted."""
    chain = linear_chain([1.0, 0.5]).requires_grad_(False)
    gates = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([gates], lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        # Two units of one input have one product: the output of the first alone makes both gates identifiable.
        first = chain.units[0](scalar(1.0), gates[0])
        loss = (first - 1.5).square() + (chain(scalar(1.0), gates) - 0.75).square()
        loss.sum().backward()
        optimizer.step()
    assert gates.tolist() == pytest.approx([0.5, -1.0], abs=1e-3)


@pytest.mark.parametrize("family", SMALL)
def test_learned_gates_change_no_output_and_get_a_gradient_in_every_network(family: str) -> None:
    chain, x = small_network(family), images(2)
    numbers = [0.5 + index / len(chain) for index in range(len(chain))]
    gates = torch.tensor(numbers, requires_grad=True)
    output = chain(x, gates)
    torch.testing.assert_close(output, chain(x, numbers))
    output.logsumexp(1).sum().backward()
    assert gates.grad is not None
    assert gates.grad.all()


@pytest.mark.parametrize("gates", [torch.ones(1, 2), torch.ones(1, dtype=torch.int64)], ids=["matrix", "integers"])
def test_a_tensor_that_is_neither_a_factor_nor_a_choice_of_samples_is_refused(gates: Tensor) -> None:
    with pytest.raises(ValueError, match=r"not bool of \(2,\) or float of \(\)"):
        linear_chain([1.0])(torch.ones(2), gates)


# --- closed units and merges


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("closed", [0, 0.0, None, torch.zeros(2, dtype=torch.bool)], ids=str)
def test_a_closed_unit_computes_no_branch(merge: str, closed: float | Tensor | None) -> None:
    chain = chain_of([Untouchable()], MERGES[merge]())
    chain(torch.ones(2, 3, 4, 4), [closed])


@pytest.mark.parametrize(
    ("merge", "zeros", "removed"),
    [
        ("add", [-1, 2], [-1, 2]),
        ("add, ReLU, identity", [-1, 2], [-1, 2]),
        ("add, ReLU, projection", [0, 2], [0, 2]),
        ("concatenate", [-1, 2, 0, 0], [-1, 2, 0, 0]),
        ("replace", [0, 0, 0], [-1, 2]),
    ],
)
def test_gate_zero_and_taking_out_differ_only_without_a_shortcut(
    merge: str, zeros: list[float], removed: list[float]
) -> None:
    unit = Unit(Untouchable(), nn.Identity(), MERGES[merge]())
    x = torch.tensor([-1.0, 2.0]).reshape(1, 2, 1, 1)
    assert unit(x, 0.0).flatten().tolist() == zeros
    assert unit(x, None).flatten().tolist() == removed


def test_a_plain_unit_that_changes_the_shape_sends_zeros_of_the_new_shape_and_stays_in() -> None:
    unit = Unit(nn.Conv2d(3, 5, 3, 2, padding=1), nn.Identity(), Replace(5, stride=2, removable=False))
    x = torch.ones(2, 3, 7, 8)
    assert torch.equal(unit(x, 0.0), torch.zeros_like(unit(x)))
    with pytest.raises(ValueError, match="cannot be taken out"):
        unit(x, None)


@pytest.mark.parametrize("family", SMALL)
def test_gate_zero_equals_a_branch_that_returns_zeros(family: str) -> None:
    """Closing computes nothing and must still be the equation with gate 0, for every unit of every family."""
    chain, x = small_network(family), images(2)
    for index, unit in enumerate(chain.units):
        gates = [1.0] * len(chain)
        gates[index] = 0.0
        nulled = deepcopy(chain)
        nulled.units[index].branch = nn.Sequential(unit.branch, _Zero())
        torch.testing.assert_close(chain(x, gates), nulled(x), rtol=0, atol=0)


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_a_closed_post_activation_unit_is_the_identity_to_the_bit() -> None:
    chain = small_network("resnet A")
    for unit, x in zip(chain.units, stream(chain, images()), strict=False):
        assert x.min() >= 0
        if isinstance(unit.shortcut, nn.Identity):
            assert torch.equal(unit(x, 0.0), x)


def test_padding_leaves_exactly_the_added_channels_at_zero() -> None:
    x = images(2, channels=16).abs() + 1
    padded = Pad(16, 32, 2)(x)
    assert padded.shape == (2, 32, 4, 4)
    assert torch.equal(padded[:, 8:24], x[:, :, ::2, ::2])
    empty = (padded == 0).all(dim=(0, 2, 3))
    assert empty.nonzero().flatten().tolist() == [*range(8), *range(24, 32)]


@pytest.mark.parametrize("family", [family for family in SMALL if family != "plain"])
def test_half_a_gate_is_half_a_branch_in_every_network(family: str) -> None:
    chain, x = small_network(family), images(2)
    for unit, before in zip(chain.units, _inputs(chain, x), strict=True):
        expected = unit.merge(unit.shortcut(before), 0.5 * unit.branch(before))
        torch.testing.assert_close(unit(before, 0.5), expected)


def _inputs(chain: Chain, x: Tensor) -> list[Tensor]:
    """Return what every unit reads."""
    maps = stream(chain, x)
    return [before for before, module in zip(maps, chain.body, strict=False) if isinstance(module, Unit)]


# --- training with closed units


@pytest.mark.parametrize(
    ("family", "closed"), in_turn([family for family in SMALL if family != "plain"], [0.0, None, "sample"])
)
def test_a_closed_branch_gets_no_gradient_and_its_statistics_stay(family: str, closed: float | str | None) -> None:
    chain, x = small_network(family).train(), images(4)
    index = len(chain) // 2
    before = deepcopy(chain.units[index].branch.state_dict())
    gate = torch.zeros(4, dtype=torch.bool) if closed == "sample" else closed
    gates = [gate if unit == index else 1.0 for unit in range(len(chain))]
    chain(x, gates).square().sum().backward()  # type: ignore[arg-type]
    after = chain.units[index].branch.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for number, unit in enumerate(chain.units):
        empty = [weight.grad is None for weight in unit.branch.parameters()]
        assert all(empty) if number == index else not any(empty)
    others = [n for n, u in enumerate(chain.units) if n != index and _batches_seen(u.branch) != {1}]
    assert others == []


def _batches_seen(module: nn.Module) -> set[int]:
    """Return how often the norms of a module saw a batch."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    return {int(layer.num_batches_tracked) for layer in norms}  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rule", [Survival("linear", 1.0), Survival("uniform", 1.0), Survival()])
def test_certain_survival_is_the_network_without_a_rule_to_the_bit(rule: Survival, training: bool) -> None:
    constant, x = small_network("resnet A").train(training), images()
    ruled = deepcopy(constant)
    ruled.rule = rule
    gates = rule.draw(len(ruled), seed=0, step=0)
    assert torch.equal(deepcopy(ruled)(x), deepcopy(constant)(x))
    assert torch.equal(ruled(x, gates), constant(x))
    assert all(torch.equal(a, b) for a, b in zip(ruled.buffers(), constant.buffers(), strict=True))


@pytest.mark.parametrize("family", SMALL)
def test_evaluation_multiplies_every_branch_by_its_survival(family: str) -> None:
    chain, x = small_network(family), images()
    chain.rule = Survival("linear", 0.5)
    hidden = chain.stem(x)
    count, units = 0, len(chain)
    for module in chain.body:
        if isinstance(module, Unit):
            count += 1
            survival = 1 - count / units * 0.5
            hidden = module.merge(module.shortcut(hidden), survival * module.branch(hidden))
        else:
            hidden = module(hidden)
    torch.testing.assert_close(chain(x), chain.head(hidden), rtol=1e-5, atol=1e-5)
    assert torch.equal(chain(x), chain(x))
    assert not torch.equal(chain(x), chain(x, [1.0] * units))


@pytest.mark.parametrize("mode", ["batch", "sample"])
def test_training_under_a_random_rule_without_gates_is_refused(mode: str) -> None:
    chain = linear_chain(WEIGHTS)
    chain.rule = Survival.parse("linear:0.5", mode)
    with pytest.raises(ValueError, match=r"linear:0\.5.*pass gates"):
        chain(scalar(1.0))
    chain(scalar(1.0), [1.0] * 5)
    chain.eval()(scalar(1.0))


@pytest.mark.parametrize("count", [0, 4, 6])
def test_a_wrong_number_of_gates_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"^{count} gates for a chain of 5 units$"):
        linear_chain(WEIGHTS)(scalar(1.0), [1.0] * count)


# --- the chain as a module


def test_links_own_no_gate() -> None:
    chain = Chain(nn.Identity(), [*linear_chain([2.0, 3.0]).units, Scale(10.0)], nn.Identity())
    assert len(chain) == len(chain.units) == 2
    assert [gate for _, gate in chain.steps([0.0, 0.5])] == [0.0, 0.5, 1.0]
    close(chain(scalar(1.0), [0.0, 0.5]), 25.0)


@pytest.mark.parametrize(("family", "normed"), in_turn(SMALL, [True, False, False, True]))
def test_no_unit_writes_over_a_map_that_was_passed_on(family: str, normed: bool) -> None:
    chain, x = small_network(family, normed=normed), images()
    hidden = chain.stem(x)
    passed, copies = [hidden], [hidden.clone()]
    for module in chain.body:
        for gate in (1.0, 0.5, 0.0, torch.tensor([True, False, True, False])):
            module(hidden, gate) if isinstance(module, Unit) else module(hidden)
        hidden = module(hidden)
        passed.append(hidden)
        copies.append(hidden.clone())
    chain.head(hidden)
    assert all(torch.equal(mine, copy) for mine, copy in zip(passed, copies, strict=True))


@pytest.mark.parametrize(("family", "normed"), in_turn(SMALL, [False, True, True, False]))
def test_writing_in_place_changes_neither_output_nor_gradient(family: str, normed: bool) -> None:
    chain = small_network(family, normed=normed).train()
    careful = deepcopy(chain)
    for layer in careful.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    outputs, gradients = [], []
    for network in (chain, careful):
        outputs.append(network(images()))
        loss = outputs[-1].logsumexp(1).sum()
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    assert torch.equal(*outputs)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(gradient.isfinite().all() for gradient in gradients[0])


@pytest.mark.parametrize("family", SMALL)
def test_a_chain_is_traced_by_fx_with_the_gates_of_evaluation(family: str) -> None:
    chain, x = small_network(family), images()
    chain.rule = Survival("linear", 0.5)
    traced = torch.fx.symbolic_trace(chain)
    assert torch.equal(traced(x), chain(x))
    with pytest.raises(AssertionError, match="gates of evaluation"):
        traced(x, [1.0] * len(chain))


@pytest.mark.parametrize("family", SMALL)
def test_torchvision_extracts_the_features_of_every_unit(family: str) -> None:
    chain, x = small_network(family), images()
    names = [f"body.{place}" for place in range(len(chain.body))]
    features = create_feature_extractor(chain, [*names, "head"]).eval()(x)
    for name, expected in zip(names, stream(chain, x)[1:], strict=True):
        assert torch.equal(features[name], expected)
    assert torch.equal(features["head"], chain(x))


def test_features_of_a_network_of_timm_are_extracted_from_its_chain() -> None:
    network = timm.create_model("test_resnet", num_classes=10).eval()
    chain, x = unravel(network, images(2, size=32)), images(3, size=32)
    names = [f"body.{place}" for place, module in enumerate(chain.body) if isinstance(module, Unit)]
    features = create_feature_extractor(chain, [*names, "head"]).eval()(x)
    for name, expected in zip(names, create_feature_extractor(network, chain.names).eval()(x).values(), strict=True):
        torch.testing.assert_close(features[name].relu(), expected)
    torch.testing.assert_close(features["head"], network(x))


def test_a_notebook_shows_the_units_of_a_chain_and_their_share_of_the_parameters() -> None:
    chain = chain_of([Scale(2.0), Scale(3.0)])
    chain.units[0].name = "<first>"
    page = chain._repr_html_()
    assert "chain of 2 units, 2 parameters" in page
    assert "<tr><td>&lt;first&gt;<td>Add<td>1<td>" in page
    assert page.count("width: 10.00em") == 2
    assert "chain of 0 units, 0 parameters" in chain_of([])._repr_html_()
