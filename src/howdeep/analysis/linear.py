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
from howdeep.analysis.minimum import minimum

STRENGTHS = (10_000.0, 1_000.0, 100.0, 10.0, 1.0, 0.1, 0.01)
"""What is tried, strongest first: each begins with the solution before it, which is near and has smaller weights."""
ROUGH, FLAT = 2e-6, 1e-11
"""Nats by which the loss could still fall where the search ends: answers are then the same but for a few that are ties,
or the logits too, to a few thousandths. The first takes a third of the time."""
NOTHING = 1e-12
"""Share of the largest variance below which a direction is rounding."""
NUMBERS, PRODUCTS = 2**26, 2**30
"""What a regression may hold, half a gigabyte, and multiply in a pass over it, half a second; of more images it takes
a sample, but ten of a class at least."""


def regression_images(width: int, classes: int) -> int:
    """Return of how many training images a regression takes a sample, if there are more."""
    return min(NUMBERS // width, max(PRODUCTS // (width * classes), 10 * classes))


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

    def logits(self, features: Features) -> Tensor:
        """Return the logits of images, float64 of shape (images, classes)."""
        return F.linear(features.values.double(), self.weight, self.bias)

    def wrong(self, features: Features) -> Tensor:
        """Return which images it gives another class, bool of shape (images,)."""
        return self.logits(features).argmax(1) != features.labels

    def on(self, features: Features) -> Sums:
        """Return how it does on images."""
        logits = self.logits(features)
        wrong = int((logits.argmax(1) != features.labels).sum())
        return Sums(len(logits), wrong, F.cross_entropy(logits, features.labels, reduction="sum").item())


def regression(
    train: Features,
    validation: Features,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    *,
    exact: bool = True,
) -> tuple[Linear, Sums]:
    """Return the logistic regression of the best strength, and how it does on the validation images.

    The best has the lowest mean loss there: with few images it is a steadier guide than the number of errors. Past
    it, where the loss rises again, no weaker decay is tried.

    Args:
        train: What is fitted, of two images at least.
        validation: What the strength is chosen on.
        classes: Number of classes.
        strengths: What is tried, strongest first.
        exact: Go on to the minimum with the best strength; else stop where answers hardly change any more.
    """
    # Half of the bytes are half of the time; of few images single precision would not tell variances from rounding.
    half = not exact and train.values.shape[1] <= len(train.values)
    values = train.values.to(torch.float32 if half else torch.float64)
    mean, spread = values.mean(0), values.var(0, correction=0).mean().sqrt().clamp_min(1e-30)
    along, directions, variances = _principal((values - mean) / spread)
    shares = train.labels if train.labels.is_floating_point() else F.one_hot(train.labels, classes)
    problem = _Problem(along, variances, shares.to(along))

    def found(rows: Tensor, strength: float, tolerance: float) -> tuple[Tensor, Linear, Sums]:
        rows = problem.solved(rows, strength, tolerance)
        weight = (rows[:, :-1] @ directions.T).double() / spread
        linear = Linear(weight, rows[:, -1].double() - weight @ mean.double(), strength)
        return rows, linear, linear.on(validation)

    rows, best = along.new_zeros(classes, len(variances) + 1), None
    for strength in strengths:
        one = found(rows if best is None else best[0], strength, ROUGH)
        if best is not None and one[2].loss > best[2].loss:
            break
        best = one
    assert best is not None, "at least one strength is tried"
    _, linear, sums = found(best[0], best[1].strength, FLAT) if exact else best
    return linear, sums


def _principal(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values along their principal directions, these directions in columns, and the variances along them.

    The decay is the same in any orthogonal basis, so that the minimum is too; and no weight leads out of the space of
    the images, so that there are never more directions than images.
    """
    images, features = values.shape
    if features <= images:
        variances, directions = torch.linalg.eigh(values.T @ values / images)
        return values @ directions, directions, variances.clamp_min(0)
    variances, places = torch.linalg.eigh(values @ values.T / images)
    seen = variances > NOTHING * variances.max()
    lengths = (images * variances[seen]).sqrt()
    return places[:, seen] * lengths, values.T @ places[:, seen] / lengths, variances[seen]


@dataclass(frozen=True)
class _Problem:
    """The loss of images, their features along principal directions; of every class a row: weights, then the bias."""

    along: Tensor
    """Shape (images, directions)."""
    variances: Tensor
    """Along them."""
    shares: Tensor
    """Of every class, shape (images, classes)."""

    def solved(self, rows: Tensor, strength: float, tolerance: float) -> Tensor:
        """Return the rows at the minimum, begun with others.

        The curvature along a direction is about its variance times the mean of p(1 − p), plus that of the decay. In
        units of its root L-BFGS needs a third of the iterations or less. The bias is a direction that does not decay.
        """
        images, classes = self.shares.shape
        one = self.variances.new_ones(1)
        decay = torch.cat([strength / images * torch.ones_like(self.variances), 0 * one])
        flatness = (classes - 1) / classes**2 * torch.cat([self.variances, one])
        units = (flatness + decay).clamp_min(1e-12).rsqrt()
        x, decay = torch.cat([self.along, one.expand(images, 1)], 1) * units, decay * units**2

        def loss(scaled: Tensor) -> tuple[float, Tensor]:
            logs = (x @ scaled.T).log_softmax(1)
            decayed = decay * scaled
            value = (decayed * scaled).sum() / 2 - (self.shares * logs).sum() / images
            return float(value), (logs.exp() - self.shares).T @ x / images + decayed

        return minimum(loss, rows / units, tolerance) * units
