"""Gradients by path length: counts exactly, polynomials on paper, sums that are checked and can fail."""

import json
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.cases import NETWORKS, Fixed, batch_for, network, vectors, wide
from tests.oracles import Scale, chain_of, in_turn, linear_chain, symmetric_polynomials, untimed, weight_lists
from torch import Tensor, nn

from howdeep.analysis import paths as module
from howdeep.analysis.gradients import draw_paths, exact_gradients, forward, path_counts, path_norms
from howdeep.analysis.options import PathsOptions
from howdeep.analysis.paths import Effective, Paths, SumError, checked, effective, paths
from howdeep.chain import Add, Chain, Replace, Unit
from howdeep.data import Batch
from howdeep.survival import Survival
from howdeep.util.errors import UserError
from howdeep.util.records import from_json, to_json

WEIGHTS = [0.5, -0.25, 2.0, -3.0, 0.125]


def binomial(n: int) -> dict[int, int]:
    return {k: math.comb(n, k) for k in range(n + 1)}


def half_plain(shortcuts: str) -> Chain:
    """Return a chain whose units have a shortcut (s) or none (p)."""
    units = [
        Unit(Scale(0.5), nn.Identity(), Add() if kind == "s" else Replace(1, stride=1, removable=True))
        for kind in shortcuts
    ]
    return Chain(nn.Identity(), units, nn.Identity())


# --- how many


@pytest.mark.parametrize("units", [1, 6, 54])
def test_paths_of_length_k_are_binomially_many(units: int) -> None:
    assert path_counts(linear_chain([0.5] * units)) == binomial(units)


def test_six_hundred_units_have_exactly_two_to_the_six_hundred_paths() -> None:
    counts = path_counts(linear_chain([0.5] * 600))
    assert counts == binomial(600)
    assert sum(counts.values()) == 2**600


def test_a_plain_network_has_one_path_and_every_shortcut_doubles() -> None:
    assert path_counts(network("plain")) == {3: 1}
    assert path_counts(half_plain("pspps")) == {3: 1, 4: 2, 5: 1}


# --- on paper


def test_gradients_that_cancel_add_up_within_rounding() -> None:
    """(1 + 2) · (1 − (1 − 2⁻⁵³)): the sum is as small as the rounding of its summands."""
    chain, batch = linear_chain([2.0, -1.0]), vectors()
    chain.rule = Fixed(1.0, 1 - 2**-53)
    check = paths(chain, [batch], PathsOptions(draws=0)).sum_check_relative_error
    assert check is not None
    assert check < 1e-15


@untimed
@given(weights=weight_lists, data=st.data())
def test_the_gradient_of_length_k_is_the_elementary_symmetric_polynomial(weights: list[float], data) -> None:
    """Of p_l·w_l, times the gradient behind the last unit."""
    gates = data.draw(st.lists(st.floats(0.1, 1), min_size=len(weights), max_size=len(weights)))
    chain, batch = linear_chain(weights), vectors()
    chain.rule = Fixed(*gates)
    stream = forward(chain, batch)
    polynomials = symmetric_polynomials([gate * weight for gate, weight in zip(gates, weights, strict=True)])
    found = exact_gradients(stream)
    assert sorted(found) == list(range(len(weights) + 1))
    for length, polynomial in enumerate(polynomials):
        torch.testing.assert_close(found[length], polynomial * stream.last, rtol=1e-9, atol=1e-12)
    head = float(stream.last.norm(dim=1).mean())
    record = paths(chain, [batch], PathsOptions(draws=0))
    assert record.gradient_norm == pytest.approx([abs(one) * head for one in polynomials], rel=1e-9, abs=1e-12)


def test_a_sampled_path_carries_the_product_of_its_weights() -> None:
    chain, batch = linear_chain(WEIGHTS), vectors()
    head = float(forward(chain, batch).last.norm(dim=1).mean())
    drawn = draw_paths(chain, range(6), 7, seed=3)
    products = [math.prod(abs(w) for w, through in zip(WEIGHTS, path, strict=True) if through) for path in drawn]
    found = paths(chain, [batch], PathsOptions(draws=7, seed=3))
    assert [sampled.length for sampled in found.sampled] == list(range(6))
    for sampled in found.sampled:
        norms = torch.tensor(products[7 * sampled.length : 7 * sampled.length + 7], dtype=torch.float64) * head
        assert sampled.draws == 7
        assert sampled.mean == pytest.approx(float(norms.mean()), rel=1e-9)
        assert sampled.standard_error == pytest.approx(float(norms.std()) / math.sqrt(7), rel=1e-6, abs=1e-12)
        product = math.log10(sampled.mean * math.comb(5, sampled.length))
        assert sampled.log10_product == pytest.approx(product, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("length", "dtype"), in_turn([10, 300, 150, 60], [torch.float32, torch.float64]))
def test_a_path_through_hundreds_of_branches_does_not_vanish(length: int, dtype: torch.dtype) -> None:
    """Through k of 300 branches of weight 10⁻³: log₁₀ of C(300, k)·10⁻³ᵏ·‖head‖, far below what floats hold."""
    chain, batch = linear_chain([1e-3] * 300).to(dtype), vectors()
    batches = [Batch(batch.images.to(dtype), batch.labels, 5), Batch(2 * batch.images.to(dtype), batch.labels, 5)]
    head = sum(float(forward(chain, one).last.norm(dim=1).double().mean()) for one in batches) / 2
    (sampled,) = paths(chain, batches, PathsOptions(exact=False, draws=3, lengths=(length,))).sampled
    expected = math.log10(head) - 3 * length + math.log10(math.comb(300, length))
    assert sampled.log10_product == pytest.approx(expected, abs=1e-4)
    if length <= 60:
        assert sampled.mean == pytest.approx(head * 10.0 ** (-3 * length), rel=1e-3)
    else:
        assert sampled.mean == 0.0


def test_no_gradient_is_none_and_not_minus_infinity() -> None:
    found = paths(linear_chain([0.0, 0.5]), [vectors()], PathsOptions(draws=2, lengths=(2,)))
    assert (found.sampled[0].mean, found.sampled[0].log10_product) == (0.0, None)
    assert found.effective_by_sample is None


# --- the check


@pytest.mark.parametrize(("name", "survival"), in_turn(NETWORKS, [None, Survival("linear", 0.5)]), ids=str)
def test_lengths_add_up_to_autograds_gradient(name: str, survival: Survival | None) -> None:
    for tolerance, change in ((1e-4, lambda *both: both), (1e-10, wide)):
        chain, batch = change(network(name), batch_for(name))
        chain.rule = survival
        found = paths(chain, [batch, batch], PathsOptions(draws=1))
        assert found.sum_check_relative_error is not None
        assert found.sum_check_relative_error <= tolerance
        assert found.ordinary_norm > 0
        assert found.units == len(chain)
        # Triangle inequality, which a dropped length breaks when it is the largest.
        assert sum(found.gradient_norm or ()) >= found.ordinary_norm * (1 - 1e-6)


class Forgetful(nn.Module):
    """A branch that returns less every time that it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x / self.calls


def test_a_branch_that_does_not_repeat_itself_fails_the_check() -> None:
    with pytest.raises(SumError, match=r"add up to the ordinary gradient only within .*allowed: 1e-10"):
        paths(chain_of([Scale(0.5), Forgetful()]), [vectors()])


class Stopping(nn.Module):
    """A branch whose gradient is lost where it is computed for itself, behind a detached input that is a leaf."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (x.detach() + 0 * x if x.is_leaf else x)


def test_a_lost_gradient_fails_the_check() -> None:
    with pytest.raises(SumError):
        paths(chain_of([Scale(0.5), Stopping()]), [vectors()])


@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_check_is_as_strict_as_it_says(dtype: torch.dtype, off: float) -> None:
    whole = torch.randn(3, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    assert checked({0: 0.25 * whole, 1: 0.75 * whole}, whole) < off / 100
    with pytest.raises(SumError):
        checked({0: whole, 1: off * whole}, whole)
    with pytest.raises(SumError):
        checked({0: whole, 1: whole * math.nan}, whole)
    with pytest.raises(SumError):
        checked({0: 1e3 * off * whole}, torch.zeros_like(whole))


# --- means over images


@pytest.mark.parametrize("name", ["resnet A", "densenet"])
def test_norms_are_means_over_images_of_each_images_own_gradient(name: str) -> None:
    chain, batch = wide(network(name), batch_for(name, 5))
    alone = [Batch(batch.images[n : n + 1], batch.labels[n : n + 1], 1) for n in range(5)]
    single = [paths(chain, [one], PathsOptions(draws=2, seed=1)) for one in alone]
    exact = [exact_gradients(forward(chain, one)) for one in alone]
    split = [Batch(batch.images[:2], batch.labels[:2], 2), Batch(batch.images[2:], batch.labels[2:], 3)]
    for batches in ([batch], split):
        found = paths(chain, batches, PathsOptions(draws=2, seed=1))
        assert found.n == 5
        assert found.gradient_norm is not None
        for k, norm in enumerate(found.gradient_norm):
            assert norm == pytest.approx(sum(float(one[k].norm()) for one in exact) / 5, rel=1e-9)
        assert found.ordinary_norm == pytest.approx(sum(one.ordinary_norm for one in single) / 5, rel=1e-9)
        for k, sampled in enumerate(found.sampled):
            assert sampled.mean == pytest.approx(sum(one.sampled[k].mean for one in single) / 5, rel=1e-9)


def test_gradients_of_sampled_paths_are_carried_a_few_at_a_time_where_they_are_large(monkeypatch) -> None:
    chain, batch = wide(network("preresnet"), batch_for("preresnet", 2))
    expected, sizes = paths(chain, [batch], PathsOptions(draws=3)), []

    def watched(stream, chosen):
        sizes.append(len(chosen))
        return path_norms(stream, chosen)

    monkeypatch.setattr(module, "path_norms", watched)
    monkeypatch.setattr(module, "GRADIENT_BYTES", 4 * max(x.numel() * 8 for x in forward(chain, batch).inputs))
    assert paths(chain, [batch], PathsOptions(draws=3)) == expected
    assert sizes == [4, 4, 4, 4, 4, 1]


# --- draws


def test_drawn_paths_have_their_length_exist_and_depend_on_the_seed_alone() -> None:
    chain = half_plain("psspsss")
    lengths = sorted(path_counts(chain))
    drawn = draw_paths(chain, lengths, 6, seed=0)
    assert [sum(path) for path in drawn] == [length for length in lengths for _ in range(6)]
    assert all(path[0] and path[3] for path in drawn)
    assert len(set(drawn[6 * 2 : 6 * 3])) > 1
    assert drawn == draw_paths(chain, lengths, 6, seed=0)
    assert drawn != draw_paths(chain, lengths, 6, seed=1)
    assert draw_paths(chain, [4], 3, seed=0) == drawn[6 * 2 : 6 * 2 + 3]


def test_units_of_a_path_are_drawn_evenly() -> None:
    drawn = draw_paths(linear_chain([0.5] * 6), [2], 1200, seed=0)
    for unit in range(6):
        share = sum(path[unit] for path in drawn) / 1200
        assert share == pytest.approx(1 / 3, abs=0.055)  # four standard errors


# --- effective lengths


def test_the_effective_lengths_are_the_shortest_range_with_at_least_95_percent() -> None:
    counts = binomial(5)
    lengths = list(counts)

    def range_of(*magnitudes: float) -> Effective | None:
        return effective(lengths, magnitudes, counts, 32)

    assert range_of(0, 1, 0, 0, 0, 0) == Effective(lengths=(1,), share=1.0, path_fraction=5 / 32)
    assert range_of(1, 50, 45, 1, 2, 1) == Effective(lengths=(1, 2), share=0.95, path_fraction=15 / 32)
    assert range_of(4, 50, 44, 2, 0, 0) == Effective(lengths=(0, 1, 2), share=0.98, path_fraction=16 / 32)
    assert range_of(1, 0, 0, 0, 0, 1) == Effective(lengths=(0, 1, 2, 3, 4, 5), share=1.0, path_fraction=1.0)
    assert range_of(0, 0, 0, 0, 0, 0) is None
    # Two ranges of two: the one that carries more.
    assert range_of(3, 94.5, 2.5, 0, 0, 0) == Effective(lengths=(0, 1), share=0.975, path_fraction=6 / 32)


@untimed
@given(magnitudes=st.lists(st.floats(0, 1e3), min_size=1, max_size=12))
def test_no_shorter_range_carries_95_percent(magnitudes: list[float]) -> None:
    counts = binomial(len(magnitudes) - 1)
    found, whole = effective(list(counts), magnitudes, counts, sum(counts.values())), math.fsum(magnitudes)
    if found is None:
        assert whole == 0
        return
    length = len(found.lengths)
    assert all(second == first + 1 for first, second in pairwise(found.lengths))
    assert found.share == pytest.approx(sum(magnitudes[k] for k in found.lengths) / whole)
    assert found.share >= 0.95 * (1 - 1e-12)
    shorter = [math.fsum(magnitudes[k : k + length - 1]) for k in range(len(magnitudes) - length + 2)]
    assert max(shorter) < 0.95 * whole * (1 + 1e-12)


@pytest.mark.parametrize(("first", "last", "fraction"), [(5, 17, 0.0045367), (19, 35, 0.9801657)])
def test_fractions_of_two_to_the_54_paths_are_the_literatures(first: int, last: int, fraction: float) -> None:
    counts = path_counts(linear_chain([0.5] * 54))
    magnitudes = [1.0 if first <= length <= last else 0.0 for length in counts]
    # All of it is needed: an outermost length carries more than 5 %.
    magnitudes[first] = magnitudes[last] = 20.0
    found = effective(list(counts), magnitudes, counts, 2**54)
    assert found is not None
    assert found.lengths == tuple(range(first, last + 1))
    assert found.path_fraction == pytest.approx(fraction, abs=5e-8)


def test_effective_lengths_of_norms_and_of_samples_are_those_of_their_magnitudes() -> None:
    chain = linear_chain([0.05] * 40)
    found = paths(chain, [vectors()], PathsOptions(draws=1))
    exact = [math.comb(40, k) * 0.05**k for k in range(41)]
    expected = effective(list(range(41)), exact, binomial(40), 2**40)
    assert expected is not None
    assert found.effective is not None
    assert found.effective_by_sample is not None
    # All weights are alike, so nothing cancels, and one path of a length is like another.
    assert found.effective.lengths == found.effective_by_sample.lengths == expected.lengths == (0, 1, 2, 3, 4)
    assert (
        found.effective.path_fraction
        == expected.path_fraction
        == pytest.approx(1 / 2**40 * (1 + 40 + 780 + 9880 + 91390))
    )
    assert found.effective_by_sample.share == pytest.approx(expected.share)


def test_shares_of_few_sampled_lengths_are_binomial_where_norms_are_powers() -> None:
    """Norms of r to the power of the length: C(40, k)·rᵏ of (1 + r)⁴⁰, whichever lengths were sampled."""
    chain, batch = linear_chain([0.05] * 40), vectors()
    binomials = [math.comb(40, k) * 0.05**k / 1.05**40 for k in range(41)]
    for lengths in ((0, 3, 8, 20), (30, 2, 0), (0, 1)):
        found = paths(chain, [batch], PathsOptions(exact=False, draws=2, lengths=lengths))
        if max(lengths) == 1:  # behind it lie 27 % of the gradient
            assert found.spread is found.effective_by_sample is None
            continue
        assert found.spread is not None
        assert found.spread.lengths == tuple(range(max(lengths) + 1))
        assert found.spread.shares == pytest.approx(binomials[: max(lengths) + 1], rel=1e-6)
        assert found.spread.off == pytest.approx([0.0] * (max(lengths) + 1), abs=1e-6)
        assert found.effective_by_sample is not None
        assert found.effective_by_sample.lengths == (0, 1, 2, 3, 4)


def test_an_interpolated_spread_is_that_of_all_lengths_of_a_small_network() -> None:
    """Weights that differ bend the line: sampled at four of nine lengths, no share is off by more than two points."""
    chain, batch = linear_chain([0.1, 0.5, 0.2, 0.4, 0.3, 0.15, 0.45, 0.35]), vectors()
    exact = paths(chain, [batch], PathsOptions(draws=0)).gradient_norm  # nothing cancels
    spread = paths(chain, [batch], PathsOptions(exact=False, draws=300, lengths=(0, 2, 5, 8))).spread
    assert exact is not None
    assert spread is not None
    assert spread.lengths == tuple(range(9))
    assert spread.shares == pytest.approx([norm / sum(exact) for norm in exact], abs=0.02)
    assert 0 < max(spread.off) < 0.2


def test_paths_may_cancel_in_the_sum_and_not_in_the_sum_of_norms() -> None:
    found = paths(linear_chain([0.5, -0.5]), [vectors()], PathsOptions(draws=4))
    assert found.gradient_norm is not None
    assert found.gradient_norm[1] == pytest.approx(0, abs=1e-12)
    assert found.sampled[1].mean > 0.1


# --- what was asked for


def test_without_draws_nothing_is_sampled_and_without_exact_nothing_is_summed() -> None:
    chain, batch = linear_chain(WEIGHTS), vectors()
    found = paths(chain, [batch], PathsOptions(draws=0))
    assert (found.sampled, found.effective_by_sample) == ((), None)
    assert found.effective is not None
    found = paths(chain, [batch], PathsOptions(exact=False, draws=1))
    assert found.gradient_norm is found.sum_check_relative_error is found.effective is None
    assert found.effective_by_sample is not None
    assert [sampled.standard_error for sampled in found.sampled] == [None] * 6
    some = paths(chain, [batch], PathsOptions(draws=2, lengths=(4, 3)))
    assert [sampled.length for sampled in some.sampled] == [4, 3]
    assert some.effective_by_sample is some.spread is None  # what lies before 3 may be much
    assert some.lengths == (0, 1, 2, 3, 4, 5)


def test_what_cannot_be_asked_is_refused_in_one_line() -> None:
    chain, batch = linear_chain(WEIGHTS), vectors()
    for length in (-1, 6):
        with pytest.raises(UserError, match=f"^length {length} is not allowed: paths pass 0 to 5 branches$"):
            paths(chain, [batch], PathsOptions(lengths=(2, length)))
    with pytest.raises(UserError, match=r"^length 2 is not allowed: paths pass 3 to 3 branches$"):
        paths(network("plain"), [batch_for("plain")], PathsOptions(lengths=(2,)))
    with pytest.raises(UserError, match=r"^draws -1 is not allowed: it must be at least 0$"):
        paths(chain, [batch], PathsOptions(draws=-1))
    with pytest.raises(UserError, match=r"^draws 0 is not allowed: it must be at least 1$"):
        paths(chain, [batch], PathsOptions(exact=False, draws=0))
    for nothing in ((chain, []), (chain_of([]), [batch])):
        with pytest.raises(UserError, match="there is nothing to measure"):
            paths(*nothing)


def test_broken_weights_and_images_are_reported() -> None:
    batch = batch_for("resnet A")
    batch.images[0, 0, 0, 0] = math.nan
    with pytest.raises(UserError, match="the loss is not finite"):
        paths(network("resnet A"), [batch])


# --- the record


@pytest.mark.parametrize("options", [{}, {"exact": False}, {"draws": 0}, {"draws": 1}, {"lengths": (3,)}], ids=str)
@pytest.mark.parametrize("name", ["preresnet", "plain"])
def test_every_record_survives_json(name: str, options: dict) -> None:
    found = paths(network(name), [batch_for(name)], PathsOptions(**options))
    assert from_json(Paths, json.loads(json.dumps(to_json(found), allow_nan=False))) == found


def test_a_record_has_the_documented_names_and_counts_in_decimal() -> None:
    found = paths(linear_chain([1e-3] * 60), [vectors()], PathsOptions(draws=2, lengths=tuple(range(5))))
    record = json.loads(json.dumps(to_json(found)))
    assert record["units"] == 60
    assert record["lengths"] == list(range(61))
    assert record["path_count"] == [str(math.comb(60, k)) for k in range(61)]  # up to 10¹⁷, which no float holds
    assert len(record["gradient_norm"]) == 61
    assert {"length", "mean", "standard_error", "draws"} <= record["sampled"][3].keys()
    assert {"lengths", "path_fraction"} <= record["effective"].keys()
    assert 0 <= record["sum_check_relative_error"] <= 1e-10
