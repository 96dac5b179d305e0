"""Logistic regression: scikit-learn's solution, on paper where there is one, and a strength that validation chose."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from howdeep.analysis.linear import Features, regression


@pytest.fixture(scope="module")
def digits() -> tuple[Features, Features, Features]:
    """Train, validation and test images of digits, whose features are their pixels."""
    values, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, validation, test = (Features(values[part].float(), labels[part]) for part in order.split(600)[:3])
    return train, validation, test


def scaled(train: Features, features: Features) -> torch.Tensor:
    values = train.values.double()
    return (features.values.double() - values.mean(0)) / values.var(0, correction=0).mean().sqrt()


@pytest.mark.parametrize("strength", [100.0, 1.0])
def test_it_is_that_of_scikit_learn(strength: float, digits: tuple[Features, Features, Features]) -> None:
    train, validation, test = digits
    found, sums = regression(train, validation, 10, [strength])
    theirs = LogisticRegression(C=1 / strength, max_iter=5000, tol=1e-6).fit(scaled(train, train), train.labels)
    own = test.values.double() @ found.weight.T + found.bias
    expected = torch.tensor(theirs.decision_function(scaled(train, test)))
    torch.testing.assert_close(own - own.mean(1, keepdim=True), expected, rtol=0, atol=5e-3)
    error = 100 * (1 - theirs.score(scaled(train, validation), validation.labels))
    assert sums.error_percent == pytest.approx(error, abs=0.5)


def test_the_strength_of_the_lowest_loss_on_validation_images_is_taken(
    digits: tuple[Features, Features, Features],
) -> None:
    train, validation, _ = digits
    found, sums = regression(train, validation, 10)
    losses = {one: regression(train, validation, 10, [one])[1].loss for one in (1000.0, 100.0, 10.0, 1.0)}
    assert found.strength == min(losses, key=losses.__getitem__)
    assert sums.loss == pytest.approx(min(losses.values()), rel=1e-3)
    assert found.on(validation) == sums


def test_two_classes_told_apart_by_one_feature_are_on_paper() -> None:
    """The loss log(1 + e^(−2w)) + s·w²/n of features ±1 and rows ±w has its minimum where n/s = w·(1 + e^(2w))."""
    features = Features(torch.tensor([[5.0], [3.0]] * 4), torch.tensor([0, 1] * 4))
    found, _ = regression(features, features, 2, [1.0])
    row = float(found.weight[0])
    assert torch.allclose(found.weight[0], -found.weight[1])
    assert row * (1 + math.exp(2 * row)) == pytest.approx(8, rel=1e-3)
    assert float((found.weight[0] - found.weight[1]) * 4 + found.bias[0] - found.bias[1]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("labels", [torch.tensor([0] * 7 + [2] * 3), torch.tensor([[0.7, 0.0, 0.3]] * 10)])
def test_features_that_say_nothing_give_the_shares_of_the_classes(labels: torch.Tensor) -> None:
    """An image may be of several classes; a class that has none of the n gets 1/n of what the others have."""
    alike = torch.randn(1, 192, generator=torch.Generator().manual_seed(0)).repeat(10, 1)  # whose mean is rounded
    features = Features(alike, labels)
    found, _ = regression(features, Features(alike[:1], torch.tensor([0])), 3, exact=False)
    logits = found.weight @ features.values[0].double() + found.bias
    assert logits.softmax(0).tolist() == pytest.approx([0.7 / 1.1, 0.1 / 1.1, 0.3 / 1.1], abs=1e-3)


def test_of_one_class_all_images_are() -> None:
    features = Features(torch.randn(10, 3), torch.ones(10, dtype=torch.int64))
    assert regression(features, features, 3)[1].error_percent == 0
