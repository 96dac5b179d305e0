"""Which epoch is the best, and when what a run began with stays the best."""

import pytest

from howdeep.analysis.evaluation import Sums
from howdeep.training.saving import is_better


@pytest.mark.parametrize(
    ("epoch", "errors", "loss", "better"),
    [
        (0, 3, 0.1, False),
        (0, 2, 9.0, True),
        (0, 4, 0.1, False),
        (1, 3, 0.1, True),
        (1, 3, 1.0, False),
        (1, 2, 9.0, True),
    ],
)
def test_errors_decide_and_then_the_loss_but_not_against_the_start(
    epoch: int, errors: int, loss: float, better: bool
) -> None:
    """Three of 20 images were wrong before, with a mean loss of 1."""
    before = {"epoch": float(epoch), "error_percent": 15.0, "loss": 1.0}
    assert is_better(Sums(20, errors, 20 * loss), before) is better
