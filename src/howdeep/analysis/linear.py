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

STRENGTHS = (10_000.0, 1_000.0, 100.0, 10.0, 1.0, 0.1, 0.01)
"""What is tried, strongest first: each begins with the solution before it, which is near and has smaller weights."""
ITERATIONS = 300
"""Of L-BFGS at most."""
ROUGH, FLAT = 1e-4, 1e-6
"""Largest derivative at which it is done, in units in which the curvature is about one: answers are then the same, or
the logits too, to a few thousandths. The first takes a third of the time."""
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
        logits, wrong = self.logits(features), int(self.wrong(features).sum())
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
    values = train.values.double()
    mean, spread = values.mean(0), values.var(0, correction=0).mean().sqrt().clamp_min(1e-30)
    scaled = (values - mean) / spread
    # Half of the bytes are half of the time; of few images single precision would not tell variances from rounding.
    along, directions, variances = _principal(scaled if exact or values.shape[1] > len(values) else scaled.float())
    labels = train.labels.to(along.dtype) if train.labels.is_floating_point() else train.labels
    weight, bias = along.new_zeros(classes, len(variances)), along.new_zeros(classes)

    def found(strength: float, flat: float) -> tuple[Linear, Sums]:
        _minimise(along, variances, labels, weight, bias, strength, flat)
        folded = (weight @ directions.T).double() / spread
        linear = Linear(folded, bias.double() - folded @ mean, strength)
        return linear, linear.on(validation)

    best: tuple[Linear, Sums] | None = None
    for strength in strengths:
        start = weight.clone(), bias.clone()
        one = found(strength, ROUGH)
        if best is not None and one[1].loss > best[1].loss:
            weight, bias = start  # of the best
            break
        best = one
    assert best is not None, "at least one strength is tried"
    return found(best[0].strength, FLAT) if exact else best


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


def _minimise(
    values: Tensor, variances: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, strength: float, flat: float
) -> None:
    """Move weight and bias to the minimum of the loss, in place.

    The curvature along a direction is about its variance times the mean of p(1 − p), plus that of the decay. L-BFGS
    moves weights in units of its root, where it needs a third of the iterations or less.
    """
    classes, images = weight.shape[0], len(values)
    units = (variances * (classes - 1) / classes**2 + strength / images).rsqrt()
    scaled = (weight / units).requires_grad_(True)
    bias.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [scaled, bias], max_iter=ITERATIONS, tolerance_grad=flat, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        moved = scaled * units
        value = F.cross_entropy(F.linear(values, moved, bias), labels)
        value = value + strength / (2 * images) * moved.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    bias.requires_grad_(False)
    weight.copy_(scaled.detach() * units)
