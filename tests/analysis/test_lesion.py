"""Lesion studies: on paper for linear chains, by hand with gates for networks."""

import io
import json
import math
from copy import deepcopy
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.analysis.cases import NETWORKS, Shift, Threshold, batch_for, classifier, counted, network, numbers, twenty
from tests.oracles import in_turn, linear_chain, untimed
from torch import nn

from howdeep.analysis.lesion import Lesion, UnitEffect, kendall_tau, lesion, removable
from howdeep.analysis.options import Kind, LesionOptions
from howdeep.analysis.study import prepared
from howdeep.chain import Add, Chain, Gates, Replace, Unit
from howdeep.data import Batch
from howdeep.data.loaders import Batches
from howdeep.runs.foreign import read_network
from howdeep.survival import Survival
from howdeep.util.errors import UserError
from howdeep.util.intervals import of_change
from howdeep.util.records import from_json, to_json

KINDS = get_args(Kind)
X = [-3.0, -0.7, -0.1, 0.3, 0.8, 1.1, 1.7, 4.0]
LABELS = [0, 1, 1, 0, 1, 0, 0, 1]
FEW = {kind: LesionOptions(kind=kind) for kind in KINDS}
FEW |= {kind: LesionOptions(kind=kind, max_k=2, draws=3) for kind in ("random", "permute")}
"""One study of every kind, of few draws."""

factors = st.floats(-3, 3).filter(lambda weight: abs(1 + weight) > 0.05)


# --- on paper: class 0 where x·∏(1 + w) is above 1


def wrong_on_paper(factor: float) -> list[bool]:
    return [(0 if x * factor > 1 else 1) != label for x, label in zip(X, LABELS, strict=True)]


def assert_on_paper(effect, factor: float, whole: float) -> None:
    """Errors, errors per class, change, and mean |score change|: of the two scores one moves."""
    wrong, before = wrong_on_paper(factor), wrong_on_paper(whole)
    assert effect.error_percent == 100 * sum(wrong) / 8
    assert effect.wrong == tuple(sum(w for w, y in zip(wrong, LABELS, strict=True) if y == k) for k in (0, 1))
    assert effect.change == pytest.approx(100 * (sum(wrong) - sum(before)) / 8)
    assert effect.score_change == pytest.approx(np.abs(X).mean() * abs(factor - whole) / 2, rel=1e-5, abs=1e-5)


def clear(factor: float) -> bool:
    """Whether rounding decides no image."""
    return all(abs(x * factor - 1) > 1e-4 for x in X)


@untimed
@given(weights=st.lists(factors, min_size=1, max_size=6))
def test_deleting_a_unit_of_a_linear_chain_divides_its_scores_by_one_plus_the_weight(weights: list[float]) -> None:
    whole = math.prod(1 + weight for weight in weights)
    found = lesion(classifier(weights), [numbers(X, LABELS)])
    if clear(whole):
        assert found.baseline.error_percent == 100 * sum(wrong_on_paper(whole)) / 8
        for unit, weight in zip(found.units, weights, strict=True):
            if clear(whole / (1 + weight)):
                assert_on_paper(unit, whole / (1 + weight), whole)


@untimed
@given(weights=st.lists(factors, min_size=1, max_size=6))
def test_running_a_unit_of_a_linear_chain_twice_multiplies_its_scores_once_more(weights: list[float]) -> None:
    whole = math.prod(1 + weight for weight in weights)
    found = lesion(classifier(weights), [numbers(X, LABELS)], FEW["duplicate"])
    for unit, weight in zip(found.units, weights, strict=True):
        if clear(whole) and clear(whole * (1 + weight)):
            assert_on_paper(unit, whole * (1 + weight), whole)


@pytest.mark.parametrize("kind", ["random", "pairs"])
def test_units_out_together_divide_by_all_their_factors(kind: Kind) -> None:
    weights = [0.5, -0.25, 2.0, -3.0, 0.125]
    whole = math.prod(1 + weight for weight in weights)
    options = LesionOptions(kind=kind, max_k=5, draws=4) if kind == "random" else FEW[kind]
    found = lesion(classifier(weights), [numbers(X, LABELS)], options)
    assert len(found.trials) == (20 if kind == "random" else 10)
    for trial in found.trials:
        assert_on_paper(trial.effect, whole / math.prod(1 + weights[unit - 1] for unit in trial.units), whole)
        assert trial.kendall_tau is None


@untimed
@given(weights=st.lists(factors, min_size=2, max_size=6))
def test_the_order_of_linear_units_does_not_matter(weights: list[float]) -> None:
    found = lesion(classifier(weights), [numbers(X, LABELS)], FEW["permute"])
    moved = [trial for trial in found.trials if trial.units != tuple(range(1, len(weights) + 1))]
    assert moved
    for trial in found.trials:
        assert trial.effect.score_change == pytest.approx(0, abs=1e-3)
        assert trial.kendall_tau is not None


def test_order_matters_where_units_are_not_linear_and_the_old_order_changes_nothing() -> None:
    found = lesion(twenty(), [batch_for("resnet A")], LesionOptions(kind="permute", max_k=2, draws=10))
    kept = [trial for trial in found.trials if trial.kendall_tau == 1]
    moved = [trial for trial in found.trials if trial.kendall_tau != 1]
    assert kept
    assert moved
    assert {trial.effect.score_change for trial in kept} == {0.0}
    assert all(trial.units == tuple(range(1, 10)) for trial in kept)
    assert min(trial.effect.score_change or 0 for trial in moved) > 1e-4


@untimed
@given(order=st.integers(2, 9).flatmap(lambda n: st.permutations(range(1, n + 1))))
def test_kendalls_tau_counts_pairs_in_order_minus_pairs_out_of_order(order: list[int]) -> None:
    pairs = list(combinations(order, 2))
    expected = sum(1 if first < second else -1 for first, second in pairs) / len(pairs)
    assert kendall_tau(order) == pytest.approx(expected)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_batch_is_fetched_once(kind: Kind) -> None:
    fetched = []

    class Counted(Batches):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index):
            fetched.append(index)
            return batch_for("resnet A", 6)

    lesion(network("resnet A"), Counted(), FEW[kind])
    assert fetched == [0, 1, 2]


# --- by hand: the chain with gates, image by image


def by_hand(chain: Chain, batch: Batch, gates: Gates) -> dict:
    """Return what a lesion does, from the answers of each image."""
    with torch.inference_mode():
        before, after = (chain(batch.images, one).double().numpy() for one in (None, gates))
    labels = batch.labels.numpy()
    wrong_before, wrong = (scores.argmax(1) != labels for scores in (before, after))
    difference, n = wrong.astype(float) - wrong_before, len(labels)
    low, high = of_change((difference > 0).sum(), (difference < 0).sum(), n)
    return {
        "error_percent": 100 * wrong.mean(),
        "standard_error": 100 * wrong.std() / math.sqrt(n),
        "change": 100 * difference.mean(),
        "change_low": low,
        "change_high": high,
        "score_change": np.abs(after - before).mean(),
        "wrong": tuple(np.bincount(labels[wrong], minlength=after.shape[1]).tolist()),
    }


def assert_by_hand(effect, expected: dict) -> None:
    assert effect.wrong == expected.pop("wrong")
    assert effect.not_finite == 0
    for name, value in expected.items():
        assert getattr(effect, name) == pytest.approx(value, rel=1e-4, abs=1e-6), name


def without(chain: Chain, units: tuple[int, ...]) -> Gates:
    return [None if unit in units else gate for unit, gate in enumerate(chain.resolve(None), 1)]


@pytest.mark.parametrize(("name", "survival"), in_turn(NETWORKS, [None, Survival("linear", 0.5)]), ids=str)
def test_deleting_each_unit_is_the_chain_with_that_gate_none(name: str, survival: Survival | None) -> None:
    chain, batch = network(name), batch_for(name, 24)
    chain.rule = survival
    found = lesion(chain, [batch])
    baseline = by_hand(chain, batch, chain.resolve(None))
    assert found.baseline.error_percent == pytest.approx(baseline["error_percent"])
    assert (found.baseline.n, found.baseline.wrong) == (24, baseline["wrong"])
    assert sum(found.baseline.totals) == 24
    able = removable(chain)
    for number, unit in enumerate(found.units):
        assert (unit.index, unit.name, unit.removable) == (number + 1, chain.names[number], number in able)
        if unit.removable:
            assert_by_hand(unit, by_hand(chain, batch, without(chain, (unit.index,))))
    assert len(found.units) == len(chain)
    changes = [unit.score_change for unit in found.units if unit.removable]
    assert min(change or 0 for change in changes) > 0


@pytest.mark.parametrize("kind", ["random", "pairs"])
@pytest.mark.parametrize("name", ["preresnet", "resnet B", "densenet_bc"])
def test_deleting_several_units_is_the_chain_with_these_gates_none(name: str, kind: Kind) -> None:
    chain, batch = network(name), batch_for(name, 24)
    found = lesion(chain, [batch], FEW[kind])
    assert found.units == ()
    for trial in found.trials:
        assert_by_hand(trial.effect, by_hand(chain, batch, without(chain, trial.units)))


def test_a_dense_unit_is_closed() -> None:
    chain, batch = network("densenet"), batch_for("densenet", 24)
    unit = lesion(chain, [batch]).units[2]
    assert_by_hand(unit, by_hand(chain, batch, [0.0 if number == 2 else 1.0 for number in range(len(chain))]))


def test_all_deletions_together_compute_half_of_n_squared_branches() -> None:
    chain = linear_chain([0.1] * 9)
    chain.head = Threshold()
    counters = counted(chain)
    lesion(chain, [numbers(X, LABELS)] * 2)
    assert sum(counter.calls for counter in counters) == 2 * 9 * 10 // 2


# --- units that cannot be changed


def test_units_that_cannot_be_taken_out_are_listed_with_nothing_measured() -> None:
    chain = network("plain")
    found = lesion(chain, [batch_for("plain")])
    assert [unit.removable for unit in found.units] == [unit.merge.removable for unit in chain.units]
    assert [unit.removable for unit in found.units] == [True, False, False]
    assert found.units[1] == UnitEffect(index=2, name=chain.names[1], removable=False)
    assert found.units[1].error_percent is found.units[1].score_change is found.units[1].wrong is None


def test_units_that_change_the_shape_cannot_run_twice_and_say_so() -> None:
    found = lesion(twenty(), [batch_for("resnet A")], FEW["duplicate"])
    assert [unit.index for unit in found.units if not unit.removable] == [4, 7]
    assert [unit.index for unit in found.units if unit.error_percent is None] == [4, 7]


@pytest.mark.parametrize("kind", ["delete", "pairs"])
def test_a_network_without_anything_to_take_out_is_refused(kind: Kind) -> None:
    unit = Unit(nn.Identity(), nn.Identity(), Replace(1, stride=1, removable=False))
    chain = Chain(nn.Identity(), [unit], Threshold())
    with pytest.raises(UserError, match=rf"no unit of this network can be changed in this way \({kind}\): .*1 units"):
        lesion(chain, [numbers(X, LABELS)], FEW[kind])


def test_what_cannot_be_asked_is_refused_in_one_line() -> None:
    chain, batches = classifier([0.5, 0.25]), [numbers(X, LABELS)]
    with pytest.raises(UserError, match=r"^k 3 is not allowed: 2 of 2 units can be taken out$"):
        lesion(chain, batches, LesionOptions(kind="random", max_k=3))
    for name, value in (("max_k", 0), ("draws", 0), ("sample", -1)):
        with pytest.raises(UserError, match=f"^{name.replace('_', '-')} {value} is not allowed: it must be at least 1"):
            LesionOptions(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no images"):
        lesion(chain, [])
    with pytest.raises(UserError, match=r"unknown kind 'deleted'; did you mean delete or"):
        LesionOptions(kind="deleted")  # type: ignore[arg-type]


# --- numbers that are not finite


def test_a_broken_weight_or_image_is_reported() -> None:
    broken, batch = network("resnet A"), batch_for("resnet A")
    next(broken.units[3].branch.parameters()).data.view(-1)[0] = math.nan
    with pytest.raises(UserError, match="not finite: weights or data are broken"):
        lesion(broken, [batch])
    images = batch.images.clone()
    images[2, 0, 0, 0] = math.nan
    with pytest.raises(UserError, match="not finite: weights or data are broken"):
        lesion(network("resnet A"), [batch, Batch(images, batch.labels, batch.total)])


class Logarithm(nn.Module):
    def forward(self, x):
        return Threshold()(x.log())


def test_scores_that_a_lesion_makes_not_finite_are_counted_as_wrong_and_never_averaged() -> None:
    """log(x + 4 + 1): without the first unit six images stay above 0, without the second all do."""
    units = [Unit(Shift(4.0), nn.Identity(), Add()), Unit(Shift(1.0), nn.Identity(), Add())]
    chain = Chain(nn.Identity(), units, Logarithm())
    x = [-3.0, -2.0, -0.5, 0.5, 1.0, 2.0, 3.0, 4.0]
    found = lesion(chain, [numbers(x, [1] * 8), numbers(x, [0] * 8)])
    first, second = found.units
    assert (first.not_finite, first.score_change) == (4, None)
    assert second.not_finite == 0
    expected = np.mean([math.log(value + 5) - math.log(value + 4) for value in x]) / 2
    assert second.score_change == pytest.approx(expected, rel=1e-5)
    after = [value + 1 > math.e for value in x]  # class 0; NaN is never above
    assert first.wrong == (8 - sum(after), 2 + sum(after))
    json.dumps(to_json(found), allow_nan=False)


# --- draws, batches, records


def test_means_over_draws_have_the_error_of_their_spread() -> None:
    found = lesion(network("preresnet"), [batch_for("preresnet", 24)], LesionOptions(kind="random", max_k=3, draws=5))
    assert [summary.k for summary in found.by_k] == [1, 2, 3]
    for summary in found.by_k:
        errors = [trial.effect.error_percent for trial in found.trials if trial.k == summary.k]
        assert summary.draws == len(errors) == 5
        assert summary.error_percent == pytest.approx(np.mean(errors))
        assert summary.standard_error == pytest.approx(np.std(errors, ddof=1) / math.sqrt(5))
    assert any(summary.standard_error for summary in found.by_k)
    (single,) = lesion(classifier([0.5]), [numbers(X, LABELS)], LesionOptions(kind="random", max_k=1, draws=1)).by_k
    assert (single.draws, single.standard_error) == (1, None)


def test_the_same_seed_gives_the_same_study_and_another_another() -> None:
    chain, batches = network("preresnet"), [batch_for("preresnet", 12)]
    for kind in ("random", "permute"):
        chain = chain if kind == "random" else twenty()
        one, again, other = (lesion(chain, batches, replace(FEW[kind], seed=seed)) for seed in (5, 5, 6))
        assert one == again
        assert one.seed == 5
        assert [trial.units for trial in other.trials] != [trial.units for trial in one.trials]


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_the_batch_size(kind: Kind) -> None:
    chain, whole = twenty(), batch_for("resnet A", 10)

    def cut(size: int) -> list[Batch]:
        pairs = zip(whole.images.split(size), whole.labels.split(size), strict=True)
        return [Batch(images, labels, len(labels)) for images, labels in pairs]

    expected = lesion(chain, [whole], FEW[kind])
    for size in (1, 4):
        found = lesion(chain, cut(size), FEW[kind])
        assert found.baseline == expected.baseline
        if kind in ("delete", "duplicate"):
            effects, wanted = found.units, expected.units
        else:
            effects, wanted = ([trial.effect for trial in one.trials] for one in (found, expected))
        for mine, theirs in zip(effects, wanted, strict=True):
            mine, theirs = to_json(mine), to_json(theirs)
            moved, expected_move = mine.pop("score_change"), theirs.pop("score_change")
            assert moved == (expected_move and pytest.approx(expected_move, rel=1e-4))
            assert mine == theirs


def test_the_chain_stays_as_it_is() -> None:
    chain = network("resnet A")
    before = deepcopy(chain.state_dict())
    for kind in KINDS:
        lesion(twenty() if kind == "permute" else chain, [batch_for("resnet A")], FEW[kind])
    assert all(torch.equal(value, before[name]) for name, value in chain.state_dict().items())
    assert not chain.training
    assert all(parameter.grad is None for parameter in chain.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_study_survives_json(kind: Kind) -> None:
    found = lesion(twenty(), [batch_for("resnet A")], FEW[kind])
    text = json.dumps(to_json(found), allow_nan=False)
    assert from_json(Lesion, json.loads(text)) == found
    assert found.kind == kind
    assert bool(found.units) == (kind in ("delete", "duplicate"))
    assert bool(found.by_k) == (kind in ("random", "permute"))


def test_a_plain_study_survives_json_with_its_gaps_under_the_documented_names() -> None:
    found = lesion(network("plain"), [batch_for("plain")])
    record = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert from_json(Lesion, record) == found
    assert {"n", "error_percent"} <= record["baseline"].keys()
    assert {"index", "name", "error_percent", "standard_error", "removable"} <= record["units"][0].keys()
    assert [unit["error_percent"] is None for unit in record["units"]] == [False, True, True]


# --- with real weights


MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def lesion_of(name: str, weights: Path, cifar10: Path, images: int) -> Lesion:
    """Take each unit of a public network out, on the first test images."""
    _, chain, _ = read_network(f"cifar_{name.partition('-')[0]}", weights / name, report=print)
    table = parquet.read_table(cifar10 / "test.parquet").slice(0, images)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in table["img"].to_pylist()])
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    labels = torch.tensor(table["label"].to_pylist())
    batches = [Batch(*pair, 250) for pair in zip(x.split(250), labels.split(250), strict=True)]
    folded = prepared(chain, batches[0].images[:8], precision="fp32", device=torch.device("cpu")).chain
    return lesion(folded, batches)


def opens_dearly(found: Lesion, opening: int, stage: range) -> None:
    low, high = ({unit.index: getattr(unit, name) for unit in found.units} for name in ("change_low", "change_high"))
    assert low[opening] > 10
    assert low[opening] > max(high[unit] for unit in stage), f"unit {opening}"


def test_units_that_open_a_stage_of_the_20_layer_network_cost_most(weights: Path, cifar10: Path) -> None:
    """Veit et al. 2016, section 4.1: the downsampling units, 4 and 7 of 9, matter most."""
    found = lesion_of("resnet20-12fca82f.th", weights, cifar10, 200)
    opens_dearly(found, 4, range(5, 7))
    opens_dearly(found, 7, range(8, 10))


@pytest.mark.slow
def test_units_that_open_a_stage_of_the_56_layer_network_cost_most(weights: Path, cifar10: Path) -> None:
    """Of both downsampling units, 10 and 19 of 27: the second one needs 500 images to stand out."""
    found = lesion_of("resnet56-4bfd9763.th", weights, cifar10, 500)
    assert found.baseline.error_percent == pytest.approx(16.8, abs=1)
    opens_dearly(found, 10, range(11, 19))
    opens_dearly(found, 19, range(20, 28))
