"""Counts and statistics of a change, against the same from each image's answer."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.oracles import untimed

from howdeep.analysis.effects import baseline_batch, baseline_of, counts, effect_of, per_class
from howdeep.util.errors import UserError

answers = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)
"""Per image: its class, the answer before, the answer after."""


def scores_of(given: list[int]) -> torch.Tensor:
    """Return scores whose highest is that of the class, and different for every image."""
    noise = torch.linspace(0, 0.5, 3 * len(given)).reshape(-1, 3)
    return torch.nn.functional.one_hot(torch.tensor(given), 3) * 2.0 + noise


@untimed
@given(rows=answers)
def test_change_and_its_paired_interval_are_those_of_the_differences_per_image(rows) -> None:
    """The interval is the normal one of the differences and two more: one image newly wrong, and one newly right."""
    labels, before, after = (list(column) for column in zip(*rows, strict=True))
    baseline = baseline_batch(scores_of(before), torch.tensor(labels))
    effect = effect_of(counts(baseline, 3 * scores_of(after), 3), len(rows))
    wrong_before, wrong = (np.array(given) != np.array(labels) for given in (before, after))
    difference = wrong.astype(float) - wrong_before.astype(float)
    changed = [np.append(difference, [1, -1]).mean(), np.append(difference, [1, -1]).std()]
    half = 1.959963984540054 * changed[1] / np.sqrt(len(rows) + 2)
    assert effect.error_percent == pytest.approx(100 * wrong.mean())
    assert effect.standard_error == pytest.approx(100 * wrong.std() / np.sqrt(len(rows)), abs=1e-9)
    assert effect.change == pytest.approx(100 * difference.mean(), abs=1e-9)
    assert effect.change_low == pytest.approx(max(-100, 100 * (changed[0] - half)), abs=1e-4)
    assert effect.change_high == pytest.approx(min(100, 100 * (changed[0] + half)), abs=1e-4)
    assert effect.wrong == tuple(int((wrong & (np.array(labels) == label)).sum()) for label in range(3))
    moved = (3 * scores_of(after) - scores_of(before)).abs().mean().item()
    assert effect.score_change == pytest.approx(moved, rel=1e-5)
    assert effect.not_finite == 0


@untimed
@given(rows=answers, data=st.data())
def test_counts_of_parts_add_up_to_those_of_the_whole(rows, data: st.DataObject) -> None:
    labels, before, after = (list(column) for column in zip(*rows, strict=True))
    cut = data.draw(st.integers(0, len(rows)))

    def count(part: slice) -> list[float]:
        scores = scores_of(before)[part], scores_of(after)[part]
        return counts(baseline_batch(scores[0], torch.tensor(labels)[part]), scores[1], 3)

    parts = [sum(pair) for pair in zip(count(slice(0, cut)), count(slice(cut, None)), strict=True)]
    assert parts == pytest.approx(count(slice(None)))


def test_the_interval_of_a_change_is_narrower_than_that_of_two_samples_of_images() -> None:
    """20 of 100 images wrong before, the same and two more after: paired, the other 98 say nothing."""
    labels = torch.zeros(100, dtype=torch.int64)
    before, after = [1] * 20 + [0] * 80, [1] * 22 + [0] * 78
    effect = effect_of(counts(baseline_batch(scores_of(before), labels), scores_of(after), 3), 100)
    assert (effect.change_low, effect.change_high) == pytest.approx((-1.8634, 5.7850), abs=1e-4)


def test_where_nothing_changed_the_interval_is_that_of_few_images_and_not_empty() -> None:
    scores, labels = scores_of([0, 1, 2, 2]), torch.tensor([0, 1, 2, 0])
    effect = effect_of(counts(baseline_batch(scores, labels), scores, 3), 4)
    assert (effect.change, effect.score_change) == (0, 0)
    assert effect.change_high == -effect.change_low > 10
    assert (effect.error_percent, effect.wrong) == (25.0, (1, 0, 0))


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_images_whose_scores_are_not_finite_are_wrong_and_never_averaged(broken: float) -> None:
    scores, labels = scores_of([0, 1, 2, 2]), torch.tensor([0, 1, 2, 2])
    after = scores.clone() + 1
    after[1, 1] = broken  # the label: infinity would be the highest score
    sums = counts(baseline_batch(scores, labels), after, 3)
    assert sums == [1, 0, 1, pytest.approx(3.0), 0, 1, 0]
    effect = effect_of(sums, 4)
    assert (effect.not_finite, effect.score_change, effect.wrong) == (1, None, (0, 1, 0))
    assert effect.error_percent == 25.0


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_baseline_network_that_is_not_finite_is_refused(broken: float) -> None:
    with pytest.raises(UserError, match="logits that are not finite: weights or data are broken"):
        baseline_batch(torch.tensor([[0.0, broken]]), torch.tensor([0]))


def test_the_baseline_network_has_error_standard_error_and_counts_per_class() -> None:
    found = baseline_of([3, 0, 7], [40, 10, 50])
    assert (found.n, found.error_percent, found.wrong, found.totals) == (100, 10.0, (3, 0, 7), (40, 10, 50))
    assert found.standard_error == pytest.approx(3.0)
    assert per_class(torch.tensor([2, 0, 2]), 4) == [1, 0, 2, 0]
