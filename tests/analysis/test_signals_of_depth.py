"""Signal and gradient through the depth: arithmetic on linear chains, any family, nothing left behind."""

import json
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import SMALL, Scale, chain_of, images, in_turn, linear_chain, small_network, untimed, weight_lists
from torch import Tensor, fx, nn

from howdeep.analysis.signals import DRAWS, Flow, Statistics, draws_of, flow
from howdeep.chain import Chain, Concatenate, Gates, Replace, Unit
from howdeep.convert import unravel
from howdeep.data import Batch
from howdeep.networks import build, spec_of
from howdeep.survival import Survival
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, to_json

FP32 = torch.autocast("cpu", enabled=False)
OPEN: tuple[Gates | None, ...] = (None,)


def measured(chain: Chain, *batches: Batch, statistics: Statistics = "running", draws=OPEN) -> Flow:
    return flow(chain, batches, statistics=statistics, draws=draws, autocast=FP32)


def vectors(count: int = 5, size: int = 3, *, seed: int = 0) -> Batch:
    """Images that are vectors of scores already, float64 of shape (count, size)."""
    stream = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size, generator=stream, dtype=torch.float64)
    return Batch(x, torch.arange(count) % size, count)


def pictures(count: int = 6) -> Batch:
    return Batch(images(count), torch.arange(count) % 10, count)


def score_gradient(scores: Tensor, labels: Tensor) -> Tensor:
    """Return softmax − one-hot: what cross-entropy sends back to each image's scores."""
    return scores.softmax(1) - nn.functional.one_hot(labels, scores.shape[1])


def deviation(x: Tensor) -> float:
    return x.std(correction=0).item()


# --- on paper


@untimed
@given(weights=weight_lists, data=st.data())
def test_signal_and_gradient_of_a_linear_chain_are_the_products_on_paper(weights: list[float], data) -> None:
    """σ_l = σ(x)·∏_{k<l}(1 + g_k w_k), and the gradient ‖softmax − one-hot‖·∏_{k≥l}(1 + g_k w_k)."""
    gates = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=len(weights), max_size=len(weights)))
    factors = [1 + gate * weight for gate, weight in zip(gates, weights, strict=True)]
    batch = vectors()
    found = measured(linear_chain(weights), batch, draws=[gates])
    back = score_gradient(batch.images * math.prod(factors), batch.labels).norm(dim=1).mean().item()
    for number, unit in enumerate(found.units):
        stream = deviation(batch.images) * abs(math.prod(factors[:number]))
        assert (unit.index, unit.name) == (number + 1, f"unit {number + 1}")
        assert unit.stream_std == pytest.approx(stream, rel=1e-9, abs=1e-9)
        assert unit.shortcut_std == unit.stream_std
        assert unit.input_gradient == pytest.approx(back * abs(math.prod(factors[number:])), rel=1e-4, abs=1e-9)
        assert unit.weight_gradient is None
        if gates[number] == 0:
            assert (unit.branch_std, unit.ratio) == (None, None)
        else:
            assert unit.branch_std == pytest.approx(stream * abs(weights[number]), rel=1e-9, abs=1e-9)
            assert unit.ratio is None or unit.ratio == pytest.approx(abs(weights[number]), rel=1e-6)


@untimed
@given(weights=weight_lists)
def test_the_gradient_of_weights_is_the_outer_product_on_paper(weights: list[float]) -> None:
    """∂loss/∂W_l = mean over images of (softmax − one-hot)·∏_{k>l}(1 + w_k) ⊗ x·∏_{k<l}(1 + w_k) for W_l = w_l·I."""
    branches = [nn.Linear(3, 3, dtype=torch.float64) for _ in weights]
    for branch, weight in zip(branches, weights, strict=True):
        branch.weight.data = weight * torch.eye(3, dtype=torch.float64)
        branch.bias.data.zero_()
    factors, batch = [1 + weight for weight in weights], vectors()
    back = score_gradient(batch.images * math.prod(factors), batch.labels)
    found = measured(chain_of(branches), batch)
    for number, unit in enumerate(found.units):
        others = math.prod(factors[:number]) * math.prod(factors[number + 1 :])
        expected = (back.T @ batch.images / 5 * others).abs().mean().item()
        assert unit.weight_gradient == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_loss_is_the_mean_cross_entropy() -> None:
    batch, chain = vectors(), linear_chain([0.5, -0.25])
    expected = nn.functional.cross_entropy(batch.images * 1.5 * 0.75, batch.labels).item()
    found = measured(chain, batch)
    assert found.loss == pytest.approx(expected, rel=1e-5)
    assert (found.n, found.statistics, found.draws) == (5, "running", 1)


def test_a_plain_unit_has_no_path_around_its_branch() -> None:
    """With F alone the factor is w, not 1 + w: the gradient of a plain network falls where w does."""
    units = [Unit(Scale(0.5), nn.Identity(), Replace(3, stride=1, removable=True)) for _ in range(4)]
    batch = vectors()
    found = measured(Chain(nn.Identity(), units, nn.Identity()), batch)
    back = score_gradient(batch.images / 16, batch.labels).norm(dim=1).mean().item()
    assert [unit.input_gradient for unit in found.units] == pytest.approx([back / 2**k for k in (4, 3, 2, 1)], rel=1e-5)
    assert [unit.ratio for unit in found.units] == [None] * 4


def test_a_dense_unit_adds_maps_whose_share_is_measured() -> None:
    x = torch.randn(5, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chain = Chain(nn.Identity(), [Unit(Scale(3.0), nn.Identity(), Concatenate(2))], nn.Flatten())
    found = measured(chain, Batch(x, torch.arange(5) % 4, 5))
    back = score_gradient(torch.cat([x, 3 * x], 1).flatten(1), torch.arange(5) % 4)
    expected = (back[:, :2] + 3 * back[:, 2:]).norm(dim=1).mean().item()
    assert found.units[0].input_gradient == pytest.approx(expected, rel=1e-5)
    assert found.units[0].ratio == pytest.approx(3)


def test_batch_statistics_are_those_of_the_mini_batch() -> None:
    chain = chain_of([nn.BatchNorm1d(3, dtype=torch.float64, eps=1e-12)])
    batch = vectors()
    assert measured(chain, batch).units[0].branch_std == pytest.approx(deviation(batch.images))
    assert measured(chain, batch, statistics="batch").units[0].branch_std == pytest.approx(1)


# --- mini-batches and draws add up


@pytest.mark.parametrize("family", ["plain", "resnet B", "preresnet", "densenet_bc"])
@untimed
@given(cut=st.integers(1, 7))
def test_two_mini_batches_are_one_whose_images_do_not_meet(family: str, cut: int) -> None:
    chain, whole = small_network(family), pictures(8)
    parts = [
        Batch(x, y, len(y))
        for x, y in zip(whole.images.split([cut, 8 - cut]), whole.labels.split([cut, 8 - cut]), strict=True)
    ]
    one, two = measured(chain, whole), measured(chain, *parts)
    assert (two.n, two.loss) == (8, pytest.approx(one.loss, rel=1e-5))
    for first, second in zip(one.units, two.units, strict=True):
        for name in ("stream_std", "shortcut_std", "branch_std", "input_gradient"):
            assert getattr(second, name) == pytest.approx(getattr(first, name), rel=1e-4), name


def test_draws_are_averaged_and_a_branch_counts_where_it_ran() -> None:
    chain, batch = linear_chain([0.5, 2.0]), vectors()
    closed, opened = (measured(chain, batch, draws=[gates]) for gates in ([0.0, 1.0], [1.0, 1.0]))
    both = measured(chain, batch, draws=[[0.0, 1.0], [1.0, 1.0]])
    assert (both.n, both.draws) == (5, 2)
    assert both.loss == pytest.approx((closed.loss + opened.loss) / 2)
    assert both.units[0].branch_std == opened.units[0].branch_std
    for unit in (0, 1):
        parts = [one.units[unit].input_gradient for one in (closed, opened)]
        assert both.units[unit].input_gradient == pytest.approx(sum(parts) / 2)
    pooled = torch.cat([batch.images, 1.5 * batch.images])
    assert both.units[1].stream_std == pytest.approx(deviation(pooled))


def test_the_gradient_of_weights_is_averaged_over_the_draws_that_ran_them() -> None:
    chain, batch = small_network("resnet A"), pictures()
    opened, closed = [1.0] * 6, [0.0, *[1.0] * 5]
    alone = measured(chain, batch, draws=[opened]).units[0].weight_gradient
    assert measured(chain, batch, draws=[closed]).units[0].weight_gradient is None
    assert measured(chain, batch, draws=[opened, closed]).units[0].weight_gradient == pytest.approx(alone)


def test_gates_per_sample_are_cut_to_a_smaller_mini_batch() -> None:
    chain, rule = small_network("resnet A"), Survival("linear", 0.5, "sample")
    draws = draws_of(rule, 6, seed=0, batch=6)
    found = measured(chain, pictures(6), pictures(4), draws=draws)
    assert (found.n, found.draws) == (10, DRAWS)


def test_draws_are_the_rules_own_and_repeat() -> None:
    rule = Survival("linear", 0.5)
    draws = draws_of(rule, 54, seed=3, batch=1)
    assert len(draws) == DRAWS == len({tuple(gates) for gates in draws if gates is not None})
    assert draws == draws_of(rule, 54, seed=3, batch=1)
    assert draws != draws_of(rule, 54, seed=4, batch=1)
    assert draws[0] != rule.draw(54, seed=3, step=0), "the draws of training are not used up"
    assert draws_of(Survival(), 54, seed=3, batch=1) == [None]


def test_without_gates_the_expectation_of_the_rule_is_measured() -> None:
    chain = small_network("resnet A")
    chain.rule = rule = Survival("linear", 0.5)
    assert measured(chain.train(), pictures()) == measured(chain, pictures(), draws=[rule.expected(6)])


# --- any chain


@pytest.mark.parametrize(("family", "statistics"), in_turn(SMALL, ["batch", "running", "running"]))
def test_every_family_is_measured(family: str, statistics: Statistics) -> None:
    chain = small_network(family, dropout=0.3)
    found = measured(chain, pictures(), statistics=statistics)
    assert [unit.name for unit in found.units] == chain.names
    assert all(unit.stream_std > 0 and unit.input_gradient > 0 for unit in found.units)
    assert all(unit.weight_gradient for unit in found.units)
    assert all(bool(unit.ratio) == (family != "plain") for unit in found.units)


@pytest.mark.parametrize("family", SMALL)
def test_the_gradient_is_that_of_an_ordinary_training_pass(family: str) -> None:
    chain, batch = small_network(family), pictures()
    found = measured(chain, batch, statistics="batch")
    nn.functional.cross_entropy(chain.train()(batch.images, [1.0] * len(chain)), batch.labels).backward()
    for unit, measured_unit in zip(chain.units, found.units, strict=True):
        weights = [one.grad.flatten() for one in unit.branch.parameters() if one.dim() > 1 and one.grad is not None]
        expected = torch.cat(weights).abs().double().mean().item()
        assert measured_unit.weight_gradient == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", ["plain", "resnet B", "preresnet", "densenet_bc"])
def test_traced_parts_are_measured_as_the_modules_they_were(family: str) -> None:
    chain, traced = small_network(family), small_network(family)
    for unit in traced.units:
        unit.branch, unit.shortcut = fx.symbolic_trace(unit.branch), fx.symbolic_trace(unit.shortcut)
    assert measured(traced, pictures()) == measured(chain, pictures())


def test_frozen_networks_and_closed_plain_units_have_a_gradient_of_what_is_left() -> None:
    chain = small_network("plain").requires_grad_(False)
    gates = [1.0, 0.0, 1.0]
    found = measured(chain, pictures(), draws=[gates])
    assert [unit.input_gradient > 0 for unit in found.units] == [False, False, True]
    assert [unit.weight_gradient for unit in found.units] == [None] * 3


def test_a_unit_that_is_taken_out_passes_signal_and_gradient_on() -> None:
    found = measured(linear_chain([0.5, 2.0, 0.5]), vectors(), draws=[[1.0, None, 1.0]])
    assert found.units[1].branch_std is None
    assert found.units[2].stream_std == found.units[1].stream_std
    assert found.units[2].input_gradient == found.units[1].input_gradient


# --- nothing is left behind


def state(chain: Chain) -> tuple:
    """Return everything of a chain that a measurement could change, by identity and by value."""
    modules = [(id(module), module.training) for module in chain.modules()]
    tracks = [layer.track_running_stats for layer in chain.modules() if isinstance(layer, nn.BatchNorm2d)]
    tensors = [*chain.named_parameters(), *chain.named_buffers()]
    values = [(name, id(one), one.requires_grad, one.detach().clone().flatten().tolist()) for name, one in tensors]
    gradients = [(id(one.grad), None if one.grad is None else one.grad.sum().item()) for one in chain.parameters()]
    hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in chain.modules()]
    return modules, tracks, values, gradients, hooks, torch.get_rng_state().tolist(), torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("family", "statistics", "with_gradients"), in_turn(SMALL, ["running", "batch"], [False, False, True, True])
)
def test_nothing_is_left_behind(family: str, statistics: Statistics, with_gradients: bool) -> None:
    chain = small_network(family, dropout=0.3).train()
    chain.units[1].eval()
    if with_gradients:
        for parameter in chain.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
    before = state(chain)
    batch = pictures()
    with torch.no_grad():
        measured(chain, batch, statistics=statistics, draws=[[1.0] * len(chain)])
    assert state(chain) == before
    assert not batch.images.requires_grad


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_nothing_is_left_behind_by_an_error_either(statistics: Statistics) -> None:
    class Broken:
        def __iter__(self) -> Iterator[Batch]:
            yield pictures()
            raise ZeroDivisionError

    chain = small_network("resnet A").train()
    before = state(chain)
    with pytest.raises(ZeroDivisionError):
        flow(chain, Broken(), statistics=statistics, draws=[[1.0] * 6], autocast=FP32)
    assert state(chain) == before


# --- what is not finite


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("stem.conv.weight", r"^unit 1: the input is not finite"),
        ("body.2.branch.conv1.weight", r"^unit 3: the branch's output is not finite"),
        ("body.2.shortcut.conv.weight", r"^unit 3: the shortcut's output is not finite"),
        ("head.linear.weight", r"^the loss is not finite, though the maps of all units are"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_weight_is_reported_with_the_unit_that_has_it(place: str, told: str, value: float) -> None:
    chain = small_network("resnet B")
    chain.get_parameter(place).data.flatten()[0] = value
    with pytest.raises(UserError, match=told):
        measured(chain, pictures())


def test_a_gradient_that_is_not_finite_is_reported_with_the_deepest_unit() -> None:
    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x).abs().sqrt()

    with pytest.raises(UserError, match=r"^unit 2: the gradient at its input is not finite$"):
        measured(chain_of([Scale(0.5), Steep(), Scale(0.5)]), vectors())


def test_a_signal_and_a_gradient_of_zero_are_results() -> None:
    chain = linear_chain([-1.0, 0.5])
    found = measured(chain, vectors())
    assert found.units[1].stream_std == 0
    assert found.units[1].ratio is None
    assert found.units[0].input_gradient == 0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda chain: measured(chain), r"^there are no images to measure signal and gradient on$"),
        (
            lambda chain: measured(chain, pictures(), statistics="runing"),  # type: ignore[arg-type]
            r"^unknown statistics 'runing'; did you mean",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(call, told: str) -> None:
    with pytest.raises(UserError, match=told):
        call(small_network("resnet A"))


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_norms_of_a_traced_network_are_measured_as_those_of_the_chain(statistics) -> None:
    chain, batch = small_network("resnet A"), pictures()
    found, own = (measured(one, batch, statistics=statistics) for one in (unravel(chain, batch.images[:1]), chain))
    for one, other in zip(found.units, own.units, strict=True):
        assert (one.branch_std, one.input_gradient) == pytest.approx((other.branch_std, other.input_gradient))


# --- the record


@pytest.mark.parametrize("draws", [OPEN, ([0.0] * 6,)])
def test_a_record_survives_json(draws) -> None:
    found = measured(small_network("resnet A"), pictures(), draws=draws)
    assert from_json(Flow, json.loads(json.dumps({"event": "flow", "step": 3, **to_json(found)}))) == found


# --- what it is for


def gradient_at_first_over_last(name: str, *, normed: bool) -> float:
    found = measured(build(spec_of(name, normed=normed)), pictures(16), statistics="batch")
    return found.units[0].input_gradient / found.units[-1].input_gradient


def test_depth_is_harmless_for_the_gradient_only_with_norms_and_shortcuts() -> None:
    """He-initialised, 8×8 pixels: 54 plain layers lose the gradient, or with norms blow it up; shortcuts keep it.

    Zero padding takes signal from small maps at every layer. Norms give it back forward, and backward divide by the
    small deviation at each of them.
    """
    assert gradient_at_first_over_last("cifar_plain56", normed=False) < 1e-3
    assert gradient_at_first_over_last("cifar_plain56", normed=True) > 1e2
    assert 1 < gradient_at_first_over_last("cifar_resnet56", normed=True) < 1e2


def test_the_gradient_of_a_plain_network_without_norms_falls_with_its_depth() -> None:
    shares = [gradient_at_first_over_last(f"cifar_plain{depth}", normed=False) for depth in (8, 20, 56)]
    assert shares[0] > 10 * shares[1] > 100 * shares[2]
