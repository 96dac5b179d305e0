"""Which of two networks is kept: both answer the same images, and the better one stays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from howdeep.data import Batch
from howdeep.intervals import of_change


@dataclass(frozen=True)
class Answers:
    """What a network answers on some images."""

    wrong: Tensor
    """Which images it gets wrong, bool of shape (images,); scores that are not finite count as wrong."""
    loss: float
    """Mean cross-entropy in nats; infinite where a score is not finite."""

    @property
    def error_percent(self) -> float:
        """Share of wrong answers."""
        return 100 * float(self.wrong.double().mean())


def answers_from(scores: Sequence[Tensor], batches: Sequence[Batch]) -> Answers:
    """Return the answers that the scores of all batches are, each of shape (batch, classes)."""
    found, labels = torch.cat([one.float() for one in scores]), torch.cat([batch.labels for batch in batches])
    wrong = (found.argmax(1) != labels) | ~found.isfinite().all(1)
    loss = float(F.cross_entropy(found, labels))
    return Answers(wrong.cpu(), loss if math.isfinite(loss) else math.inf)


def is_better(new: Answers, old: Answers) -> bool:
    """Return whether a changed network answers better than the one before, on the same images.

    Image by image: it has fewer errors, and the 95 % interval of the paired difference leaves out 0; or it has no more
    errors and a lower mean cross-entropy. Else the old one stays. The same images choose and say how good the choice
    is, which flatters it a little: the test split, read once at the end, does not take part.
    """
    newly_wrong, newly_right = int((new.wrong & ~old.wrong).sum()), int((old.wrong & ~new.wrong).sum())
    _, high = of_change(newly_wrong, newly_right, len(old.wrong))
    return high < 0 or (newly_wrong <= newly_right and new.loss < old.loss)
