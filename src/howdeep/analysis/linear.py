"""A linear classifier on features: multinomial logistic regression, its strength of decay chosen on validation images.

    minimise  Σ_i −log softmax(W z_i + b)[y_i] + s/2 · ‖W‖²,    z = (x − mean) / spread of the training images

The spread is one number, the root of the mean variance: a network makes loud what it found to matter. With one of its
own per feature the quiet ones are as loud, and photos of 10 signs of hands had 10.5 instead of 8.5 % errors.

What is returned reads x itself: mean and spread are folded into weight and bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from howdeep.analysis.evaluation import Sums

STRENGTHS = (10_000.0, 1_000.0, 100.0, 10.0, 1.0)
"""What is tried, strongest first: each begins with the solution before it, which is near and has smaller weights."""
ITERATIONS, FLAT = 300, 1e-6
"""Of L-BFGS at most; and the largest derivative of the mean loss at which it is done."""


@dataclass(frozen=True)
class Features:
    """What a layer reads of some images."""

    values: Tensor
    """Shape (images, features)."""
    labels: Tensor
    """Class indices, int64 of shape (images,); of images to fit also shares of every class, float (images, classes)."""

    def to(self, device: torch.device | str) -> "Features":
        """Return them elsewhere."""
        return Features(self.values.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Linear:
    """A linear classifier that was fitted: logits = x · weightᵀ + bias."""

    weight: Tensor
    """float64 of shape (classes, features)."""
    bias: Tensor
    """float64 of shape (classes,)."""
    strength: float
    """Of the decay, s in the formula; scikit-learn's C is its reciprocal."""

    def on(self, features: Features) -> Sums:
        """Return how it does on images."""
        logits = F.linear(features.values.double(), self.weight, self.bias)
        wrong = int((logits.argmax(1) != features.labels).sum())
        return Sums(len(logits), wrong, F.cross_entropy(logits, features.labels, reduction="sum").item())


def regression(
    train: Features, validation: Features, classes: int, strengths: Sequence[float] = STRENGTHS
) -> tuple[Linear, Sums]:
    """Return the logistic regression of the best strength, and how it does on the validation images.

    The best has the lowest mean loss there: with few images it is a steadier guide than the number of errors. Past
    it, where the loss rises again, no weaker decay is tried.

    Args:
        train: What is fitted, of two images at least.
        validation: What the strength is chosen on.
        classes: Number of classes.
        strengths: What is tried, strongest first.
    """
    values = train.values.double()
    mean, spread = values.mean(0), values.var(0, correction=0).mean().sqrt().clamp_min(1e-30)
    values, labels = (values - mean) / spread, train.labels
    labels = labels.double() if labels.is_floating_point() else labels
    weight, bias = values.new_zeros(classes, values.shape[1]), values.new_zeros(classes)
    best: tuple[Linear, Sums] | None = None
    for strength in strengths:
        _minimise(values, labels, weight, bias, strength)
        folded = weight / spread
        found = Linear(folded, bias - folded @ mean, strength)
        sums = found.on(validation)
        if best is not None and sums.loss > best[1].loss:
            break
        best = found, sums
    assert best is not None, "at least one strength is tried"
    return best


def _minimise(values: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, strength: float) -> None:
    """Move weight and bias to the minimum of the loss, in place."""
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=FLAT, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(values, weight, bias), labels)
        value = value + strength / (2 * len(values)) * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    weight.requires_grad_(False)
    bias.requires_grad_(False)
