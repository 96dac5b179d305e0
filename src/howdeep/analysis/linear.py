"""A linear classifier on features: multinomial logistic regression, its strength of decay chosen on validation images.

    minimise  Σ_i −log softmax(W z_i + b)[y_i] + s/2 · ‖W‖²,    z = (x − mean) / spread of the training images

The spread is one number, the root of the mean variance: a network makes loud what it found to matter. With one of its
own per feature the quiet ones are as loud, and photos of 10 signs of hands had 10.5 instead of 8.5 % errors.

What is returned reads x itself: mean and spread are folded into weight and bias. A class that no image shows has a
logit of minus infinity at the minimum; it gets one that gives it 1/n on the least certain of the n images.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from howdeep.analysis.evaluation import Sums

STRENGTHS = (10_000.0, 1_000.0, 100.0, 10.0, 1.0, 0.1, 0.01)
"""What is tried, strongest first: each begins with the solution before it, which is near and has smaller weights."""
ROUGH, FLAT = 1e-4, 1e-6
"""Steepest slope of the mean loss where the search ends, in nats per unit of a weight: answers are then those of the
minimum but for a few that are ties, or the logits too, to a few thousandths."""
ITERATIONS = 50
"""Of Newton's method, at most; it takes five to ten."""
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

    scikit-learn's Newton method solves it, by conjugate gradients. Of 1,443 images, 1,280 features and 10 classes it
    takes 1.5 s for six strengths, as L-BFGS does; but L-BFGS ends far from the minimum where decay is weak and the
    loss is flat, or takes minutes.

    Args:
        train: What is fitted, of two images at least.
        validation: What the strength is chosen on.
        classes: Number of classes.
        strengths: What is tried, strongest first.
        exact: Go on to the minimum with the best strength; else stop where answers hardly change any more.
    """
    from sklearn.linear_model import LogisticRegression  # costs a second, and few commands fit anything

    values = train.values.to(torch.float64 if exact else torch.float32)  # half of the bytes are half of the time
    mean = values.mean(0)
    centred, rounding = values - mean, torch.finfo(values.dtype).eps * float(values.abs().max())
    spread = centred.square().mean().sqrt().clamp_min(max(rounding, 1e-30))
    x, labels, weights = centred / spread, train.labels, None
    if labels.is_floating_point():  # an image is of every class, and weighs its share
        pairs = train.labels.nonzero()
        some = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[: NUMBERS // x.shape[1]]
        of, labels = pairs[some].unbind(1)
        x, weights = x[of], train.labels[of, labels].numpy()
    seen, mean, spread = labels.unique(), mean.double(), spread.double()
    present = torch.isin(torch.arange(classes), seen)
    solver = LogisticRegression(solver="newton-cg", warm_start=True, max_iter=ITERATIONS)

    def found(strength: float, tolerance: float) -> tuple[Linear, Sums]:
        weight, bias = torch.zeros(classes, x.shape[1], dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
        if len(seen) > 1:
            # Of two classes it has the difference of their rows alone, so that the same decay weighs twice as much.
            two = len(seen) == 2
            solver.set_params(C=(1 + two) / strength, tol=tolerance)
            with warnings.catch_warnings(action="ignore"):  # of steps that rounding does not let become smaller
                solver.fit(x.numpy(), labels.numpy(), weights)
            rows, shifts = torch.tensor(solver.coef_).double(), torch.tensor(solver.intercept_).double()
            weight[seen] = (torch.cat([-rows, rows]) / 2 if two else rows) / spread
            bias[seen] = torch.cat([-shifts, shifts]) / 2 if two else shifts
        if len(seen) < classes:
            shown = F.linear(x, (weight[seen] * spread).to(x.dtype), bias[seen].to(x.dtype))
            bias[~present] = float(shown.logsumexp(1).min()) - math.log(len(train.labels))
        linear = Linear(weight, bias - weight @ mean, strength)
        return linear, linear.on(validation)

    with threadpool_limits(torch.get_num_threads(), "blas"):
        best = found(strengths[0], ROUGH)
        for strength in strengths[1:]:
            one = found(strength, ROUGH)
            if one[1].loss > best[1].loss:
                break
            best = one
        return found(best[0].strength, FLAT) if exact else best
